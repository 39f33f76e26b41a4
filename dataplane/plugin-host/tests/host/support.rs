//! What tests of the host have in common: one engine, plugins by name, and exchanges.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version, request, response};
use weir_core::name::{ClusterName, ServiceName};
use weir_core::plugin::Limits;
use weir_plugin_host::{Denied, Engine, Facts, HttpContext, Module, Nowhere, Options, Plugin, Scopes, StartError, Vm};

/// The engine of all tests of this process: making one reserves address space.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

/// A plugin that was built from source; see `make plugins`.
pub(crate) fn built(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins").join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `make plugins` first", path.display()))
}

/// Options with this configuration.
pub(crate) fn options(configuration: &str) -> Options {
    Options {
        name: "test".into(),
        root_id: "root".into(),
        vm_id: "vm".into(),
        vm_configuration: Bytes::from_static(b"vm configuration"),
        configuration: Bytes::copy_from_slice(configuration.as_bytes()),
        environment: ["A=1".into(), "B=two".into()].into(),
        limits: Limits::default(),
        denied: Denied::default(),
        upstreams: None,
    }
}

/// A plugin of these bytes.
pub(crate) fn plugin(bytes: &[u8], options: Options) -> Arc<Plugin> {
    Plugin::new(Module::compile(engine(), bytes).unwrap(), options, &Scopes::default())
}

/// A plugin in the text form of WebAssembly: a whole module, but for what every plugin needs.
pub(crate) fn text(body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
            {body}
            (func (export "proxy_abi_version_0_2_1"))
            (global $next (mut i32) (i32.const 4096))
            (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $next))
                (global.set $next (i32.add (global.get $next) (local.get $size)))
                (local.get $at)))"#
    );
    wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}"))
}

/// An instance that reaches nothing.
pub(crate) fn start(plugin: &Arc<Plugin>) -> Result<Rc<Vm>, StartError> {
    Vm::start(plugin, Rc::new(Nowhere))
}

/// An exchange of an instance.
pub(crate) fn open(vm: &Rc<Vm>) -> HttpContext {
    let facts = Facts {
        source: "10.0.0.1:1234".parse().unwrap(),
        destination: "10.1.0.1:80".parse().unwrap(),
        connection: 7,
        version: Some(Version::HTTP_11),
        scheme: "http",
        server_name: None,
        tls_version: None,
        started: SystemTime::now(),
        revision: 3,
        service: ClusterName { service: ServiceName::new("default", "a"), port: 80 },
        workload: None,
        decided: weir_plugin_host::Decided::default(),
    };
    vm.open(facts).unwrap()
}

/// The head of a request.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> request::Parts {
    let builder = Request::builder().uri(path).header("host", "example.org");
    headers
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

/// The head of a response.
pub(crate) fn ok(headers: &[(&str, &str)]) -> response::Parts {
    let builder = Response::builder();
    headers
        .iter()
        .fold(builder, |builder, (name, value)| builder.header(*name, *value))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

/// A header's values.
pub(crate) fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}
