//! The instances of a worker: one of each plugin, and anew when it has failed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use weir_core::plugin::{Loaded, Plugin};
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Environment, Part, Vm};

use super::breaker::{Breaker, Failure};
use super::outside::Outside;
use crate::worker::Worker;

/// How long an instance that is not configured any more may take to do what it has to do, and how many may.
const LAST_WORDS: Duration = Duration::from_secs(10);
const PARTING: usize = 16;

/// A worker's instances.
#[derive(Debug)]
pub(crate) struct Instances {
    /// By the address of what the snapshot has of a plugin.
    slots: RefCell<HashMap<usize, Slot, RandomState>>,
    outside: Rc<Outside>,
    /// One more for each instance that has something to do before it goes.
    parting: Rc<()>,
}

#[derive(Debug)]
struct Slot {
    /// Keeps the address from being another's.
    plugin: Arc<Plugin>,
    part: Part,
    vm: Option<Rc<Vm>>,
    /// The revision that was in force when it began.
    since: u64,
    breaker: Breaker,
}

/// What the host has made of a part of a plugin.
fn loaded(plugin: &Plugin, part: Part) -> Option<&Loaded> {
    match part {
        Part::Plugin => Some(&plugin.loaded),
        Part::Shadow => plugin.shadow.as_ref().map(|shadow| &shadow.loaded),
    }
}

fn key(plugin: &Plugin, part: Part) -> usize {
    loaded(plugin, part).map_or(0, |loaded| std::ptr::from_ref(loaded).addr())
}

fn parts(plugin: &Plugin) -> impl Iterator<Item = Part> {
    [Some(Part::Plugin), plugin.shadow.as_ref().map(|_| Part::Shadow)].into_iter().flatten()
}

impl Instances {
    /// None yet, in this worker.
    pub(crate) fn new(worker: Weak<Worker>) -> Self {
        Self { slots: RefCell::default(), outside: Rc::new(Outside(worker)), parting: Rc::new(()) }
    }

    /// The instance of a plugin for what comes from a client; `None` when there is none for it at this moment.
    pub(crate) fn of(&self, plugin: &Arc<Plugin>, part: Part, client: Option<IpAddr>, now: u64) -> Option<Rc<Vm>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(key(plugin, part)).or_insert_with(|| Slot {
            plugin: Arc::clone(plugin),
            part,
            vm: None,
            since: 0,
            breaker: Breaker::default(),
        });
        if let Some(vm) = slot.vm.take_if(|vm| !vm.is_alive()) {
            slot.on_failure(Failure { client: vm.blamed(), is_stopped: vm.was_stopped(), at: now });
        }
        if !slot.breaker.admits(client, now) {
            return None;
        }
        if slot.vm.is_none() && slot.breaker.may_start(now) {
            slot.start(&self.outside, now);
        }
        slot.vm.clone()
    }

    /// An exchange ended well.
    pub(crate) fn on_success(&self, plugin: &Plugin) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&key(plugin, Part::Plugin)) {
            slot.breaker.on_success();
        }
    }

    /// Lets go of what is not configured any more, and begins what is, so that plugins that do something by themselves
    /// need not wait for a request. Exchanges under way keep their instances.
    pub(crate) fn follow(&self, snapshot: &Snapshot, now: u64) {
        if !snapshot.has_plugins() && self.slots.borrow().is_empty() {
            return;
        }
        let all = || snapshot.plugins().iter().flat_map(|plugin| parts(plugin).map(move |part| (plugin, part)));
        let is_left = |key: &usize, _: &mut Slot| !all().any(|(plugin, part)| self::key(plugin, part) == *key);
        let left: Vec<_> = self.slots.borrow_mut().extract_if(is_left).filter_map(|(_, slot)| slot.vm).collect();
        left.into_iter().for_each(|vm| self.part(vm));
        for (plugin, part) in all() {
            let sequence = snapshot.sequence.0;
            let is_older = |slot: &&Slot| slot.since < sequence;
            let before = self.slots.borrow().get(&key(plugin, part)).filter(is_older).and_then(|slot| slot.vm.clone());
            self.of(plugin, part, None, now);
            before.iter().for_each(|vm| vm.on_revision(sequence));
        }
    }

    /// An instance goes, when it has done what it wants to do before.
    fn part(&self, vm: Rc<Vm>) {
        if vm.part() || Rc::strong_count(&self.parting) > PARTING {
            return;
        }
        let place = Rc::clone(&self.parting);
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(LAST_WORDS, std::future::poll_fn(|context| vm.poll_parted(context))).await;
            drop((vm, place));
        });
    }
}

impl Slot {
    fn start(&mut self, outside: &Rc<Outside>, now: u64) {
        // Unloaded, it was refused, and said so.
        let Some(host) = loaded(&self.plugin, self.part).and_then(Loaded::get) else { return };
        match Vm::start(&host, Rc::clone(outside) as Rc<dyn Environment>) {
            Ok(vm) => (self.vm, self.since) = (Some(vm), outside.revision()),
            Err(error) => {
                tracing::warn!(plugin = host.name(), "the plugin has no instance: {error}");
                self.on_failure(Failure { client: None, is_stopped: false, at: now });
            }
        }
    }

    fn on_failure(&mut self, failure: Failure) {
        let Some(off) = self.breaker.on_failure(failure) else { return };
        let host: Option<Arc<weir_plugin_host::Plugin>> = loaded(&self.plugin, self.part).and_then(Loaded::get);
        if let Some(host) = host {
            let seconds = off.as_secs();
            tracing::warn!(plugin = host.name(), "the plugin keeps failing, and is switched off for {seconds} s");
            host.switch_off(off);
        }
    }
}

/// Milliseconds, as the worker's clock counts.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
