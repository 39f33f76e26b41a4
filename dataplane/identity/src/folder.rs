//! Certificates in files: `<folder>/<namespace>/<name>/tls.crt` and `tls.key`, as a volume of a `kubernetes.io/tls`
//! secret has them. They are read again when they change; one that has become unreadable stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_core::gateway::CertificateName;

use crate::certificate::{CHAIN_FILE, Certificate, KEY_FILE};
use crate::file::{Stamp, contents};

/// A folder with certificates.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    found: BTreeMap<CertificateName, Found>,
}

/// What was found of a certificate.
#[derive(Debug, Default)]
pub struct Found {
    /// The certificate as it was when last it could be read.
    pub certificate: Option<Arc<Certificate>>,
    /// Why it cannot be read as it is now.
    pub failure: Option<Arc<str>>,
    seen: Option<[Stamp; 2]>,
}

impl Folder {
    /// A folder, of which nothing has been read yet. It need not be there.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), found: BTreeMap::new() }
    }

    /// Reads those of these certificates that have changed since, and forgets all others. Whether anything is new.
    pub fn read<'n>(&mut self, wanted: impl IntoIterator<Item = &'n CertificateName>) -> bool {
        let wanted: BTreeSet<_> = wanted.into_iter().collect();
        let before = self.found.len();
        self.found.retain(|name, _| wanted.contains(name));
        let mut is_new = before != self.found.len();
        for name in wanted {
            let folder = self.path.join(&*name.namespace).join(&*name.name);
            is_new |= self.found.entry(name.clone()).or_default().look(&folder);
        }
        is_new
    }

    /// What was found of a certificate when it was last looked for.
    pub fn get(&self, name: &CertificateName) -> Option<&Found> {
        self.found.get(name)
    }

    /// All that was looked for, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&CertificateName, &Found)> {
        self.found.iter()
    }
}

impl Found {
    /// Reads a certificate if it has changed. Whether it has.
    fn look(&mut self, folder: &Path) -> bool {
        let paths = [CHAIN_FILE, KEY_FILE].map(|file| folder.join(file));
        let stamps = || paths.each_ref().map(|path| Stamp::of(path));
        let before = stamps();
        if self.seen == Some(before) {
            return false;
        }
        let read = read(&paths);
        if stamps() != before {
            // They are being written: the next look finds them whole.
            return false;
        }
        self.seen = Some(before);
        match read {
            Ok(certificate) => *self = Self { certificate: Some(Arc::new(certificate)), failure: None, ..*self },
            Err(failure) => self.failure = Some(failure.into()),
        }
        true
    }
}

fn read(paths: &[PathBuf; 2]) -> Result<Certificate, String> {
    let [chain, key] =
        paths.each_ref().map(|path| contents(path).map_err(|error| format!("{}: {error}", path.display())));
    let folder = paths[0].parent().unwrap_or(Path::new("")).display();
    Certificate::read(&chain?, &key?).map_err(|error| format!("{folder}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::server::testing::Made;

    fn write(folder: &Path, made: &Made) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(CHAIN_FILE), &made.chain).unwrap();
        fs::write(folder.join(KEY_FILE), &made.key).unwrap();
    }

    fn name(name: &str) -> CertificateName {
        CertificateName { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn what_changes_is_read_again_and_what_breaks_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("default/shop");
        let mut folder = Folder::new(dir.path());
        let wanted = [name("shop")];
        let state = |folder: &Folder| {
            let found = folder.get(&wanted[0]).unwrap();
            let is_for = |name: &str| found.certificate.as_ref().map(|one| one.is_for(name));
            (is_for("one"), found.failure.as_ref().map(ToString::to_string))
        };
        assert!(folder.read(&wanted));
        let (is_one, failure) = state(&folder);
        assert!(is_one.is_none() && failure.as_ref().unwrap().contains("shop/tls.crt: No such file"), "{failure:?}");
        assert!(!folder.read(&wanted), "nothing is new");

        write(&path, &Made::new(&["one"]));
        assert!(folder.read(&wanted));
        assert_eq!(state(&folder), (Some(true), None));

        // Half of it is new: of the other half there is one that does not fit.
        fs::write(path.join(KEY_FILE), Made::new(&["two"]).key).unwrap();
        assert!(folder.read(&wanted));
        let (is_one, failure) = state(&folder);
        assert_eq!(is_one, Some(true));
        assert!(failure.unwrap().contains("default/shop: the key cannot be used"));

        fs::write(path.join(KEY_FILE), "x".repeat(300_000)).unwrap();
        assert!(folder.read(&wanted));
        assert!(state(&folder).1.unwrap().ends_with("tls.key: has more than 262144 bytes"));
        assert!(folder.read(&[]) && folder.get(&wanted[0]).is_none());
    }

    #[test]
    fn a_link_that_is_swapped_brings_both_files_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("default/shop");
        fs::create_dir_all(&path).unwrap();
        let swap = |version: &str| {
            write(&path.join(version), &Made::new(&[version]));
            std::os::unix::fs::symlink(version, path.join("..next")).unwrap();
            fs::rename(path.join("..next"), path.join("..data")).unwrap();
        };
        swap("v1");
        for file in [CHAIN_FILE, KEY_FILE] {
            std::os::unix::fs::symlink(format!("..data/{file}"), path.join(file)).unwrap();
        }
        let mut folder = Folder::new(dir.path());
        for version in ["v1", "v2"] {
            swap(version);
            assert!(folder.read(&[name("shop")]));
            assert!(folder.get(&name("shop")).unwrap().certificate.as_ref().unwrap().is_for(version));
        }
    }
}
