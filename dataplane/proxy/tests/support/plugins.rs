//! Plugins for tests: `plugins/guests/probe`, which does what its configuration says.

use std::path::Path;
use std::sync::Arc;

use weir_core::name::ObjectName;
use weir_core::plugin::{ModuleLocation, ModuleSource, Plugin};
use weir_plugin_host::{Loader, Part};

use super::message::Message;
use super::upstream::{Upstream, response};
use super::world::World;

/// A plugin that does what these lines say; see `plugins/guests/probe`.
pub fn probe(name: &str, script: &str) -> Plugin {
    let module = ModuleSource { from: ModuleLocation::File("probe.wasm".into()), sha256: None };
    let plugin = Plugin::new(ObjectName::new("Plugin", "default", name), module);
    Plugin { configuration: script.as_bytes().into(), ..plugin }
}

/// The same, loaded.
pub fn loaded(plugins: impl IntoIterator<Item = Plugin>) -> Vec<Arc<Plugin>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins/probe.wasm");
    let bytes =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `make plugins` first", path.display()));
    loaded_of(plugins, &bytes)
}

/// The same, of another module.
pub fn loaded_of(plugins: impl IntoIterator<Item = Plugin>, bytes: &[u8]) -> Vec<Arc<Plugin>> {
    // What one test has compiled the others have, too.
    let mut loader = Loader::new(Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins")));
    let plugins = plugins.into_iter().map(|plugin| {
        loader.load(&plugin, Part::Plugin, bytes).unwrap();
        if plugin.shadow.is_some() {
            loader.load(&plugin, Part::Shadow, bytes).unwrap();
        }
        Arc::new(plugin)
    });
    plugins.collect()
}

pub fn world(upstream: &Upstream, scripts: &[&str]) -> World {
    let plugins = scripts.iter().enumerate().map(|(number, script)| probe(&format!("probe-{number}"), script));
    World::new(&[upstream.address]).plugins(loaded(plugins))
}

/// Answers with what came: the request's body.
pub fn echo() -> Upstream {
    Upstream::answering(|request: &Message| response(200, &request.body))
}

pub fn chunked(pieces: &[&str]) -> String {
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}
