//! The story of the lab: what was built, and one step after the other with what happened and why.

pub(super) mod ask;
mod steps;

use std::fmt::Write as _;

use super::running::Running;
use super::terrain;
use crate::command::{print, this_program};
use crate::interrupt::Interrupt;

/// What a step found.
pub(crate) struct Told {
    /// What the user could type to see the same.
    command: String,
    /// What happened.
    saw: String,
    /// Why.
    why: String,
}

/// How a story went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// Every step as it must.
    Passed,
    /// Not every step.
    Failed,
    /// Every step so far, but the user did not want to hear all.
    Interrupted,
}

/// Tells the whole story, and names the steps that went wrong.
pub(crate) fn tell(running: &Running, interrupted: &Interrupt) -> anyhow::Result<Story> {
    print(&built(running))?;
    let mut failed = Vec::new();
    for (number, (title, step)) in steps::ALL.iter().enumerate() {
        if interrupted.is_set() {
            return Ok(if failed.is_empty() { Story::Interrupted } else { Story::Failed });
        }
        print(&format!("\n{:>2}. {title}\n", number + 1))?;
        match step(running) {
            Ok(Told { command, saw, why }) => print(&format!("    $ {command}\n    ok    {saw}\n    why   {why}\n"))?,
            Err(error) => {
                failed.push(format!("{:>2}. {title}", number + 1));
                print(&format!("    FAILED  {error:#}\n"))?;
            }
        }
    }
    let total = steps::ALL.len();
    if failed.is_empty() {
        print(&format!("\nall {total} steps as they must be\n"))?;
        return Ok(Story::Passed);
    }
    let (count, names) = (failed.len(), failed.join("\n"));
    print(&format!("\nthe node's last words:\n{}\n\n{count} of {total} steps failed:\n{names}\n", running.log_tail()))?;
    Ok(Story::Failed)
}

/// What was built, as a table.
pub(super) fn built(running: &Running) -> String {
    let mut text = format!("lab {}: a node with pods, in network namespaces of this machine\n\n", running.lab.id);
    let node = running.lab.node();
    let _ =
        writeln!(text, "  {:<24}{:<16}{:<14}bridge cni0, eBPF programs, weir node", "node", node.ip4, text6(node.ip6));
    for pod in running.lab.pods() {
        let role = match (pod.name(), pod.spec.in_mesh) {
            ("client", _) => "sends requests".to_owned(),
            (_, false) => "outside the mesh".to_owned(),
            _ => format!("server {} on 8080", pod.version().unwrap_or("v1")),
        };
        let _ = writeln!(text, "  {:<24}{:<16}{:<14}{role}", pod.name(), pod.ip4(), text6(pod.ip6()));
    }
    let services = [
        ("vehicle-recognition:80", terrain::RECOGNITION, "-> vehicle-recognition-v1"),
        ("service-canary:8080", terrain::CANARY, "-> vehicle-recognition-v2"),
        ("plain.plain:80", terrain::PLAIN, "-> plain, in a namespace of its own"),
    ];
    for (name, [v4, v6], about) in services {
        let _ = writeln!(text, "  {name:<24}{v4:<16}{v6:<14}{about}");
    }
    let _ = writeln!(text, "\n  rules   {}", running.rules().display());
    text
}

fn text6(address: Option<std::net::Ipv6Addr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// How to go on.
pub(crate) fn invitation(running: &Running) -> String {
    let (vip, rules, folder) = (terrain::RECOGNITION[0], running.rules(), running.folder.display());
    let (exec, weir) = (&running.exec, this_program());
    // A program named by a relative path is found from here only.
    let here = match std::env::current_dir() {
        Ok(here) if weir.contains('/') && !weir.starts_with('/') => format!(", in {}", here.display()),
        _ => String::new(),
    };
    let canary = rules.join("user-header-canary.yaml");
    let edited = if canary.exists() { canary } else { rules };
    format!(
        "\nThe lab stays up. In another terminal{here}:\n\
         \n  {exec} client -- curl -s http://{vip}/ -H 'x-user-tag: canary-user'\
         \n  {exec} node -- {weir} explain http://vehicle-recognition/ -H 'x-user-tag: canary-user'\
         \n  {exec} node -- {weir} status\
         \n  {exec} node -- {weir} versions\
         \n  ${{EDITOR:-vi}} {}      # in force within a second\
         \n  tail -f {folder}/access.log       # a line for each request\
         \n  tail -f {folder}/node.log\
         \n\nCtrl-C stops the node and removes everything.\n",
        edited.display(),
    )
}
