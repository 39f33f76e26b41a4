//! What a node leaves in the kernel, seen with the tools that an administrator has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir_lab::{Layout, Place, require, run};

use crate::until;

const LIMIT: Duration = Duration::from_secs(60);

/// The links of a node and the programs behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    /// Names of the pins of links.
    pub pins: BTreeSet<String>,
    /// Ids of links.
    pub links: BTreeSet<u64>,
    /// Id and name of programs.
    pub programs: BTreeSet<(u64, String)>,
}

impl Footprint {
    /// Reads what is pinned below a node's directory.
    #[track_caller]
    pub fn read(pins: &Path) -> Self {
        let all = bpftool(&["prog", "show"]);
        let name_of = |id: u64| {
            let found = all.as_array().unwrap().iter().find(|program| program["id"] == id);
            found.and_then(|program| program["name"].as_str()).unwrap_or_default().to_owned()
        };
        let mut footprint = Self { pins: BTreeSet::new(), links: BTreeSet::new(), programs: BTreeSet::new() };
        for pin in pinned_links(pins) {
            let link = bpftool(&["link", "show", "pinned", pin.to_str().unwrap()]);
            let link = link.as_array().and_then(|links| links.first()).cloned().unwrap_or(link);
            let program = link["prog_id"].as_u64().unwrap();
            footprint.links.insert(link["id"].as_u64().unwrap());
            footprint.programs.insert((program, name_of(program)));
            footprint.pins.insert(pin.file_name().unwrap().to_string_lossy().into_owned());
        }
        footprint
    }

    /// Waits until none of it is loaded any more: the kernel frees programs a moment after their last user is gone.
    #[track_caller]
    pub fn await_gone(&self) {
        until("links and programs are gone", || {
            let ids = |kind: &str| -> Result<BTreeSet<u64>, String> {
                let all = try_bpftool(&[kind, "show"])?;
                Ok(all.as_array().into_iter().flatten().filter_map(|one| one["id"].as_u64()).collect())
            };
            let links: Vec<_> = self.links.intersection(&ids("link")?).copied().collect();
            let loaded = ids("prog")?;
            let programs: Vec<_> = self.programs.iter().filter(|(id, _)| loaded.contains(id)).collect();
            if links.is_empty() && programs.is_empty() {
                return Ok(());
            }
            Err(format!("links {links:?}, programs {programs:?}"))
        });
    }
}

/// Names of the pinned links of a node.
pub(crate) fn pinned_names(pins: &Path) -> Vec<String> {
    let names = pinned_links(pins);
    names.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

/// `<pins>/v<ABI>/links/*`.
fn pinned_links(pins: &Path) -> Vec<PathBuf> {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(pins.to_owned()).flat_map(|version| entries(version.join("links"))).collect()
}

#[track_caller]
fn bpftool(arguments: &[&str]) -> Value {
    try_bpftool(arguments).unwrap()
}

/// An error is no surprise where links end at this moment: the tool meets one that is listed and gone.
fn try_bpftool(arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(require("bpftool").unwrap());
    command.arg("-j").args(arguments);
    let output = run(command, b"", LIMIT).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("bpftool {arguments:?}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("bpftool {arguments:?}: {error}: {text}"))
}

/// Rules, routes and packet filter of the node's namespace, as text that is equal when they are.
#[track_caller]
pub fn network_state(lab: &Layout) -> String {
    let commands: [&[&str]; 5] = [
        &["ip", "-4", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "-4", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["nft", "list", "ruleset"],
    ];
    commands.iter().fold(String::new(), |all, command| all + &command.join(" ") + ":\n" + &told(lab, "node", command))
}

/// Standard output of a program that must succeed in a place.
#[track_caller]
pub(crate) fn told(lab: &Layout, place: impl Into<Place>, command: &[&str]) -> String {
    let program = require(command[0]).unwrap();
    let words: Vec<&str> = std::iter::once(program.to_str().unwrap()).chain(command[1..].iter().copied()).collect();
    let output = lab.run(place, &words, LIMIT).unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
