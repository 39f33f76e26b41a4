//! What cannot be made ready yet is tried again, without anybody writing it again.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Node, leading_to, outcome};
use weir_core::name::ObjectName;
use weir_core::plugin::Plugin;
use weir_core::snapshot::Snapshot;
use weir_revisions::{Preparation, Unready};

const PLUGIN: &str = "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: p}, spec: {module: {file: p.wasm}}}";

/// Whether the module is there.
struct Modules(Arc<AtomicBool>);

impl Preparation for Modules {
    fn prepare(&mut self, candidate: &Snapshot) -> Vec<Unready> {
        let unready = |plugin: &Arc<Plugin>| Unready {
            object: ObjectName::clone(&plugin.name),
            field: &["spec", "module", "file"],
            message: "it is on its way".to_owned(),
            again: Some(Duration::ZERO),
        };
        let is_there = self.0.load(Ordering::SeqCst);
        candidate.plugins().iter().filter(|_| !is_there).map(unready).collect()
    }
}

fn start(state: &std::path::Path, is_there: &Arc<AtomicBool>) -> Node {
    Node::preparing(state, Box::new(Modules(Arc::clone(is_there))))
}

#[test]
fn a_change_whose_module_is_on_its_way_is_in_force_when_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let is_there = Arc::new(AtomicBool::new(false));
    let mut node = start(folder.path(), &is_there);
    let documents = [leading_to("a"), vec![("plugin.yaml", PLUGIN.to_owned())]].concat();
    let cycle = node.apply(&documents);
    assert!(outcome(&cycle).contains("rejected"), "{}", outcome(&cycle));
    // Still not: the same again.
    assert!(node.publisher.has_unfinished());
    assert!(node.publisher.retry().is_some_and(|cycle| outcome(&cycle).contains("rejected")));
    is_there.store(true, Ordering::SeqCst);
    assert!(node.publisher.retry().is_some_and(|cycle| outcome(&cycle).contains("applied")));
    assert!(!node.publisher.has_unfinished() && node.in_force() == 1);
}

#[test]
fn what_is_in_force_after_a_restart_is_made_ready_later() {
    let folder = tempfile::tempdir().unwrap();
    let is_there = Arc::new(AtomicBool::new(true));
    let documents = [leading_to("a"), vec![("plugin.yaml", PLUGIN.to_owned())]].concat();
    let mut node = start(folder.path(), &is_there);
    node.apply(&documents);
    drop(node);
    is_there.store(false, Ordering::SeqCst);
    let mut node = start(folder.path(), &is_there);
    let reader = node.publisher.reader();
    let warnings = || reader.current().unwrap().warnings;
    let says_so = || warnings().iter().any(|one| one.message == "it is on its way");
    assert!(node.in_force() == 1 && says_so(), "{:?}", warnings());
    node.publisher.retry();
    assert!(says_so() && node.publisher.has_unfinished());
    is_there.store(true, Ordering::SeqCst);
    node.publisher.retry();
    assert!(!says_so() && !node.publisher.has_unfinished(), "{:?}", warnings());
}
