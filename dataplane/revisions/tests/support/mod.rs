//! What the tests of this crate share: documents, changes, and a node's publisher in a directory of its own.
#![allow(unreachable_pub, reason = "modules of tests have nobody above them")]
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as expected")]

pub mod disk;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use weir_config::{DocumentSet, SourceFile};
use weir_core::revision::Sequence;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;
use weir_revisions::*;
use weir_sources::Change;

pub fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: None\n  ports:\n  - name: \
         http\n    port: 8080\n"
    )
}

pub fn rule(name: &str, host: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata:\n  name: {name}\nspec:\n  services: [a]\n  match:\n    \
         headers:\n      x-user-tag:\n        exact: {name}\n  route:\n    destination:\n      host: {host}\n      \
         port: 8080\n"
    )
}

pub fn files(files: &[(&str, String)]) -> Vec<Arc<SourceFile>> {
    let file = |(name, text): &(&str, String)| SourceFile::new(name, text.clone());
    files.iter().map(file).map(Arc::new).collect()
}

pub fn documents(of: &[(&str, String)]) -> DocumentSet {
    let parsed = weir_config::parse(&files(of));
    assert!(!parsed.has_errors(), "{:#?}", parsed.diagnostics);
    parsed.documents
}

/// Two services and a rule that leads to `host`.
pub fn leading_to(host: &str) -> Vec<(&'static str, String)> {
    vec![("rule.yaml", rule("tagged", host)), ("services.yaml", format!("{}---\n{}", service("a"), service("b")))]
}

/// The same with a service that takes this many KiB.
pub fn padded(host: &str, kib: usize) -> Vec<(&'static str, String)> {
    let mut files = leading_to(host);
    let padding = format!("  name: large\n  annotations:\n    weir.dev/padding: {}\n", "x".repeat(kib << 10));
    files.push(("large.yaml", service("large").replace("  name: large\n", &padding)));
    files
}

pub fn change(of: &[(&str, String)]) -> Arc<Change> {
    let mut hash = Sha256::new();
    of.iter().for_each(|(name, text)| hash.update(format!("{name}\n{text}\n")));
    Arc::new(Change {
        files: files(of),
        content_hash: hash.finalize().into(),
        detected_at: SystemTime::now(),
        detected: Instant::now(),
    })
}

pub fn source() -> Source {
    Source { name: "folder".to_owned(), location: PathBuf::from("/etc/weir/rules") }
}

/// A record that only its place and documents tell from others.
pub fn record(sequence: u64, documents: &DocumentSet) -> Record {
    Record {
        sequence: Sequence(sequence),
        version_id: documents.id(),
        parent: None,
        applied_at: SystemTime::UNIX_EPOCH,
        cause: Cause::Source { name: "folder".into(), location: "/x".into(), content_hash: ContentHash([7; 32]) },
        counts: Counts::default(),
        change_log: Default::default(),
    }
}

pub struct Node {
    pub publisher: Publisher,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Node {
    pub fn start(state: &Path) -> Self {
        Self::with(Log::open(state, Retention::default()).unwrap(), Box::new(NoInterception))
    }

    pub fn with(log: Log, interception: Box<dyn Interception + Send>) -> Self {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let stats = Arc::new(Mutex::new(StatsTable::default()));
        Self::restored(Publisher::new(log, Arc::clone(&snapshot), stats, interception), snapshot)
    }

    /// With what makes plugins ready.
    pub fn preparing(state: &Path, preparation: Box<dyn Preparation + Send>) -> Self {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
        let log = Log::open(state, Retention::default()).unwrap();
        let publisher = Publisher::new(log, Arc::clone(&snapshot), Arc::default(), Box::new(NoInterception));
        Self::restored(publisher.with_preparation(preparation), snapshot)
    }

    fn restored(mut publisher: Publisher, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        publisher.restore(&["folder"]);
        Self { publisher, snapshot }
    }

    pub fn apply(&mut self, of: &[(&str, String)]) -> Arc<Cycle> {
        self.publisher.apply(&source(), &change(of))
    }

    /// The sequence in force, as the requests see it and as the API says.
    pub fn in_force(&self) -> u64 {
        let snapshot = self.snapshot.load().sequence.0;
        let current = self.publisher.reader().current().map_or(0, |current| current.record.sequence.0);
        assert_eq!(snapshot, current);
        snapshot
    }
}

/// The outcome's name, with the sequence where there is one.
pub fn outcome(cycle: &Cycle) -> String {
    match &cycle.outcome {
        Outcome::Applied { version } => format!("applied {}", version.sequence),
        Outcome::Restored { version } => format!("restored {}", version.sequence),
        Outcome::Unchanged { .. } => "unchanged".to_owned(),
        Outcome::Rejected { .. } => "rejected".to_owned(),
        Outcome::Failed { step, .. } => format!("failed {step:?}"),
    }
}
