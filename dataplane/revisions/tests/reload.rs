//! What a reload of 1,000 files with a rule each costs. Required is less than 100 ms in total; how long it takes in a node
//! under load is measured by the benchmark (`tests/bench`, case reload). Here the processor's time is bounded, which
//! other programs on the machine do not change, and so is the work: one file is parsed, however many there are.

mod support;

use std::time::Duration;

use support::*;

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
fn a_thousand_rules_are_reloaded_with_less_than_100_ms_of_processor_time() {
    let state = tempfile::tempdir().unwrap();
    let mut files: Vec<(String, String)> =
        (0..1000).map(|n| (format!("rule-{n:04}.yaml"), rule(&format!("rule-{n:04}"), "a"))).collect();
    files.push(("services.yaml".to_owned(), format!("{}---\n{}", service("a"), service("b"))));
    let apply = |node: &mut Node, files: &[(String, String)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
        let change = change(&files);
        let (cycle, took) = spent(|| node.publisher.apply(&source(), &change));
        assert!(outcome(&cycle).starts_with("applied"), "{:?}", cycle.outcome);
        for step in cycle.steps.iter().skip(1) {
            println!("  {:?} {:.1} ms", step.name, step.duration_us as f64 / 1000.0);
        }
        took
    };
    let mut node = Node::start(state.path());
    let cold = apply(&mut node, &files);
    println!("cold {cold:?}");
    let times = [0, 1, 2, 3, 4].map(|round| {
        files[500].1 = rule("rule-0500", if round % 2 == 0 { "b" } else { "a" });
        apply(&mut node, &files)
    });
    println!("one file changed {times:?}");
    drop(node);
    let (node, restored) = spent(|| Node::start(state.path()));
    println!("restored {restored:?}");
    assert_eq!(node.in_force(), 6);
    // Every one of them; debug builds are several times slower.
    if !cfg!(debug_assertions) {
        assert!(times.iter().all(|took| *took < Duration::from_millis(100)), "{times:?}");
    }
    assert!(
        times.iter().all(|took| *took < cold),
        "a change of one file costs less than all files: {times:?}, {cold:?}"
    );
}
