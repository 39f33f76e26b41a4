//! `/api/v1/version…`: the version log, differences, rollback, and the last update cycles.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use weir_core::revision::Sequence;
use weir_revisions::{Cause, LogError, Outcome, Record, Rejection, SelectError, Selector};

use crate::Node;
use crate::answer::{Failure, Json};

/// How long an answer waits for a later version at most: less than an answer may take.
const WAIT: Duration = Duration::from_secs(20);
/// Revisions in one answer at most.
const MAX_LIMIT: usize = 1_000;

/// Which part of the version log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// At most so many, 1 to 1,000; default 100.
    limit: Option<usize>,
    /// Only those before this sequence number.
    before: Option<u64>,
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        let status = match &error {
            SelectError::Malformed(_) => StatusCode::BAD_REQUEST,
            SelectError::NotFound(_) => StatusCode::NOT_FOUND,
            SelectError::Ambiguous { .. } => StatusCode::CONFLICT,
            SelectError::Log(LogError::Lent { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

fn selector(text: &str) -> Result<Selector, Failure> {
    text.parse::<Selector>().map_err(Failure::from)
}

/// A record as the API shows it.
fn version(node: &Node, record: &Record) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    let current = node.reader.current();
    value["cause"] = json!(cause(&record.cause));
    value["cause_detail"] = serde_json::to_value(&record.cause).unwrap_or_default();
    value["current"] = json!(current.is_some_and(|current| current.record.sequence == record.sequence));
    value
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Source { name, location, .. } => format!("{name} {}", location.display()),
        Cause::Rollback { to, by } => format!("rollback to {} by {by}", to.sequence),
    }
}

/// Whether to wait for a later version than one that the caller knows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    /// Answers as soon as a version after this sequence number is in force.
    after: Option<u64>,
}

/// The version in force; with `after`, a later one as soon as there is one, or what is in force when none came.
pub(crate) async fn current(State(node): State<Node>, Query(wait): Query<Wait>) -> Result<Json<Value>, Failure> {
    if let Some(after) = wait.after {
        // An end of the time is no failure: the caller sees by the sequence that nothing came.
        let _ = tokio::time::timeout(WAIT, later(&node, Sequence(after))).await;
    }
    in_force(&node)
}

/// Waits until a version after this one is in force.
async fn later(node: &Node, after: Sequence) {
    // Listened for before it is looked at, so that nothing is missed in between.
    let mut announcements = node.reader.announcements();
    while node.reader.current().is_none_or(|current| current.record.sequence <= after) {
        // Who falls behind has missed some and looks again, as for those it has heard.
        if let Err(RecvError::Closed) = announcements.recv().await {
            return;
        }
    }
}

fn in_force(node: &Node) -> Result<Json<Value>, Failure> {
    let nothing = || Failure::new(StatusCode::NOT_FOUND, "no revision is in force yet: the node waits for its source");
    let current = node.reader.current().ok_or_else(nothing)?;
    let mut value = version(node, &current.record);
    value["recorded"] = json!(current.is_recorded);
    value["warnings"] = json!(&*current.warnings);
    Ok(Json(value))
}

pub(crate) async fn list(State(node): State<Node>, Query(page): Query<Page>) -> Result<Json<Value>, Failure> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Failure::new(StatusCode::BAD_REQUEST, format!("limit: 1 to {MAX_LIMIT}")));
    }
    let records = node.reader.list(limit, page.before.map(Sequence))?;
    let versions: Vec<Value> = records.iter().map(|record| version(&node, record)).collect();
    Ok(Json(json!({ "versions": versions })))
}

pub(crate) async fn one(State(node): State<Node>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let selector = selector(&id)?;
    let kept = node.reader.find(&selector)?;
    let documents = node.reader.documents(&selector)?;
    let names: Vec<String> = documents.iter().map(|document| document.name.to_string()).collect();
    let mut value = version(&node, &kept.record);
    value["graph"] = serde_json::to_value(&kept.graph).unwrap_or_default();
    value["objects"] = json!(names);
    Ok(Json(value))
}

pub(crate) async fn diff(
    State(node): State<Node>,
    Path((a, b)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let (from, to) = (selector(&a)?, selector(&b)?);
    let (older, newer) = (node.reader.find(&from)?.record.version(), node.reader.find(&to)?.record.version());
    let diff = node.reader.diff(&from, &to)?;
    Ok(Json(json!({ "from": older, "to": newer, "change_log": diff.change_log, "graph": diff.graph })))
}

pub(crate) async fn rollback(State(node): State<Node>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let selector = selector(&id)?;
    let cycle = node.publisher().rollback(&selector, "the admin API")?;
    let refused = |status, why: String| Err(Failure::new(status, why));
    match &cycle.outcome {
        Outcome::Rejected { diagnostics, .. } => {
            let why: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            refused(StatusCode::CONFLICT, format!("that version is no longer valid: {}", why.join("; ")))
        }
        Outcome::Failed { reason, .. } => refused(StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
        Outcome::Applied { .. } | Outcome::Unchanged { .. } | Outcome::Restored { .. } => in_force(&node),
    }
}

pub(crate) async fn cycles(State(node): State<Node>) -> Json<Value> {
    let cycles: Vec<Value> =
        node.reader.cycles().iter().map(|cycle| serde_json::to_value(&**cycle).unwrap_or_default()).collect();
    Json(json!({ "cycles": cycles }))
}

/// Why a source's content is not in force.
pub(crate) fn rejection(rejection: &Rejection) -> Value {
    serde_json::to_value(rejection).unwrap_or_default()
}
