//! The links on the way to a path: what must be watched to notice that the path leads elsewhere.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links followed at most; the kernel's own bound (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory, without links in its path.
    pub(super) directory: PathBuf,
    /// The name in it.
    pub(super) name: OsString,
}

/// Every link on the way to `path`, then the end itself, or the first name that is not there.
///
/// # Errors
/// What the system says about a step, or that links lead in a circle.
pub(super) fn trail(path: &Path) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut at = PathBuf::from("/");
    let mut todo: VecDeque<OsString> = VecDeque::new();
    let absolute = std::path::absolute(path)?;
    push_front(&mut todo, &absolute);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let place = Place { directory: at.clone(), name };
        match fs::symlink_metadata(&next) {
            Ok(metadata) if metadata.is_symlink() => {
                if places.len() == MAX_LINKS {
                    return Err(io::Error::other("links lead in a circle"));
                }
                places.push(place);
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                push_front(&mut todo, &target);
            }
            Ok(_) if todo.is_empty() => places.push(place),
            Ok(_) => at = next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                places.push(place);
                return Ok(places);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(places)
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_every_link_and_the_end() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("rules/..2026_1")).unwrap();
        fs::write(root.join("rules/..2026_1/a.yaml"), "").unwrap();
        symlink("..2026_1", root.join("rules/..data")).unwrap();
        symlink("..data/a.yaml", root.join("rules/a.yaml")).unwrap();
        symlink(root.join("rules"), root.join("current")).unwrap();
        symlink("circle", root.join("circle")).unwrap();

        // Each: the path, and the places as `directory name`.
        let cases: [(&str, &[&str]); 5] = [
            ("rules", &[" rules"]),
            ("current/a.yaml", &[" current", "/rules a.yaml", "/rules ..data", "/rules/..2026_1 a.yaml"]),
            ("rules/../rules/a.yaml", &["/rules a.yaml", "/rules ..data", "/rules/..2026_1 a.yaml"]),
            ("rules/no/such", &["/rules no"]),
            ("none", &[" none"]),
        ];
        for (path, expected) in cases {
            let places = trail(&root.join(path)).unwrap();
            let shown = |place: &Place| {
                let directory = place.directory.to_str().unwrap().strip_prefix(root.to_str().unwrap()).unwrap();
                format!("{directory} {}", place.name.to_str().unwrap())
            };
            assert_eq!(places.iter().map(shown).collect::<Vec<_>>(), expected, "{path}");
        }
        assert!(trail(&root.join("circle")).is_err());
    }
}
