//! A disk of its own, which can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Bytes of the disk.
const SIZE: u64 = 8 << 20;

/// A tmpfs, mounted in a mount namespace of the calling thread: nobody else sees it, and it goes with the thread.
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut filler = File::create(self.root.join("filler")).unwrap();
        let block = [1; 4096];
        while filler.write_all(&block).is_ok() {}
    }

    pub fn free(&self) {
        fs::remove_file(self.root.join("filler")).unwrap();
    }
}

/// Runs `action` on a thread that has such a disk. Needs root.
pub fn on_own_disk(action: impl FnOnce(&Disk) + Send) {
    let scratch = tempfile::Builder::new().prefix("weir-disk").tempdir().unwrap();
    let root: &Path = scratch.path();
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("root, to make a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let size = format!("size={SIZE}");
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        action(&Disk { root: root.to_owned() });
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap();
}
