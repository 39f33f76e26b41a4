//! The story of the lab: what was built, and one step after the other with what happened and why.

mod ask;
mod steps;

use std::fmt::Write as _;

use super::running::Running;
use super::terrain;
use crate::command::print;
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

/// Tells the whole story. Whether every step went as it must.
pub(crate) fn tell(running: &Running, interrupted: &Interrupt) -> anyhow::Result<bool> {
    print(&built(running))?;
    let mut failed = 0;
    for (number, (title, step)) in steps::ALL.iter().enumerate() {
        if interrupted.is_set() {
            return Ok(failed == 0);
        }
        print(&format!("\n{:>2}. {title}\n", number + 1))?;
        match step(running) {
            Ok(Told { command, saw, why }) => print(&format!("    $ {command}\n    ok    {saw}\n    why   {why}\n"))?,
            Err(error) => {
                failed += 1;
                print(&format!("    FAILED  {error:#}\n"))?;
            }
        }
    }
    let total = steps::ALL.len();
    if failed > 0 {
        print(&format!("\n{failed} of {total} steps failed; the node's last words:\n{}\n", running.log_tail()))?;
    } else {
        print(&format!("\nall {total} steps as they must be\n"))?;
    }
    Ok(failed == 0)
}

/// What was built, as a table.
fn built(running: &Running) -> String {
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
        ("vehicle-recognition:80", terrain::RECOGNITION, "-> vehicle-recognition-v1; rules concern it"),
        ("service-canary:8080", terrain::CANARY, "-> vehicle-recognition-v2"),
        ("plain.plain:80", terrain::PLAIN, "-> plain; no rule concerns it"),
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
    let (vip, rules) = (terrain::RECOGNITION[0], running.rules());
    // The binary need not be on the user's path, and what is printed must work as it is.
    let weir = std::env::current_exe().map_or_else(|_| "weir".to_owned(), |path| path.display().to_string());
    format!(
        "\nThe lab stays up. In another terminal:\n\
         \n  {weir} lab exec client -- curl -s http://{vip}/ -H 'x-user-tag: canary-user'\
         \n  {weir} lab exec node -- {weir} explain http://vehicle-recognition/ -H 'x-user-tag: canary-user'\
         \n  {weir} lab exec node -- {weir} status\
         \n  {weir} lab exec node -- {weir} versions\
         \n  $EDITOR {}/user-header-canary.yaml      # in force within a second\
         \n  tail -f {}/node.log\
         \n\nCtrl-C stops the node and removes everything.\n",
        rules.display(),
        running.folder.display(),
    )
}
