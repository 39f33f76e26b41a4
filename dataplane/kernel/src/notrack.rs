//! Keeps connection tracking away from steered packets, where someone translates destinations:
//! translated, a connection of the proxy would be reset. An nft table of our own, nothing else.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use weir_ebpf_common::{MARK_MASK, MARK_PROXY, MARK_STEER};

use crate::{KernelError, KernelSettings, Notrack, error::file};

const TABLE: &str = "inet weir";

/// Sets or removes the table, as the setting and the node say.
pub(crate) fn set(settings: &KernelSettings) -> Result<(), KernelError> {
    if is_wanted(settings) { nft(&script(&settings.bridge)) } else { remove() }
}

/// As [`set`], but leaves alone what is as it should be. Returns whether it was not.
pub(crate) fn restore(settings: &KernelSettings) -> Result<bool, KernelError> {
    let is_as_it_should_be = is_complete(settings) == is_wanted(settings);
    if !is_as_it_should_be {
        set(settings)?;
    }
    Ok(!is_as_it_should_be)
}

fn is_wanted(settings: &KernelSettings) -> bool {
    match settings.notrack {
        Notrack::On => true,
        Notrack::Off => false,
        Notrack::Auto => translates(),
    }
}

/// Whether the table has both rules, the second for this bridge.
fn is_complete(settings: &KernelSettings) -> bool {
    list(&["list", "table", "inet", "weir"]).is_some_and(|table| {
        let rules = table.lines().filter(|line| line.trim_end().ends_with("notrack")).count();
        rules == 2 && table.contains(&format!("oifname \"{}\"", settings.bridge))
    })
}

/// Removes the table, if there is one.
pub(crate) fn remove() -> Result<(), KernelError> {
    if tables().is_some_and(|tables| tables.lines().any(|line| line.trim() == format!("table {TABLE}"))) {
        nft(&format!("delete table {TABLE}\n"))?;
    }
    Ok(())
}

/// Whether anything here translates destinations: a chain for it in nft (kube-proxy, also through
/// iptables-nft), or the legacy table.
fn translates() -> bool {
    let in_nft = list(&["list", "chains"])
        .is_some_and(|chains| chains.lines().any(|line| line.contains("type nat hook prerouting")));
    let in_legacy = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|names| names.lines().any(|name| name == "nat"));
    in_nft || in_legacy
}

fn script(bridge: &str) -> String {
    format!(
        "table {TABLE} {{}}
delete table {TABLE}
table {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    meta mark & {MARK_MASK:#x} == {MARK_STEER:#x} notrack
  }}
  chain output {{
    type filter hook output priority raw; policy accept;
    oifname \"{bridge}\" meta mark & {MARK_MASK:#x} == {MARK_PROXY:#x} notrack
  }}
}}
"
    )
}

fn tables() -> Option<String> {
    list(&["list", "tables"])
}

fn list(arguments: &[&str]) -> Option<String> {
    let output = Command::new("nft").args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn nft(script: &str) -> Result<(), KernelError> {
    let started = file("starting the command", "nft");
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(started)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(file("writing to the command", "nft"))?;
    }
    let output = child.wait_with_output().map_err(file("waiting for the command", "nft"))?;
    if !output.status.success() {
        return Err(KernelError::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}
