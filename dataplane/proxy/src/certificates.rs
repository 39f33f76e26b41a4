//! What listeners in TLS answer with: read from files, made ready, and looked up by the workers at every handshake.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use weir_core::gateway::CertificateName;
use weir_core::snapshot::Snapshot;
use weir_identity::{Acceptor, Certificate, Folder, Found, Server, TlsError};

/// What listeners answer with, as soon as there is one that speaks TLS.
#[derive(Debug, Default)]
pub(crate) struct Acceptors(ArcSwapOption<Ready>);

#[derive(Debug)]
struct Ready {
    /// By the certificates that listeners name.
    by_certificates: HashMap<Arc<[CertificateName]>, Acceptor>,
    /// For a listener that has none.
    refusing: Acceptor,
}

impl Acceptors {
    /// What a listener with these certificates answers with, if that is known yet. One that has none refuses.
    pub(crate) fn find(&self, certificates: &[CertificateName]) -> Option<Acceptor> {
        let ready = self.0.load();
        let Ready { by_certificates, refusing } = &**ready.as_ref()?;
        Some(by_certificates.get(certificates).unwrap_or(refusing).clone())
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
    /// Made with the first listener in TLS: most nodes have none, and it takes more than a megabyte.
    server: Option<Server>,
    folder: Folder,
    acceptors: Arc<Acceptors>,
    /// The lists that listeners have.
    lists: BTreeSet<Arc<[CertificateName]>>,
}

impl Certificates {
    pub(crate) fn new(path: &Path) -> Self {
        Self { server: None, folder: Folder::new(path), acceptors: Arc::default(), lists: BTreeSet::new() }
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
        let ready = if self.lists.is_empty() { Ok(None) } else { self.ready().map(Some) };
        match ready {
            Ok(ready) => self.acceptors.0.store(ready.map(Arc::new)),
            Err(error) => tracing::error!("listeners of gateways stay as they were: {error}"),
        }
        Some(self.folder.iter().map(GatewayCertificate::new).collect())
    }

    fn ready(&mut self) -> Result<Ready, TlsError> {
        let server = match &mut self.server {
            Some(server) => server,
            none => none.insert(Server::new()?),
        };
        let mut by_certificates = HashMap::new();
        for list in &self.lists {
            let found = |name| self.folder.get(name)?.certificate.clone();
            let certificates: Vec<Arc<Certificate>> = list.iter().filter_map(found).collect();
            by_certificates.insert(Arc::clone(list), server.acceptor(certificates)?);
        }
        Ok(Ready { by_certificates, refusing: server.acceptor(Vec::new())? })
    }
}
