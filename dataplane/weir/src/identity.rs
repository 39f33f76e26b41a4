//! Keeps the certificates of this node's workloads: those that its links show.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use weir_admin::IdentityView;
use weir_core::authorization::Principal;
use weir_identity::{IdentityState, Keeper};
use weir_proxy::OwnIdentity;

use crate::interception::Wiring;
use crate::settings::Settings;

/// Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Keeping {
    keeper: Arc<Mutex<Keeper>>,
    own: OwnIdentity,
}

impl Keeping {
    /// As the settings say; none where they say nothing.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(identity) = &settings.identity else { return Ok(None) };
        let principal = identity.principal().context("identity.workload is none")?;
        let origin = identity.origin(&settings.node).context("identity has neither authority nor files")?;
        let keeper = Arc::new(Mutex::new(Keeper::new(origin, &identity.trust_domain)));
        let identities = Arc::new(ArcSwapOption::empty());
        Ok(Some(Self { keeper, own: OwnIdentity { node: settings.node.as_str().into(), principal, identities } }))
    }

    /// Who the node is, and what its tunnels are made with.
    pub(crate) fn own(&self) -> &OwnIdentity {
        &self.own
    }

    /// Brings and renews what is due.
    pub(crate) fn look(&self, wiring: Option<&Wiring>) {
        let mut wanted: BTreeSet<Principal> = wiring.map(Wiring::principals).unwrap_or_default();
        wanted.insert(self.own.principal.clone());
        let mut state = std::hash::RandomState::new();
        let roll = move || {
            use std::hash::BuildHasher as _;
            let roll = state.hash_one(0);
            state = std::hash::RandomState::new();
            roll
        };
        if let Some(identities) = self.keeper().follow(&wanted, SystemTime::now(), roll) {
            tracing::info!(certificates = wanted.len(), "identities are in force");
            self.own.identities.store(Some(identities));
        }
    }

    /// For who asks how it is.
    pub(crate) fn view(&self) -> Arc<dyn IdentityView> {
        Arc::new(self.clone())
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentityView for Keeping {
    fn states(&self) -> Vec<IdentityState> {
        self.keeper().states()
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.keeper().failure().cloned()
    }

    fn authority_ends(&self) -> Option<SystemTime> {
        self.keeper().authority_ends()
    }
}
