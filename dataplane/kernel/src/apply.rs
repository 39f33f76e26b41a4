//! Carries plans out, in an order in which a packet in between is never judged by half: what a
//! rule refers to is there before the rule, and goes after it.

use weir_ebpf_common::{Config, maps as names};

use crate::{
    KernelError,
    maps::{self, Maps},
    plan::{Plan, State},
};

/// What an application changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Applied {
    /// Map entries that were new.
    pub added: usize,
    /// Map entries that got another value.
    pub changed: usize,
    /// Map entries that went.
    pub removed: usize,
    /// Programs attached to links.
    pub attached: usize,
    /// Programs detached, or dead pins collected.
    pub detached: usize,
    /// Things that someone else had changed since the last application.
    pub drifted: usize,
}

/// Writes what is new. Nothing is removed yet.
pub(crate) fn add(maps: &mut Maps, plan: &Plan) -> Result<(), KernelError> {
    maps::set(&mut maps.node_addresses, &plan.node_addresses, names::NODE_ADDRESSES)?;
    maps.set_identities(&plan.identities)?;
    maps::set(&mut maps.policies, &plan.policies, names::POLICIES)?;
    set_flags(maps, plan.flags)?;
    maps.set_sets(&plan.sets)?;
    maps::set(&mut maps.services, &plan.services, names::SERVICES)?;
    maps::set(&mut maps.netns, &plan.netns, names::NETNS)?;
    maps::set(&mut maps.pods, &plan.pods, names::PODS)
}

/// Removes what is no longer wanted.
pub(crate) fn remove(maps: &mut Maps, plan: &Plan, before: &State) -> Result<(), KernelError> {
    maps::remove(&mut maps.services, &plan.services, names::SERVICES)?;
    maps.remove_sets(&plan.sets, before)?;
    maps::remove(&mut maps.policies, &plan.policies, names::POLICIES)?;
    maps::remove(&mut maps.netns, &plan.netns, names::NETNS)?;
    maps::remove(&mut maps.pods, &plan.pods, names::PODS)?;
    maps.remove_identities(&plan.identities)?;
    maps::remove(&mut maps.node_addresses, &plan.node_addresses, names::NODE_ADDRESSES)
}

fn set_flags(maps: &mut Maps, flags: u32) -> Result<(), KernelError> {
    const OWN: u32 = Config::POLICIES | Config::DEFAULT_DENY | Config::DEFAULT_PROXY;
    let mut config = maps.config()?;
    config.flags = config.flags & !OWN | flags;
    maps.set_config(config)
}

/// Counts of a plan.
pub(crate) fn summary(plan: &Plan) -> Applied {
    let mut applied = Applied::default();
    macro_rules! add {
        ($($field:ident),*) => {$(
            applied.added += plan.$field.added;
            applied.changed += plan.$field.set.len() - plan.$field.added;
            applied.removed += plan.$field.remove.len();
        )*};
    }
    add!(pods, netns, identities, services, sets, policies, node_addresses);
    applied
}
