//! The session of a request: what the client brought along, and what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use weir_core::cluster::Cluster;
use weir_core::session::{self, Session, Token};

/// The session of a request whose rule keeps clients at their endpoints.
pub(crate) struct Kept {
    pub(crate) session: Arc<Session>,
    /// The time, in seconds since 1970.
    pub(crate) now: u64,
    /// What the client brought along, if that is still good.
    pub(crate) brought: Option<Token>,
    /// Where the last try went: destination and endpoint.
    pub(crate) at: Option<(u64, u64)>,
}

impl Kept {
    /// A try goes to this endpoint.
    pub(crate) fn on_endpoint(&mut self, cluster: &Cluster, address: SocketAddr) {
        let ids = |endpoint| (session::destination_id(&cluster.name), session::endpoint_id(endpoint));
        self.at = cluster.endpoint_at(address).map(ids);
    }

    /// Tells the client where it was, unless it knows.
    pub(crate) fn on_response(&self, headers: &mut HeaderMap) {
        let Some((destination, endpoint)) = self.at else { return };
        let is_known = |token: Token| (token.destination, token.endpoint) == (destination, endpoint);
        if self.brought.is_some_and(is_known) {
            return;
        }
        if let Some((name, value)) = self.session.tell(Token { destination, endpoint, since: self.now }) {
            // Beside cookies of the endpoint's own.
            headers.append(name, value);
        }
    }
}
