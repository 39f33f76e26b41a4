//! Compiled modules that are kept on disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_core::name::ObjectName;
use weir_core::plugin::{self, ModuleLocation, ModuleSource};
use weir_plugin_host::{Loader, Part, Plugin};

use crate::support::text;

/// A module, and where what is compiled of it is kept.
struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.wasm"), text(r#"(memory (export "memory") 1)"#)).unwrap();
        Self { folder }
    }

    fn compiled(&self) -> PathBuf {
        self.folder.path().join("state/compiled")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.compiled()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Whether a loader that was never used before takes the module from the cache.
    fn is_cached(&self) -> bool {
        let mut loader = Loader::new(Some(self.compiled()));
        let wanted = wanted();
        loader.load(&wanted, Part::Plugin, &fs::read(self.folder.path().join("a.wasm")).unwrap()).unwrap();
        wanted.loaded.get::<Plugin>().unwrap().module().origin().is_cached
    }
}

fn wanted() -> plugin::Plugin {
    let module = ModuleSource { from: ModuleLocation::File("a.wasm".into()), sha256: None };
    plugin::Plugin::new(ObjectName::new("Plugin", "default", "a"), module)
}

#[test]
fn a_module_is_compiled_once_for_all_starts_of_the_node() {
    let case = Case::new();
    assert_eq!([case.is_cached(), case.is_cached(), case.is_cached()], [false, true, true]);
    // Another module is another.
    fs::write(case.folder.path().join("a.wasm"), text(r#"(memory (export "memory") 2)"#)).unwrap();
    assert_eq!([case.is_cached(), case.is_cached(), case.files().len() == 2], [false, true, true]);
}

/// What others could have written is not run, and neither is what the disk has lost.
#[test]
fn only_what_weir_wrote_is_loaded() {
    let spoilt: [(&str, fn(&Path)); 6] = [
        ("a piece is lost", |file| {
            let all = fs::read(file).unwrap();
            fs::write(file, &all[..all.len() / 2]).unwrap();
        }),
        ("a bit is another", |file| {
            let mut all = fs::read(file).unwrap();
            let middle = all.len() / 2;
            all[middle] ^= 1;
            fs::write(file, all).unwrap();
        }),
        ("it is of another version", |file| {
            let (name, bytes) = (file.file_name().unwrap().to_str().unwrap(), b"not what wasmtime writes");
            let name = format!("{}{:08x}.cwasm", &name[..name.len() - 14], crc32fast::hash(bytes));
            fs::remove_file(file).unwrap();
            fs::write(file.with_file_name(&name), bytes).unwrap();
            fs::set_permissions(file.with_file_name(name), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("others may write it", |file| fs::set_permissions(file, fs::Permissions::from_mode(0o622)).unwrap()),
        ("it is somebody else's", |file| std::os::unix::fs::chown(file, Some(65534), None).unwrap()),
        ("it is somewhere else", |file| {
            let elsewhere = file.parent().unwrap().parent().unwrap().join("elsewhere");
            fs::rename(file, &elsewhere).unwrap();
            symlink(elsewhere, file).unwrap();
        }),
    ];
    for (name, spoil) in spoilt {
        let case = Case::new();
        assert!(!case.is_cached() && case.is_cached(), "{name}");
        let [file] = &case.files()[..] else { panic!("{:?}", case.files()) };
        spoil(file);
        assert!(!case.is_cached(), "{name}");
        assert!(case.is_cached() && case.files().len() == 1, "{name}: it is not written anew");
    }
}

/// A folder that others can write to is none to load code from; the node runs without it.
#[test]
fn a_folder_of_others_is_not_used() {
    for spoil in [
        (|folder| fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap()) as fn(&Path),
        |folder| std::os::unix::fs::chown(folder, Some(65534), None).unwrap(),
        |folder| {
            fs::rename(folder, folder.with_file_name("other")).unwrap();
            symlink("other", folder).unwrap();
        },
    ] {
        let case = Case::new();
        assert!(!case.is_cached() && case.is_cached());
        spoil(&case.compiled());
        assert_eq!([case.is_cached(), case.is_cached()], [false, false]);
    }
}
