//! What a change of one of 10,000 files with a rule each costs. How long it takes in a node under load, with the folder's
//! part, is measured by the benchmark (`tests/bench`, case reload). Here the processor's time is compared, which other
//! programs on the machine do not change.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use weir_config::SourceFile;
use weir_sources::Change;

/// Processor time of this thread so far (proc_pid_schedstat: the first field, in nanoseconds).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn spent<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let before = processor_time();
    let result = action();
    (result, processor_time() - before)
}

#[test]
fn a_rule_among_ten_thousand_costs_a_fraction_of_all() {
    let state = tempfile::tempdir().unwrap();
    let name = |number: usize| format!("rule-{number:05}");
    let mut of: Vec<(String, String)> =
        (0..10_000).map(|number| (format!("{}.yaml", name(number)), rule(&name(number), "a"))).collect();
    of.push(("services.yaml".to_owned(), format!("{}---\n{}", service("a"), service("b"))));
    let of: Vec<_> = of.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let mut change = change(&of);
    let apply = |node: &mut Node, change: &Arc<Change>| {
        let (cycle, took) = spent(|| node.publisher.apply(&source(), change));
        assert!(outcome(&cycle).starts_with("applied"), "{:?}", cycle.outcome);
        for step in cycle.steps.iter().skip(1) {
            println!("  {:?} {:.1} ms", step.name, step.duration_us as f64 / 1000.0);
        }
        took
    };
    let mut node = Node::start(state.path());
    let cold = apply(&mut node, &change);
    println!("cold {cold:?}");
    let times = [0, 1, 2, 3, 4, 5].map(|round| {
        let text = rule(&name(500), if round % 2 == 0 { "b" } else { "a" });
        let mut files = change.files.clone();
        files[500] = Arc::new(SourceFile { path: Arc::clone(&files[500].path), text: text.into() });
        change = Arc::new(Change { files, content_hash: [round; 32], ..*change });
        apply(&mut node, &change)
    });
    println!("one file changed {times:?}");
    drop(node);
    let (node, restored) = spent(|| Node::start(state.path()));
    println!("restored {restored:?}");
    assert_eq!(node.in_force(), 7);
    // With the first change the version log also tidies up after all that was written before.
    assert!(times[1..].iter().all(|took| *took * 10 < cold), "{times:?}, all of them {cold:?}");
}
