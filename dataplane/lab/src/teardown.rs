//! Removing a lab, whole or half built, by nothing but its id: every name begins with it.
//! First what runs inside is killed, then cgroups and namespaces go, the record last.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::plan::{self, NETNS_DIR};
use crate::{LabError, cgroup, registry, tool};

/// SIGKILL ends a process at once unless it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Removes everything of a lab. What resists does not keep the rest from being removed.
pub(crate) fn remove(id: &str) -> Result<(), LabError> {
    let mut left = Vec::new();
    let mut note = |result: Result<(), LabError>| {
        if let Err(e) = result {
            left.push(e.to_string());
        }
    };
    for path in cgroups(id) {
        note(cgroup::remove(&path));
    }
    let names = namespaces(id);
    note(evict(&names));
    note(delete(&names));
    if left.is_empty() {
        // The record goes last: as long as anything is left, a sweep can find it.
        return registry::forget(id);
    }
    Err(LabError::Leftovers(left))
}

/// Kills what runs in these namespaces and removes them.
pub(crate) fn remove_namespaces(names: &[String]) -> Result<(), LabError> {
    evict(names)?;
    delete(names)
}

/// The namespaces and cgroups that bear this id.
pub(crate) fn things_of(id: &str) -> Vec<String> {
    let groups = cgroups(id).into_iter().map(|path| path.display().to_string());
    namespaces(id).into_iter().chain(groups).collect()
}

fn namespaces(id: &str) -> Vec<String> {
    names_in(Path::new(NETNS_DIR), &format!("weir-{id}-"))
}

fn cgroups(id: &str) -> Vec<PathBuf> {
    let Ok(root) = cgroup::root() else {
        return Vec::new();
    };
    let mut names = names_in(&root, &format!("weir-{id}-"));
    names.push(format!("weir-{id}"));
    let paths = names.into_iter().map(|name| root.join(name));
    paths.filter(|path| path.exists()).collect()
}

fn names_in(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
}

/// Kills processes that entered a namespace without its cgroup, such as a shell started by
/// `nsenter`: as long as one lives, so do the namespace and its links.
fn evict(names: &[String]) -> Result<(), LabError> {
    let paths = names.iter().map(|name| Path::new(NETNS_DIR).join(name));
    let inodes: Vec<_> = paths.filter_map(|path| identity(&path)).collect();
    if inodes.is_empty() {
        return Ok(());
    }
    let inside = || residents(&inodes);
    let gone = tool::until(KILL_LIMIT, || {
        let pids = inside();
        for pid in &pids {
            // It may be gone already, which is what is wanted.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        pids.is_empty()
    });
    if gone {
        return Ok(());
    }
    let pids: Vec<_> = inside().iter().map(Pid::to_string).collect();
    Err(LabError::Leftovers(vec![format!("processes {}", pids.join(", "))]))
}

fn residents(inodes: &[(u64, u64)]) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw)
        .filter(|pid| *pid != getpid())
        .filter(|pid| {
            let net = identity(Path::new(&format!("/proc/{pid}/ns/net")));
            net.is_some_and(|net| inodes.contains(&net))
        })
        .collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

fn delete(names: &[String]) -> Result<(), LabError> {
    if names.is_empty() {
        return Ok(());
    }
    let script = plan::lines(names.iter().map(|name| format!("netns del {name}")));
    let deleted = tool::ip_batch(None, &script);
    let exists = |name: &&String| Path::new(NETNS_DIR).join(name).exists();
    if deleted.is_ok() || !names.iter().any(|name| exists(&name)) {
        return Ok(());
    }
    // The batch stops at the first one that another sweep removed meanwhile.
    for name in names.iter().filter(exists) {
        let one = tool::ip_batch(None, &format!("netns del {name}\n"));
        if exists(&name) {
            one?;
        }
    }
    Ok(())
}
