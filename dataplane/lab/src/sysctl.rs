//! Kernel settings of one network namespace. `/proc/sys/net` shows those of the thread that
//! opens it, so every access happens on a thread inside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::inside::enter;
use crate::layout::{Layout, Namespace, Place};
use crate::spec::Tuning;

const ROOT: &str = "/proc/sys";

impl Layout {
    /// Sets a sysctl such as `net.ipv4.tcp_tw_reuse` in a place's namespace.
    ///
    /// # Errors
    /// When the key does not exist, is not one of `net.`, or refuses the value.
    pub fn set_sysctl(&self, place: impl Into<Place>, key: &str, value: &str) -> Result<(), LabError> {
        set_all(self.namespace(place)?, &[(key, value)])
    }

    /// Reads a sysctl of a place's namespace.
    ///
    /// # Errors
    /// As [`Layout::set_sysctl`].
    pub fn sysctl(&self, place: impl Into<Place>, key: &str) -> Result<String, LabError> {
        let path = path_of(key)?;
        let text = enter(self.namespace(place)?, || fs::read_to_string(&path))?;
        let text = text.map_err(LabError::io(format!("read {}", path.display())))?;
        Ok(text.trim().to_owned())
    }

    /// Changes the node's packet filter settings; what is `None` stays.
    ///
    /// # Errors
    /// When a setting does not exist here, such as the bridge's without `br_netfilter`.
    pub fn tune(&self, tuning: Tuning) -> Result<(), LabError> {
        if let Some(mode) = tuning.rp_filter {
            self.set_on_interfaces("rp_filter", &mode.to_string())?;
        }
        if let Some(on) = tuning.src_valid_mark {
            self.set_on_interfaces("src_valid_mark", digit(on))?;
        }
        match tuning.bridge_nf_call {
            None => Ok(()),
            Some(_) if !has_br_netfilter() => Err(LabError::NoBrNetfilter { why: "bridge-nf-call" }),
            Some(on) => {
                let keys = ["iptables", "ip6tables"].map(|t| format!("net.bridge.bridge-nf-call-{t}"));
                set_all(&self.node, &keys.each_ref().map(|key| (key.as_str(), digit(on))))
            }
        }
    }

    /// The kernel takes the maximum of `all` and the interface, so each one is set, and
    /// `default` for those to come.
    fn set_on_interfaces(&self, name: &str, value: &str) -> Result<(), LabError> {
        let set = || -> io::Result<()> {
            for entry in fs::read_dir(Path::new(ROOT).join("net/ipv4/conf"))? {
                fs::write(entry?.path().join(name), value)?;
            }
            Ok(())
        };
        enter(&self.node, set)?.map_err(LabError::io(format!("set {name} = {value}")))
    }
}

/// Whether bridged packets can be made to pass netfilter on this machine.
pub(crate) fn has_br_netfilter() -> bool {
    Path::new(ROOT).join("net/bridge").exists()
}

pub(crate) fn has_ipv6() -> bool {
    Path::new(ROOT).join("net/ipv6").exists()
}

/// Sets several keys with one visit.
pub(crate) fn set_all(namespace: &Namespace, pairs: &[(&str, &str)]) -> Result<(), LabError> {
    let mut writes = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        writes.push((path_of(key)?, value));
    }
    enter(namespace, || {
        for (path, value) in &writes {
            fs::write(path, value).map_err(LabError::io(format!("set {} = {value}", path.display())))?;
        }
        Ok(())
    })?
}

/// Only keys below `net.` belong to a namespace; anything else would change the machine.
fn path_of(key: &str) -> Result<PathBuf, LabError> {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !key.starts_with("net.") || key.contains("..") || !key.chars().all(ok) {
        return Err(LabError::BadSpec(format!("`{key}` is not a sysctl of a network namespace (net....)")));
    }
    Ok(Path::new(ROOT).join(key.replace('.', "/")))
}

fn digit(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_the_namespace() {
        let path = path_of("net.ipv4.conf.all.rp_filter").unwrap();
        assert_eq!(path, Path::new("/proc/sys/net/ipv4/conf/all/rp_filter"));
        for key in ["kernel.panic", "net...kernel.panic", "net./../x", "net"] {
            assert!(path_of(key).is_err(), "{key}");
        }
    }
}
