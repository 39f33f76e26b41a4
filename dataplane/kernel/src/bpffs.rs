//! The node's directory in the BPF file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use weir_ebpf_common::ABI_VERSION;

use crate::{KernelError, KernelSettings, error::file, links::names};

/// `<bpffs>/weir/<node>` and what is in it.
pub(crate) struct Directory {
    node: PathBuf,
}

impl Directory {
    /// Makes the directory, mounting the file system if it is not.
    pub(crate) fn open(settings: &KernelSettings) -> Result<Self, KernelError> {
        let root = &settings.bpffs;
        fs::create_dir_all(root).map_err(file("creating", root))?;
        let kind = statfs(root).map_err(|error| file("looking at", root)(error.into()))?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("bpf"), root, Some("bpf"), flags, None::<&str>)
                .map_err(|error| file("mounting a BPF file system at", root)(error.into()))?;
        }
        let directory = Self { node: root.join("weir").join(pin_name(&settings.node)?) };
        for path in [directory.maps(), directory.links()] {
            fs::create_dir_all(&path).map_err(file("creating", &path))?;
        }
        Ok(directory)
    }

    fn version(&self) -> PathBuf {
        self.node.join(format!("v{ABI_VERSION}"))
    }

    pub(crate) fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// Removes what other ABI versions left: their programs are detached with their pins.
    pub(crate) fn remove_other_versions(&self) -> Result<(), KernelError> {
        let own = format!("v{ABI_VERSION}");
        for name in names(&self.node).map_err(file("listing", &self.node))? {
            if name != own {
                remove(&self.node.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes everything of this node.
    pub(crate) fn remove(&self) -> Result<(), KernelError> {
        remove(&self.node)?;
        // The parent is shared by the nodes of this machine; the last one removes it.
        if let Some(parent) = self.node.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    // Links first: a program without its maps' pins still works, a pin without its program is
    // only memory.
    match fs::remove_dir_all(path.join("links")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("removing", path)(error)),
        _ => {}
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("removing", path)(error)),
        _ => Ok(()),
    }
}

/// The BPF file system reserves names with dots; node names cannot contain underscores, so the
/// replacement stays unique.
fn pin_name(node: &str) -> Result<String, KernelError> {
    let fits = !node.is_empty()
        && node.len() <= 63
        && node.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !fits {
        let problem = format!("{node:?} is not a node name: letters, digits, - and ., at most 63");
        return Err(KernelError::Setting { name: "node", problem });
    }
    Ok(node.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::pin_name;

    #[test]
    fn node_names_become_pin_names() {
        for (node, expected) in [
            ("edge-1", Some("edge-1")),
            ("edge.example.org", Some("edge_example_org")),
            ("", None),
            ("../other", None),
            ("a_b", None),
        ] {
            assert_eq!(pin_name(node).ok().as_deref(), expected, "{node}");
        }
        assert!(pin_name(&"x".repeat(64)).is_err());
    }
}
