//! Keeps the certificates of a node's workloads: brings those that are wanted, renews them at half of their life, follows the
//! trust bundle. What cannot be renewed stays as it is for as long as it is valid, and is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weir_core::authorization::Principal;

use crate::authority::NodeAuthority;
use crate::certificate::{CHAIN_FILE, KEY_FILE};
use crate::file::{Stamp, contents};
use crate::sealed::Passphrase;
use crate::svid::Svid;
use crate::trust::Trust;
use crate::tunnel::{Tls, TunnelAcceptor, TunnelConnector};

/// The files of a node's authority.
pub const NODE_CERTIFICATE: &str = "node.crt";
/// Its key, sealed.
pub const NODE_KEY: &str = "node.key";
/// The roots that the mesh believes.
pub const ROOTS: &str = "roots.crt";
/// What they have revoked; need not be there.
pub const REVOKED: &str = "revoked.crl";
/// Where files come from elsewhere, the roots are called as cert-manager calls them.
const BUNDLE: &str = "ca.crt";

/// How long it is left before what has failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This node's own authority signs them.
    Authority {
        /// The name of this node.
        node: Box<str>,
        /// Has `node.crt`, `node.key` (sealed), `roots.crt` and perhaps `revoked.crl`.
        folder: PathBuf,
        /// A file with what opens the key.
        passphrase: PathBuf,
        /// How long what it signs is valid.
        life: Duration,
    },
    /// Somebody else writes them: `<namespace>/<service account>/tls.crt` and `tls.key`, and for all `ca.crt` and perhaps
    /// `revoked.crl`.
    Files {
        /// What they are below.
        folder: PathBuf,
    },
}

/// How it is with the certificate of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityState {
    /// Whose it is.
    pub principal: Principal,
    /// Until when the one in use is valid; `None` where there is none.
    pub not_after: Option<SystemTime>,
    /// When it is to be renewed.
    pub renewal: Option<SystemTime>,
    /// Why it could not be brought or renewed, if that is so.
    pub failure: Option<Arc<str>>,
}

/// What a node's tunnels are made with. Immutable: a change makes another.
#[derive(Debug)]
pub struct Identities {
    tls: Tls,
    trust: Arc<Trust>,
    own: BTreeMap<Principal, (Arc<Svid>, TunnelAcceptor)>,
}

impl Identities {
    /// Answers for a workload, if it has a certificate.
    pub fn acceptor(&self, principal: &Principal) -> Option<&TunnelAcceptor> {
        self.own.get(principal).map(|(_, acceptor)| acceptor)
    }

    /// Calls one workload in the name of another, if that has a certificate that is valid.
    pub fn connector(&self, source: &Principal, expected: &Principal) -> Option<TunnelConnector> {
        let (svid, _) = self.own.get(source)?;
        // The library knows its own defaults.
        svid.is_valid(SystemTime::now()).then(|| self.tls.connector(svid, expected).ok()).flatten()
    }

    /// The certificate of a workload.
    pub fn svid(&self, principal: &Principal) -> Option<&Arc<Svid>> {
        self.own.get(principal).map(|(svid, _)| svid)
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }
}

/// A workload's certificate, and when it is to be looked after.
#[derive(Debug, Default)]
struct Held {
    svid: Option<Arc<Svid>>,
    renewal: Option<SystemTime>,
    /// Not before this.
    retry: Option<SystemTime>,
    failure: Option<Arc<str>>,
    seen: [Stamp; 2],
}

/// Keeps the certificates of a node's workloads.
#[derive(Debug)]
pub struct Keeper {
    origin: Origin,
    trust_domain: Box<str>,
    /// The node's own authority.
    authority: Option<NodeAuthority>,
    trust: Option<Arc<Trust>>,
    tls: Option<Tls>,
    held: BTreeMap<Principal, Held>,
    seen: Vec<Stamp>,
    failure: Option<Arc<str>>,
}

impl Keeper {
    /// One that has nothing yet.
    pub fn new(origin: Origin, trust_domain: &str) -> Self {
        Self {
            origin,
            trust_domain: trust_domain.into(),
            authority: None,
            trust: None,
            tls: None,
            held: BTreeMap::new(),
            seen: Vec::new(),
            failure: None,
        }
    }

    /// Brings the certificates of these workloads, which run on this node, and renews those whose time has come, by this clock.
    /// `roll` gives any numbers. What tunnels are made with from now on, if that is something else than before.
    pub fn follow(
        &mut self,
        wanted: &BTreeSet<Principal>,
        now: SystemTime,
        mut roll: impl FnMut() -> u64,
    ) -> Option<Arc<Identities>> {
        let mut is_new = self.read();
        let before = self.held.len();
        self.held.retain(|principal, _| wanted.contains(principal));
        is_new |= before != self.held.len();
        for principal in wanted {
            let mut held = self.held.remove(principal).unwrap_or_default();
            is_new |= self.look(principal, &mut held, now, &mut roll);
            self.held.insert(principal.clone(), held);
        }
        if is_new { self.identities() } else { None }
    }

    /// How it is with each certificate.
    pub fn states(&self) -> Vec<IdentityState> {
        let state = |(principal, held): (&Principal, &Held)| IdentityState {
            principal: principal.clone(),
            not_after: held.svid.as_ref().map(|svid| svid.not_after),
            renewal: held.renewal,
            failure: held.failure.clone(),
        };
        self.held.iter().map(state).collect()
    }

    /// Why the trust bundle or the authority cannot be used as it is now, if that is so. What was read before stays in use.
    pub fn failure(&self) -> Option<&Arc<str>> {
        self.failure.as_ref()
    }

    /// Until when the node's own authority can vouch for anything, if there is one.
    pub fn authority_ends(&self) -> Option<SystemTime> {
        self.authority.as_ref().map(NodeAuthority::not_after)
    }

    fn paths(&self) -> Vec<PathBuf> {
        match &self.origin {
            Origin::Authority { folder, passphrase, .. } => {
                let mut paths: Vec<_> =
                    [NODE_CERTIFICATE, NODE_KEY, ROOTS, REVOKED].map(|file| folder.join(file)).into();
                paths.push(passphrase.clone());
                paths
            }
            Origin::Files { folder } => [BUNDLE, REVOKED].map(|file| folder.join(file)).into(),
        }
    }

    /// Reads what all certificates have in common, if it has changed. Whether it has.
    fn read(&mut self) -> bool {
        let paths = self.paths();
        let stamps = || paths.iter().map(|path| Stamp::of(path)).collect::<Vec<_>>();
        let before = stamps();
        if self.seen == before {
            return false;
        }
        let read = self.read_all();
        if stamps() != before {
            // They are being written: the next look finds them whole.
            return false;
        }
        self.seen = before;
        match read {
            Ok((authority, trust)) => {
                self.failure = None;
                self.take(authority, trust)
            }
            Err(failure) => {
                tracing::error!(%failure, "identities cannot be read; those that there are stay");
                self.failure = Some(failure.into());
                false
            }
        }
    }

    fn read_all(&self) -> Result<(Option<NodeAuthority>, Trust), String> {
        let (folder, bundle) = match &self.origin {
            Origin::Authority { folder, .. } => (folder, ROOTS),
            Origin::Files { folder } => (folder, BUNDLE),
        };
        let path = folder.join(bundle);
        let roots = read(&path)?;
        let revoked = folder.join(REVOKED);
        let revoked = if revoked.exists() { read(&revoked)? } else { Vec::new() };
        let trust = Trust::read(&self.trust_domain, &roots, &revoked);
        let trust = trust.map_err(|error| format!("{}: {error}", path.display()))?;
        let authority = match &self.origin {
            Origin::Files { .. } => None,
            Origin::Authority { node, folder, passphrase, .. } => {
                let opens = Passphrase::new(&read(passphrase)?);
                let opens = opens.map_err(|error| format!("{}: {error}", passphrase.display()))?;
                let [certificate, key] = [NODE_CERTIFICATE, NODE_KEY].map(|file| text(&folder.join(file)));
                let authority = NodeAuthority::read(&certificate?, &key?, &opens);
                let authority = authority.map_err(|error| format!("{}: {error}", folder.display()))?;
                if authority.node() != &**node {
                    let other = authority.node();
                    return Err(format!("{}: is the authority of node {other}, this is {node}", folder.display()));
                }
                Some(authority)
            }
        };
        Ok((authority, trust))
    }

    /// Uses another authority and another bundle from now on. Whether they are others.
    fn take(&mut self, authority: Option<NodeAuthority>, trust: Trust) -> bool {
        let is_same =
            |before: &NodeAuthority| authority.as_ref().is_some_and(|now| now.certificate() == before.certificate());
        if self.authority.as_ref().is_some_and(|before| !is_same(before)) {
            // What another authority has signed may soon be believed by nobody.
            self.held.values_mut().for_each(|held| held.renewal = None);
        }
        self.authority = authority;
        if self.trust.as_deref() == Some(&trust) {
            return false;
        }
        let trust = Arc::new(trust);
        match Tls::new(Arc::clone(&trust)) {
            Ok(tls) => {
                (self.tls, self.trust) = (Some(tls), Some(trust));
                true
            }
            Err(error) => {
                self.failure = Some(error.to_string().into());
                false
            }
        }
    }

    /// Brings a certificate, or renews it, if it is time. Whether there is another.
    fn look(&self, principal: &Principal, held: &mut Held, now: SystemTime, roll: &mut impl FnMut() -> u64) -> bool {
        let brought = match &self.origin {
            Origin::Authority { life, .. } => {
                let is_due = held.renewal.is_none_or(|renewal| renewal <= now) || !held.is_valid(now);
                let may_try = held.retry.is_none_or(|retry| retry <= now || now + RETRY < retry);
                let Some(authority) = self.authority.as_ref().filter(|_| is_due && may_try) else { return false };
                authority.issue(principal, now, *life).map_err(|error| error.to_string())
            }
            Origin::Files { folder } => {
                let folder = folder.join(&**principal.namespace()).join(principal.service_account());
                let paths = [CHAIN_FILE, KEY_FILE].map(|file| folder.join(file));
                let stamps = || paths.each_ref().map(|path| Stamp::of(path));
                let before = stamps();
                if held.seen == before && (held.svid.is_some() || held.failure.is_some()) {
                    return false;
                }
                let brought = read_svid(&paths, principal);
                if stamps() != before {
                    return false;
                }
                held.seen = before;
                brought
            }
        };
        match brought {
            Ok(svid) => {
                let renewal = svid.renewal(roll());
                *held = Held { svid: Some(Arc::new(svid)), renewal: Some(renewal), seen: held.seen, ..Held::default() };
                true
            }
            Err(failure) => {
                let is_valid = held.is_valid(now);
                tracing::error!(%principal, failure, is_valid, "a certificate cannot be brought; the one that there is stays");
                held.failure = Some(failure.into());
                held.retry = Some(now + RETRY);
                false
            }
        }
    }

    fn identities(&self) -> Option<Arc<Identities>> {
        let (tls, trust) = (self.tls.as_ref()?, self.trust.as_ref()?);
        let own = |(principal, held): (&Principal, &Held)| {
            let svid = held.svid.as_ref()?;
            Some((principal.clone(), (Arc::clone(svid), tls.acceptor(svid).ok()?)))
        };
        let own = self.held.iter().filter_map(own).collect();
        Some(Arc::new(Identities { tls: tls.clone(), trust: Arc::clone(trust), own }))
    }
}

impl Held {
    fn is_valid(&self, now: SystemTime) -> bool {
        self.svid.as_ref().is_some_and(|svid| svid.is_valid(now))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    contents(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(read(path)?).map_err(|_| format!("{}: is no text", path.display()))
}

fn read_svid([chain, key]: &[PathBuf; 2], principal: &Principal) -> Result<Svid, String> {
    let (chain_pem, key_pem) = (read(chain)?, read(key)?);
    let svid = Svid::read(&chain_pem, &key_pem).map_err(|error| format!("{}: {error}", chain.display()))?;
    if svid.principal == *principal {
        Ok(svid)
    } else {
        Err(format!("{}: is the certificate of {}, not of {principal}", chain.display(), svid.principal))
    }
}

#[cfg(test)]
mod tests;
