//! Plugins are made ready when the publisher wants them: their modules are brought, compiled and tried.

use std::path::Path;
use std::time::{Duration, Instant};

use weir_core::plugin::{Loaded, ModuleLocation, ModuleSource, Plugin};
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Loader, Part};
use weir_plugin_modules::{Missing, Modules, Remote};
use weir_revisions::{Preparation, Unready};

use crate::settings::Settings;

/// How long a change waits for modules that come from elsewhere. After that it is refused, and tried again when they are
/// there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What makes plugins ready.
pub(crate) struct Plugins {
    modules: Modules,
    loader: Loader,
}

impl Preparation for Plugins {
    fn prepare(&mut self, candidate: &Snapshot) -> Vec<Unready> {
        let until = Instant::now() + PATIENCE;
        let mut unready = Vec::new();
        for plugin in candidate.plugins() {
            for part in parts(plugin) {
                unready.extend(self.load(plugin, part, until).err());
            }
        }
        self.loader.sweep();
        unready
    }
}

/// What is still to be loaded of a plugin.
fn parts(plugin: &Plugin) -> impl Iterator<Item = (Part, &ModuleSource)> {
    let is_new = |loaded: &Loaded| !loaded.is_set();
    let own = is_new(&plugin.loaded).then_some((Part::Plugin, &plugin.module));
    let shadow = plugin.shadow.as_ref().filter(|shadow| is_new(&shadow.loaded));
    own.into_iter().chain(shadow.map(|shadow| (Part::Shadow, &shadow.module)))
}

impl Plugins {
    /// With files, registries and a cache as the settings have them.
    pub(crate) fn new(settings: &Settings) -> Self {
        let kept = settings.state.join("plugins");
        let remote = Remote::new(settings.plugins.registries.clone(), settings.plugins.authorities.clone());
        Self {
            modules: Modules::new(settings.plugins_folder(), Some(&kept.join("modules")), remote),
            loader: Loader::new(Some(kept.join("compiled"))),
        }
    }

    /// Without a node: with files below a folder, and nothing that comes from elsewhere.
    pub(crate) fn below(folder: &Path) -> Self {
        Self { modules: Modules::new(folder, None, Remote::new(Vec::new(), None)), loader: Loader::new(None) }
    }

    /// What is wrong with the plugins whose modules are files here, and how many modules are not.
    pub(crate) fn check(&mut self, candidate: &Snapshot) -> (Vec<Unready>, usize) {
        let (mut unready, mut elsewhere) = (Vec::new(), 0);
        for plugin in candidate.plugins() {
            for (part, source) in parts(plugin) {
                match source.from {
                    ModuleLocation::File(_) | ModuleLocation::Layout { .. } => {
                        unready.extend(self.load(plugin, (part, source), Instant::now()).err());
                    }
                    ModuleLocation::Url(_) | ModuleLocation::Image { .. } => elsewhere += 1,
                }
            }
        }
        (unready, elsewhere)
    }

    fn load(&mut self, plugin: &Plugin, (part, source): (Part, &ModuleSource), until: Instant) -> Result<(), Unready> {
        let unready = |field, message, again| Unready { object: plugin.name.clone(), field, message, again };
        let bytes = self.modules.read(source, until);
        let bytes =
            bytes.map_err(|Missing { field, message, again }| unready(field_of(part, field), message, again))?;
        self.loader.load(plugin, part, &bytes).map_err(|error| unready(error.field, error.message, None))
    }
}

/// A field of what says where a module comes from.
fn field_of(part: Part, field: &str) -> &'static [&'static str] {
    match (part, field) {
        (Part::Plugin, "file") => &["spec", "module", "file"],
        (Part::Plugin, "url") => &["spec", "module", "url"],
        (Part::Plugin, "image") => &["spec", "module", "image"],
        (Part::Plugin, "layout") => &["spec", "module", "layout"],
        (Part::Plugin, "sha256") => &["spec", "module", "sha256"],
        (Part::Plugin, _) => &["spec", "module"],
        (Part::Shadow, _) => &["spec", "shadow", "module"],
    }
}
