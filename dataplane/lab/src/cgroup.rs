//! The cgroup v2 directories of a lab: one per pod, by which connect-time programs know a
//! pod's processes, and by which whatever still runs inside is found and killed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{LabError, tool};

/// SIGKILL ends a process at once unless it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Where cgroup v2 is mounted. On machines with both versions it is beside the others.
pub(crate) fn root() -> Result<PathBuf, LabError> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(LabError::io("read /proc/mounts"))?;
    mount_of(&mounts).ok_or(LabError::NoCgroup2)
}

fn mount_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, path, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

pub(crate) fn create(path: &Path) -> Result<(), LabError> {
    fs::create_dir_all(path).map_err(LabError::io(format!("create the cgroup {}", path.display())))
}

/// Kills what runs in a cgroup and below, waits until it is gone, removes the directories.
/// A cgroup that does not exist is removed already.
pub(crate) fn remove(path: &Path) -> Result<(), LabError> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(LabError::io(format!("kill {}", path.display()))(e)),
        Ok(()) => {}
    }
    // Until the last process has left, removing the directory fails with EBUSY.
    tool::until(KILL_LIMIT, || !is_populated(path));
    remove_tree(path).map_err(LabError::io(format!("remove the cgroup {}", path.display())))
}

fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let cases = [
            (hybrid, Some("/sys/fs/cgroup/unified")),
            ("none /mnt/cg cgroup2 rw 0 0\n", Some("/mnt/cg")),
            ("cgroup2 /x tmpfs rw 0 0\n", None),
            ("", None),
        ];
        for (mounts, expected) in cases {
            assert_eq!(mount_of(mounts), expected.map(PathBuf::from));
        }
    }
}
