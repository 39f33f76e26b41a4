//! The instances of a worker: one of each plugin, made when a request first needs it, and anew when it has failed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use weir_core::plugin::Plugin;
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Environment, Vm};

use super::outside::Outside;
use crate::worker::Worker;

/// How long it takes until there is a new instance after one has failed: at once the first time, then this, and each
/// time twice as long.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// A worker's instances.
#[derive(Debug)]
pub(crate) struct Instances {
    /// By the address of what the snapshot has of a plugin.
    slots: RefCell<HashMap<usize, Slot, RandomState>>,
    outside: Rc<Outside>,
}

#[derive(Debug)]
struct Slot {
    /// Keeps the address from being another's.
    plugin: Arc<Plugin>,
    vm: Option<Rc<Vm>>,
    /// Instances that have failed one after the other.
    failures: u32,
    /// When the worker's clock lets a new one be made, in milliseconds.
    not_before: u64,
}

fn key(plugin: &Arc<Plugin>) -> usize {
    Arc::as_ptr(plugin).addr()
}

impl Instances {
    /// None yet, in this worker.
    pub(crate) fn new(worker: Weak<Worker>) -> Self {
        Self { slots: RefCell::default(), outside: Rc::new(Outside(worker)) }
    }

    /// The instance of a plugin; `None` when there is none, and none can be made at this moment.
    pub(crate) fn of(&self, plugin: &Arc<Plugin>, now: u64) -> Option<Rc<Vm>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.entry(key(plugin)).or_insert_with(|| Slot {
            plugin: Arc::clone(plugin),
            vm: None,
            failures: 0,
            not_before: 0,
        });
        if let Some(vm) = &slot.vm {
            if vm.is_alive() {
                return Some(Rc::clone(vm));
            }
            slot.vm = None;
            slot.on_failure(now);
        }
        if now < slot.not_before {
            return None;
        }
        // Unloaded, it was refused, and said so.
        let started = Vm::start(&slot.plugin.loaded.get()?, Rc::clone(&self.outside) as Rc<dyn Environment>);
        match started {
            Ok(vm) => slot.vm = Some(Rc::clone(&vm)),
            Err(error) => {
                slot.on_failure(now);
                let plugin = &slot.plugin.name;
                tracing::warn!(%plugin, failures = slot.failures, "the plugin has no instance: {error}");
            }
        }
        slot.vm.clone()
    }

    /// An exchange ended well: what went wrong before is forgotten.
    pub(crate) fn on_success(&self, plugin: &Arc<Plugin>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(&key(plugin)) {
            slot.failures = 0;
        }
    }

    /// Lets go of what is not configured any more, and begins what is, so that plugins that do something by themselves
    /// need not wait for a request. Exchanges under way keep their instances.
    pub(crate) fn follow(&self, snapshot: &Snapshot, now: u64) {
        if !snapshot.has_plugins() && self.slots.borrow().is_empty() {
            return;
        }
        let current = snapshot.plugins();
        self.slots.borrow_mut().retain(|key, _| current.iter().any(|plugin| self::key(plugin) == *key));
        for plugin in current {
            let before = self.slots.borrow().get(&key(plugin)).and_then(|slot| slot.vm.clone());
            self.of(plugin, now);
            before.iter().for_each(|vm| vm.on_revision(snapshot.sequence.0));
        }
    }
}

impl Slot {
    fn on_failure(&mut self, now: u64) {
        let wait = match self.failures {
            0 => Duration::ZERO,
            count => BACKOFF.saturating_mul(1 << (count - 1).min(16)).min(LONGEST_BACKOFF),
        };
        self.failures += 1;
        self.not_before = now + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    }
}
