//! Plugins are made ready when the publisher wants them.

use weir_core::snapshot::Snapshot;
use weir_plugin_host::Loader;
use weir_revisions::{Preparation, Unready};

/// What loads plugins.
pub(crate) struct Plugins(pub(crate) Loader);

impl Preparation for Plugins {
    fn prepare(&mut self, candidate: &Snapshot) -> Vec<Unready> {
        let mut unready = Vec::new();
        for plugin in candidate.plugins().iter().filter(|plugin| !plugin.loaded.is_set()) {
            if let Err(error) = self.0.load(plugin) {
                unready.push(Unready { object: plugin.name.clone(), field: error.field, message: error.message });
            }
        }
        self.0.sweep();
        unready
    }
}
