//! The order of a change, rollbacks, and what a restart brings back.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod support;

use std::sync::{Arc, Mutex};

use support::*;
use weir_core::snapshot::Snapshot;
use weir_revisions::*;

fn select(text: &str) -> Selector {
    text.parse().unwrap()
}

#[test]
fn a_change_takes_every_step_in_order() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    let mut heard = node.publisher.reader().announcements();
    let cycle = node.apply(&leading_to("a"));
    assert_eq!(outcome(&cycle), "applied 1");
    let steps: Vec<_> = cycle.steps.iter().map(|step| step.name).collect();
    use StepName::*;
    assert_eq!(steps, [Detected, Compared, DiffGraph, Compiled, Planned, Applied, Recorded, Settled, Announced]);
    assert_eq!(heard.try_recv().unwrap().record.sequence.0, 1);

    let cycle = node.apply(&leading_to("b"));
    assert_eq!(outcome(&cycle), "applied 2");
    let reader = node.publisher.reader();
    let kept = reader.find(&Selector::Current).unwrap();
    assert_eq!(kept.record.parent.unwrap().sequence.0, 1);
    assert_eq!((kept.record.counts.objects, kept.record.counts.changed), (3, 1));
    let log = kept.record.change_log.to_string();
    assert!(log.starts_with("~ RouteRule default/tagged\n") && log.contains("\"b\""), "{log}");
    let nodes: Vec<_> = kept.graph.nodes.iter().map(|node| format!("{} {}", node.object, node.change)).collect();
    assert_eq!(nodes, ["RouteRule default/tagged changed", "Service default/a affected", "Service default/b affected"]);
    assert!(reader.current().unwrap().is_recorded);
    assert_eq!(reader.cycles().len(), 3);
    let json = serde_json::to_value(&kept).unwrap();
    for field in ["version_id", "applied_at", "change_log", "sequence", "graph"] {
        assert!(json.get(field).is_some(), "{field} in {json}");
    }
    assert_eq!(serde_json::from_value::<Kept>(json).unwrap().record.version_id, kept.record.version_id);
}

#[test]
fn a_snapshot_is_freed_by_the_publisher_and_not_by_its_last_reader() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    node.apply(&leading_to("a"));
    let in_use = node.snapshot.load_full();
    let old = Arc::downgrade(&in_use);
    node.apply(&leading_to("b"));
    node.publisher.free_retired();
    drop(in_use);
    assert!(old.upgrade().is_some(), "the reader freed it");
    node.publisher.free_retired();
    assert!(old.upgrade().is_none(), "it is kept for ever");
}

#[test]
fn equal_content_is_no_new_revision() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    node.apply(&leading_to("a"));
    let mut written_otherwise = leading_to("a");
    written_otherwise[0].1.insert_str(0, "# a comment\n");
    written_otherwise.swap(0, 1);
    assert_eq!(outcome(&node.apply(&written_otherwise)), "unchanged");
    assert_eq!(node.in_force(), 1);
    assert_eq!(node.publisher.reader().list(10, None).unwrap().len(), 1);
}

#[test]
fn what_is_wrong_changes_nothing_and_is_all_said_at_once() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    node.apply(&leading_to("a"));
    let mut wrong = leading_to("b");
    wrong.push(("x.yaml", "kind: RouteRule\n".to_owned()));
    wrong.push(("y.yaml", "a: [\n".to_owned()));
    assert_eq!(outcome(&node.apply(&wrong)), "rejected");
    assert_eq!(node.in_force(), 1);
    let error = node.publisher.reader().last_error().unwrap();
    for file in ["x.yaml", "y.yaml"] {
        assert!(error.diagnostics.iter().any(|d| d.to_string().starts_with(file)), "{file}: {error:?}");
    }
    drop(node);
    // Neither does a restart load it.
    let mut node = Node::start(state.path());
    assert_eq!(node.in_force(), 1);
    assert_eq!(outcome(&node.apply(&wrong)), "rejected");
    assert_eq!(node.in_force(), 1);
    assert!(node.publisher.reader().last_error().is_some());
    assert_eq!(outcome(&node.apply(&leading_to("b"))), "applied 2");
    assert!(node.publisher.reader().last_error().is_none());
}

#[test]
fn a_change_while_the_node_was_down_is_a_change() {
    let state = tempfile::tempdir().unwrap();
    let id = {
        let mut node = Node::start(state.path());
        node.apply(&leading_to("a"));
        node.snapshot.load().revision
    };
    let mut node = Node::start(state.path());
    assert_eq!((node.in_force(), node.snapshot.load().revision), (1, id));
    assert_eq!(outcome(&node.apply(&leading_to("b"))), "applied 2");
    let record = node.publisher.reader().find(&Selector::Current).unwrap().record;
    assert_eq!((record.parent.unwrap().version_id, record.counts.changed), (id, 1));
}

/// Each step, and what comes of it. `restart` starts the node anew in the same state directory.
#[test]
fn a_rollback_holds_until_the_source_changes() {
    let stories: [(&str, &[&str]); 5] = [
        ("holds while the folder is what it was", &["a: applied 1", "b: applied 2", "to 1: applied 3", "b: unchanged"]),
        (
            "holds over a restart",
            &[
                "a: applied 1",
                "b: applied 2",
                "to 1: applied 3",
                "restart: 3",
                "b: unchanged",
                "restart: 3",
                "b: unchanged",
            ],
        ),
        (
            "holds while the folder is wrong",
            &["a: applied 1", "b: applied 2", "to 1: applied 3", "wrong: rejected", "b: unchanged"],
        ),
        ("ends with new content", &["a: applied 1", "b: applied 2", "to 1: applied 3", "c: applied 4", "b: applied 5"]),
        (
            "ends when the folder is rolled back too, and then changed again",
            &["a: applied 1", "b: applied 2", "to 1: applied 3", "a: unchanged", "restart: 3", "b: applied 4"],
        ),
    ];
    for (what, steps) in stories {
        let state = tempfile::tempdir().unwrap();
        let mut node = Some(Node::start(state.path()));
        for step in steps {
            let (action, expected) = step.split_once(": ").unwrap();
            let came = match action {
                "restart" => {
                    drop(node.take());
                    node = Some(Node::start(state.path()));
                    node.as_ref().unwrap().in_force().to_string()
                }
                "wrong" => outcome(&node.as_mut().unwrap().apply(&[("x.yaml", "a: [".to_owned())])),
                "a" | "b" | "c" => outcome(&node.as_mut().unwrap().apply(&leading_to(action))),
                _ => {
                    let to = select(action.strip_prefix("to ").unwrap());
                    outcome(&node.as_mut().unwrap().publisher.rollback(&to, "a test").unwrap())
                }
            };
            assert_eq!(came, expected, "{what}: {step}");
        }
    }
}

#[test]
fn a_rollback_is_a_revision_with_the_content_of_another() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    node.apply(&leading_to("a"));
    node.apply(&leading_to("b"));
    let reader = node.publisher.reader();
    let first = reader.find(&select("1")).unwrap().record.version();
    let by_prefix = select(&first.version_id.to_string()[..8]);
    assert_eq!(outcome(&node.publisher.rollback(&by_prefix, "somebody").unwrap()), "applied 3");
    let third = reader.find(&Selector::Current).unwrap().record;
    assert_eq!(third.cause, Cause::Rollback { to: first, by: "somebody".to_owned() });
    assert_eq!((third.version_id, third.parent.unwrap().sequence.0), (first.version_id, 2));
    assert_eq!(reader.documents(&select("3")).unwrap(), reader.documents(&select("1")).unwrap());
    assert!(reader.diff(&select("1"), &select("3")).unwrap().change_log.is_empty());
    assert_eq!(reader.diff(&select("2"), &select("1")).unwrap().change_log, third.change_log);
    // What is in force needs no rollback, and what never was cannot have one.
    assert_eq!(outcome(&node.publisher.rollback(&select("1"), "somebody").unwrap()), "unchanged");
    for missing in ["77", "12345678", "abcdef0123"] {
        assert!(matches!(node.publisher.rollback(&select(missing), "x"), Err(SelectError::NotFound(_))), "{missing}");
    }
    assert_eq!(node.in_force(), 3);
}

/// What the kernel's side was asked, and what it is to refuse.
#[derive(Default)]
struct Script {
    calls: Vec<String>,
    refuse_stage: bool,
    refuse_settle: bool,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Interception for Scripted {
    fn stage(&mut self, candidate: &Snapshot) -> Result<KernelPlan, String> {
        let mut script = self.0.lock().unwrap();
        script.calls.push(format!("stage {}", candidate.sequence));
        if script.refuse_stage { Err("map full".into()) } else { Ok(KernelPlan::default()) }
    }

    fn settle(&mut self, published: &Snapshot) -> Result<(), String> {
        let mut script = self.0.lock().unwrap();
        script.calls.push(format!("settle {}", published.sequence));
        if script.refuse_settle { Err("busy".into()) } else { Ok(()) }
    }
}

#[test]
fn what_the_kernel_refuses_is_not_published_and_tried_again() {
    let state = tempfile::tempdir().unwrap();
    let kernel = Scripted::default();
    let log = Log::open(state.path(), Retention::default()).unwrap();
    let mut node = Node::with(log, Box::new(kernel.clone()));
    node.apply(&leading_to("a"));
    kernel.0.lock().unwrap().refuse_stage = true;
    assert_eq!(outcome(&node.apply(&leading_to("b"))), "failed Planned");
    assert_eq!(node.in_force(), 1);
    assert!(node.publisher.reader().last_error().unwrap().diagnostics[0].to_string().contains("map full"));
    assert_eq!(outcome(&node.publisher.retry().unwrap()), "failed Planned");
    {
        let mut script = kernel.0.lock().unwrap();
        (script.refuse_stage, script.refuse_settle) = (false, true);
    }
    assert_eq!(outcome(&node.publisher.retry().unwrap()), "applied 2");
    assert!(node.publisher.has_unfinished(), "settling is left over");
    kernel.0.lock().unwrap().refuse_settle = false;
    assert!(node.publisher.retry().is_none());
    assert!(!node.publisher.has_unfinished());
    let calls = kernel.0.lock().unwrap().calls.join(", ");
    assert_eq!(calls, "stage 1, settle 1, stage 2, stage 2, stage 2, settle 2, settle 2");
}

#[test]
fn a_revision_that_the_log_does_not_take_is_in_force_and_written_later() {
    disk::on_own_disk(|disk| {
        let mut node = Node::start(&disk.state());
        node.apply(&leading_to("a"));
        disk.fill();
        assert_eq!(outcome(&node.apply(&padded("b", 2048))), "applied 2");
        assert_eq!(outcome(&node.apply(&leading_to("c"))), "applied 3");
        let reader = node.publisher.reader();
        assert_eq!(node.in_force(), 3);
        assert!(!reader.current().unwrap().is_recorded);
        let sequences = || reader.list(10, None).unwrap().iter().map(|record| record.sequence.0).collect::<Vec<_>>();
        assert_eq!(sequences(), [3, 2, 1]);
        assert_eq!(reader.find(&select("2")).unwrap().record.counts.objects, 4);
        assert_eq!(outcome(&node.publisher.rollback(&select("1"), "x").unwrap()), "applied 4");
        node.publisher.retry();
        assert!(node.publisher.has_unfinished(), "the disk is still full");
        disk.free();
        node.publisher.retry();
        assert!(!node.publisher.has_unfinished());
        assert!(reader.current().unwrap().is_recorded);
        assert_eq!(sequences(), [4, 3, 2, 1]);
        drop((node, reader));
        let node = Node::start(&disk.state());
        assert_eq!(node.in_force(), 4);
        assert_eq!(node.publisher.reader().list(10, None).unwrap().len(), 4);
    });
}

#[test]
fn a_node_that_stops_with_a_full_disk_comes_back_with_what_was_recorded() {
    disk::on_own_disk(|disk| {
        let mut node = Node::start(&disk.state());
        node.apply(&leading_to("a"));
        disk.fill();
        assert_eq!(outcome(&node.apply(&padded("b", 2048))), "applied 2");
        drop(node);
        let mut node = Node::start(&disk.state());
        assert_eq!(node.in_force(), 1);
        // The folder has what the log did not take: a change as any other.
        disk.free();
        assert_eq!(outcome(&node.apply(&padded("b", 2048))), "applied 2");
        assert!(node.publisher.reader().current().unwrap().is_recorded);
    });
}

#[test]
fn a_log_that_is_lent_is_the_others_until_it_is_taken_back() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    node.apply(&leading_to("a"));
    node.apply(&leading_to("b"));
    let open = || Log::open(state.path(), Retention::default()).map(drop).map_err(|error| error.to_string());
    assert!(open().unwrap_err().contains("--take-over"), "says what helps");

    node.publisher.lend().unwrap();
    let refused = node.publisher.rollback(&select("1"), "x").unwrap_err();
    assert!(matches!(refused, SelectError::Log(LogError::Lent { .. })), "{refused}");
    assert!(matches!(node.publisher.reader().list(9, None), Err(SelectError::Log(LogError::Lent { .. }))));
    assert_eq!(node.in_force(), 2, "what is in force stays");
    let mut other = Node::start(state.path());
    assert_eq!(outcome(&other.apply(&leading_to("c"))), "applied 3");
    drop(other);

    // Whatever the other wrote, this one goes on behind it.
    node.publisher.take_back().unwrap();
    assert!(node.publisher.has_unfinished(), "the kernel's side is to be settled anew");
    node.publisher.retry();
    assert_eq!(outcome(&node.apply(&leading_to("d"))), "applied 4");
}

/// Where each warning in force is, and what it is about.
fn warnings(node: &Node) -> Vec<(Option<String>, String)> {
    let told = node.publisher.reader().current().unwrap().warnings;
    told.iter().map(|one| (one.file.as_ref().map(|file| file.display().to_string()), one.message.clone())).collect()
}

#[test]
fn what_is_in_force_in_spite_of_warnings_says_so_for_as_long_as_it_is() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    // One warning of the rule by itself, and one of how documents fit together.
    let idle = "apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata:\n  name: idle\nspec: {}\n".to_owned();
    let mut files = leading_to("nowhere");
    files.push(("idle.yaml", idle));
    let cycle = node.apply(&files);
    assert_eq!(outcome(&cycle), "applied 1");
    let told = warnings(&node);
    let about = |told: &[(Option<String>, String)], file: Option<&str>, text: &str| {
        assert!(told.iter().any(|(f, message)| f.as_deref() == file && message.contains(text)), "{text}: {told:?}");
    };
    about(&told, Some("idle.yaml"), "says nothing");
    about(&told, Some("rule.yaml"), "there is no Service");
    assert_eq!(cycle.warnings.len(), told.len());

    // A restart knows them by the log, without their places, and with their places when the source has been read.
    drop(node);
    let mut node = Node::start(state.path());
    about(&warnings(&node), None, "says nothing");
    about(&warnings(&node), None, "there is no Service");
    assert_eq!(outcome(&node.apply(&files)), "unchanged");
    assert_eq!(warnings(&node), told);

    assert_eq!(outcome(&node.apply(&leading_to("b"))), "applied 2");
    let of_before = |message: &String| message.contains("says nothing") || message.contains("there is no Service");
    assert!(!warnings(&node).iter().any(|(_, message)| of_before(message)), "{:?}", warnings(&node));
    let back = node.publisher.rollback(&select("1"), "a test").unwrap();
    assert_eq!((outcome(&back), back.warnings.len()), ("applied 3".to_owned(), told.len()));
    about(&warnings(&node), None, "says nothing");
}

#[test]
fn cycles_are_counted_by_outcome_and_changes_of_the_source_timed() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    let reader = node.publisher.reader();
    let counts = || reader.outcomes().map(|(_, count)| count);
    assert_eq!(reader.outcomes().map(|(name, _)| name), ["applied", "restored", "unchanged", "rejected", "failed"]);
    assert_eq!(counts(), [0, 0, 1, 0, 0], "the empty log");
    let detected = std::time::Instant::now();
    node.apply(&leading_to("a"));
    node.apply(&leading_to("a"));
    node.apply(&[("bad.yaml", "kind: RouteRule\n".to_owned())]);
    node.apply(&leading_to("b"));
    node.publisher.rollback(&select("1"), "a test").unwrap();
    let elapsed = detected.elapsed();
    assert_eq!(counts(), [3, 0, 2, 1, 0]);
    // Of what was applied, a rollback is no change of the source.
    let reloads = reader.reloads();
    assert_eq!(reloads.count(), 2);
    assert!((0.0..elapsed.as_secs_f64()).contains(&reloads.sum_seconds()), "{reloads:?} in {elapsed:?}");
    drop((node, reader));
    assert_eq!(Node::start(state.path()).publisher.reader().outcomes()[1], ("restored", 1));
}

#[test]
fn an_announcement_says_how_many_were_told() {
    let state = tempfile::tempdir().unwrap();
    let mut node = Node::start(state.path());
    let told = |cycle: &Cycle| cycle.steps.last().map(|step| step.detail.clone()).unwrap();
    assert_eq!(told(&node.apply(&leading_to("a"))), "0 waiting callers told");
    let waiting = [node.publisher.reader().announcements(), node.publisher.reader().announcements()];
    assert_eq!(told(&node.apply(&leading_to("b"))), "2 waiting callers told");
    drop(waiting);
    assert_eq!(told(&node.apply(&leading_to("a"))), "0 waiting callers told");
}
