//! Files that are mount points: what a container runtime makes of a single mounted file or of a `subPath` volume.
//!
//! Such a file stays the inode that it was when it was mounted. A ConfigMap's new content, and any save that renames,
//! is another inode, so that the change never arrives (kubernetes#50345). Nothing can be done about it from inside;
//! it must be said.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use weir_config::{Diagnostic, Severity};

use super::read::Set;

/// Where the kernel tells the mounts that this thread sees (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// A warning for every file of the folder that is a mount point.
pub(super) fn warnings(set: &Set) -> Vec<Diagnostic> {
    let mounts = mount_points(&fs::read_to_string(MOUNTS).unwrap_or_default());
    let is_mount = |path: &Path| path.canonicalize().is_ok_and(|real| mounts.contains(&real));
    let mounted = set.files().filter(|file| is_mount(&file.path));
    mounted.map(|file| warning(&file.path)).collect()
}

fn warning(path: &Path) -> Diagnostic {
    let message = "is mounted as a single file: a file that replaces it outside never arrives here. Mount its folder \
                   instead (in Kubernetes: a volume without subPath)";
    Diagnostic { severity: Severity::Warning, file: Some(path.to_owned()), ..Diagnostic::error(message) }
}

/// The mount points, the fifth field of each line.
fn mount_points(mountinfo: &str) -> BTreeSet<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => (bytes.push(byte), rest = &after[3..]).1,
            None => (bytes.push(*first), rest = after).1,
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    30 22 8:1 /x /etc/rules\\040new/a.yaml ro shared:1 - ext4 /dev/sda1 rw\n\
                    31 22 8:1 /y /back\\134slash\\ rw - ext4 x rw\nshort line\n";
        let expected = ["/", "/back\\slash\\", "/etc/rules new/a.yaml"];
        assert_eq!(mount_points(text), expected.iter().map(PathBuf::from).collect());
    }
}
