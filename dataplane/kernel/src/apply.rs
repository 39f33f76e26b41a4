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
    // What guards answer is there before anything is guarded by them.
    maps::set(&mut maps.policies, &plan.policies, names::POLICIES)?;
    if plan.flags & Config::POLICIES != 0 {
        set_flags(maps, plan.flags)?;
    }
    maps.set_places(&plan.places)?;
    maps.set_sets(&plan.sets)?;
    maps::set(&mut maps.services, &plan.services, names::SERVICES)?;
    maps::set(&mut maps.netns, &plan.netns, names::NETNS)?;
    maps::set(&mut maps.pods, &plan.pods, names::PODS)
}

/// Removes what is no longer wanted, and has flows judged again where policies are others now.
pub(crate) fn remove(maps: &mut Maps, plan: &Plan, before: &State) -> Result<(), KernelError> {
    maps::remove(&mut maps.services, &plan.services, names::SERVICES)?;
    maps.remove_sets(&plan.sets, before)?;
    maps::remove(&mut maps.netns, &plan.netns, names::NETNS)?;
    maps::remove(&mut maps.pods, &plan.pods, names::PODS)?;
    maps.remove_places(&plan.places)?;
    maps::remove(&mut maps.policies, &plan.policies, names::POLICIES)?;
    maps::remove(&mut maps.node_addresses, &plan.node_addresses, names::NODE_ADDRESSES)?;
    set_flags(maps, plan.flags)?;
    if plan.changes_policy() {
        let config = maps.config()?;
        maps.set_config(Config { generation: config.generation.wrapping_add(1), ..config })?;
    }
    Ok(())
}

fn set_flags(maps: &mut Maps, flags: u32) -> Result<(), KernelError> {
    let config = maps.config()?;
    let flags = config.flags & !Config::POLICIES | flags;
    if flags == config.flags { Ok(()) } else { maps.set_config(Config { flags, ..config }) }
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
    add!(pods, netns, places, services, sets, policies, node_addresses);
    applied
}
