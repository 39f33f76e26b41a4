//! The HTTP API of a node: versions, explain, status, health, metrics.
//!
//! It shows what other parts know and changes nothing by itself: the one thing that can be asked for, a rollback, is
//! done by `weir-revisions`. It runs on the control thread and is never on a request's path.

mod answer;
mod connection;
mod drops;
mod plugins;
mod readiness;
mod server;
mod sources;
mod status;
mod suggest;
mod versions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use weir_core::explain::{Access, Attempt, Described, Explanation};
use weir_core::snapshot::Snapshot;
use weir_core::stats::{StatsKey, StatsTable};
use weir_proxy::GatewayStatus;
use weir_revisions::{Publisher, Reader};
use weir_telemetry::Telemetry;

pub use drops::{Dropped, Drops};
pub use readiness::{Readiness, Token};
pub use server::{Address, BindError, Server};
pub use sources::{SourceView, Sources};
pub use status::{IdentityView, KernelCount, KernelView, PodView, RuleCount};

use answer::{Body, Failure, Json};

/// What the API shows, shared with who does the work.
#[derive(Clone)]
pub struct Node {
    /// The node's name.
    pub name: Arc<str>,
    /// What puts configurations in force; held only for a rollback.
    pub publisher: Arc<Mutex<Publisher>>,
    /// The version log and the revision in force.
    pub reader: Reader,
    /// The snapshot that the data path uses.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is counted under which number.
    pub stats: Arc<Mutex<StatsTable>>,
    /// Counters of the data path.
    pub telemetry: Arc<Telemetry>,
    /// What the node still waits for.
    pub readiness: Readiness,
    /// How the sources are.
    pub sources: Sources,
    /// Where gateways listen, and what they show.
    pub gateways: GatewayStatus,
    /// What the kernel part knows.
    pub kernel: Arc<dyn KernelView>,
    /// What was kept from its destination.
    pub drops: Drops,
    /// The certificates of its workloads, if it keeps any.
    pub identities: Option<Arc<dyn IdentityView>>,
}

impl Node {
    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats_keys(&self) -> Vec<StatsKey> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).keys().to_vec()
    }
}

/// All paths of the API.
pub fn router(node: Node) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/version/current", get(versions::current))
        .route("/api/v1/versions", get(versions::list))
        .route("/api/v1/versions/{id}", get(versions::one))
        .route("/api/v1/versions/{a}/diff/{b}", get(versions::diff))
        .route("/api/v1/versions/{id}/rollback", post(versions::rollback))
        .route("/api/v1/cycles", get(versions::cycles))
        .route("/api/v1/plugins", get(plugins::plugins))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/explain", post(explain))
        .route("/api/v1/policy/explain", post(access))
        .route("/api/v1/policy/suggest", get(suggest::suggest))
        .route("/api/v1/drops", get(drops::drops))
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "no such path; the API is described in docs/api.md") })
        .with_state(node)
}

/// 200 when the node is ready, else 503 with what it waits for. What is wrong with a source follows, a line for each:
/// with a last good revision in force the node is ready all the same.
async fn ready(State(node): State<Node>) -> Response {
    let waiting = node.readiness.waiting_for();
    let (status, mut text) = match waiting.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", "))),
    };
    let unread = node.sources.all().into_iter().filter_map(|source| source.trouble());
    let rejected = node.reader.rejections();
    let rejected = rejected.iter().map(|rejection| {
        let count = rejection.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        format!("{} was rejected: {count} errors, see GET /api/v1/status", rejection.source)
    });
    unread.chain(rejected).for_each(|line| text.extend([line.as_str(), "\n"]));
    (status, text).into_response()
}

/// Everything that is counted, in the OpenMetrics text format.
async fn metrics(State(node): State<Node>) -> Result<Response, Failure> {
    let keys = node.stats_keys();
    let text = node.telemetry.encode(&keys);
    let text = text.map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Explains a described request under the revision in force.
async fn explain(State(node): State<Node>, Body(described): Body<Described>) -> Result<Json<Explanation>, Failure> {
    let snapshot = node.snapshot.load();
    let explanation = described.explain(&snapshot);
    explanation.map(Json).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}

/// Explains whether a pod may reach another under the revision in force.
async fn access(State(node): State<Node>, Body(attempt): Body<Attempt>) -> Result<Json<Access>, Failure> {
    let snapshot = node.snapshot.load();
    let access = attempt.explain(&snapshot);
    access.map(Json).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}
