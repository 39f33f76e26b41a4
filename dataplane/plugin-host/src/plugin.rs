//! A plugin: a module with a configuration, and what all its instances have in common.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use weir_core::name::ClusterName;
use weir_core::plugin::Limits;

use crate::comparison::Comparison;
use crate::host::Denied;
use crate::metrics::{Metric, Metrics};
use crate::module::Module;
use crate::shared::{Scopes, Shared};
use crate::stats::{Stats, Totals};

/// What a plugin is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called in logs and metrics, and what it reads as `plugin_name`.
    pub name: Box<str>,
    /// What it reads as `plugin_root_id`: a module with several plugins chooses by it.
    pub root_id: Box<str>,
    /// Plugins that name the same share their data and queues. Otherwise it is the plugin's own.
    pub vm_id: Box<str>,
    /// What `proxy_on_vm_start` is given.
    pub vm_configuration: Bytes,
    /// What `proxy_on_configure` is given.
    pub configuration: Bytes,
    /// Environment variables, as `NAME=value`.
    pub environment: Box<[Box<str>]>,
    /// What it may use.
    pub limits: Limits,
    /// What it may not call of the host.
    pub denied: Denied,
    /// The services that it may call; all of them where nothing is said.
    pub upstreams: Option<Box<[ClusterName]>>,
}

/// A plugin. All workers have the same one, each with an instance of its own.
#[derive(Debug)]
pub struct Plugin {
    pub(crate) options: Options,
    pub(crate) module: Module,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Metrics,
    /// What its instances count.
    stats: Mutex<Counted>,
    health: Mutex<Health>,
    /// What became of it beside another, where it is tried out.
    comparison: Comparison,
}

/// How it is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// How its last instance failed, and when.
    pub last_failure: Option<(SystemTime, Box<str>)>,
    /// Until when it is switched off.
    pub off_until: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Counted {
    live: Vec<Arc<Stats>>,
    /// Of those that are gone.
    past: Totals,
}

impl Plugin {
    /// A plugin of this module.
    pub fn new(module: Module, options: Options, scopes: &Scopes) -> Arc<Self> {
        let shared = scopes.scope(&options.vm_id);
        Arc::new(Self {
            options,
            module,
            shared,
            metrics: Metrics::default(),
            stats: Mutex::default(),
            health: Mutex::default(),
            comparison: Comparison::default(),
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What it runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Whether it may call this service.
    pub fn may_call(&self, service: &ClusterName) -> bool {
        self.options.upstreams.as_ref().is_none_or(|allowed| allowed.contains(service))
    }

    /// What it may use.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let off_until = health.off_until.filter(|until| *until > SystemTime::now());
        Health { off_until, ..health }
    }

    pub(crate) fn on_failure(&self, reason: String) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.last_failure = Some((SystemTime::now(), reason.into()));
    }

    /// It is switched off for so long, at least in one worker.
    pub fn switch_off(&self, time: Duration) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.off_until = health.off_until.max(Some(SystemTime::now() + time));
    }

    /// What became of it beside another.
    pub fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// The metrics that it defines, as they are now.
    pub fn metrics(&self) -> Vec<Metric> {
        self.metrics.all()
    }

    /// What all its instances, also those that are gone, have done.
    pub fn totals(&self) -> Totals {
        let counted = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        counted.live.iter().fold(counted.past.clone(), |totals, stats| totals.plus(&stats.totals()))
    }

    /// Counters for one more instance.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        let mut counted = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { live, past } = &mut *counted;
        live.retain(|stats| {
            let is_live = Arc::strong_count(stats) > 1;
            if !is_live {
                *past = past.clone().plus(&Totals { memory: 0, instances: 0, ..stats.totals() });
            }
            is_live
        });
        let stats = Arc::new(Stats::default());
        live.push(Arc::clone(&stats));
        stats
    }
}
