//! What listeners in TLS answer with: read from files, made ready, and looked up by the workers at every handshake.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use weir_core::gateway::CertificateName;
use weir_core::snapshot::Snapshot;
use weir_identity::{Acceptor, Certificate, Folder, Found, Server, TlsError};

/// What listeners answer with, by the certificates that they name.
#[derive(Debug)]
pub(crate) struct Acceptors {
    ready: ArcSwap<HashMap<Arc<[CertificateName]>, Acceptor>>,
    /// For a listener that has no certificate.
    refusing: Acceptor,
}

impl Acceptors {
    /// What a listener with these certificates answers with. One that has none refuses.
    pub(crate) fn find(&self, certificates: &[CertificateName]) -> Acceptor {
        self.ready.load().get(certificates).unwrap_or(&self.refusing).clone()
    }
}

/// How it is with a certificate that gateways name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCertificate {
    /// Which.
    pub name: CertificateName,
    /// Until when the one that is shown is valid; `None` where there is none.
    pub not_after: Option<SystemTime>,
    /// Why it cannot be read as it is now, if that is so.
    pub failure: Option<Arc<str>>,
}

impl GatewayCertificate {
    fn new((name, found): (&CertificateName, &Found)) -> Self {
        let not_after = found.certificate.as_ref().map(|certificate| certificate.not_after);
        Self { name: name.clone(), not_after, failure: found.failure.clone() }
    }
}

/// Follows the files.
#[derive(Debug)]
pub(crate) struct Certificates {
    server: Server,
    folder: Folder,
    acceptors: Arc<Acceptors>,
    /// The lists that listeners have.
    lists: BTreeSet<Arc<[CertificateName]>>,
}

impl Certificates {
    pub(crate) fn new(path: &Path) -> Result<Self, TlsError> {
        let server = Server::new()?;
        let acceptors = Acceptors { ready: ArcSwap::default(), refusing: server.acceptor(Vec::new())? };
        Ok(Self { server, folder: Folder::new(path), acceptors: Arc::new(acceptors), lists: BTreeSet::new() })
    }

    pub(crate) fn acceptors(&self) -> Arc<Acceptors> {
        Arc::clone(&self.acceptors)
    }

    /// Reads what has changed of the certificates that a snapshot names, and answers with it from now on. How it is with
    /// them, if anything is new.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot) -> Option<Vec<GatewayCertificate>> {
        let listeners = snapshot.gateway_ports().filter(|port| port.is_tls).flat_map(|port| port.listeners.values());
        let lists: BTreeSet<_> = listeners.map(|listener| Arc::clone(&listener.certificates)).collect();
        let is_new = self.folder.read(lists.iter().flat_map(|list| list.iter()));
        if !is_new && lists == self.lists {
            return None;
        }
        self.lists = lists;
        let ready = self.lists.iter().filter_map(|list| Some((Arc::clone(list), self.acceptor(list)?))).collect();
        self.acceptors.ready.store(Arc::new(ready));
        Some(self.folder.iter().map(GatewayCertificate::new).collect())
    }

    fn acceptor(&self, list: &[CertificateName]) -> Option<Acceptor> {
        let found = |name| self.folder.get(name)?.certificate.clone();
        let certificates: Vec<Arc<Certificate>> = list.iter().filter_map(found).collect();
        let acceptor = self.server.acceptor(certificates);
        acceptor.inspect_err(|error| tracing::error!("a gateway's listener refuses its clients: {error}")).ok()
    }
}
