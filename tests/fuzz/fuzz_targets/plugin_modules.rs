//! Modules of any bytes: they are refused, or they run; and what is said about them is the same both times.
#![no_main]

use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir_core::plugin::Limits;
use weir_plugin_host::{Denied, Engine, Inspection, Module, Nowhere, Options, Plugin, Scopes, Vm};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().expect("an engine"));

fuzz_target!(|data: &[u8]| {
    // As text as well: so seeds can be read.
    let parsed =
        if data.starts_with(b"(") { wat::parse_bytes(data).map(std::borrow::Cow::into_owned).ok() } else { None };
    let data = parsed.as_deref().unwrap_or(data);
    let (inspected, compiled) = (Inspection::of(data), Module::compile(&ENGINE, data));
    let runs = inspected.as_ref().is_ok_and(|inspection| inspection.refusal.is_none());
    assert!(!runs || compiled.is_ok(), "{inspected:?}: {compiled:?}");
    let Ok(module) = compiled else { return };
    let options = Options {
        name: "fuzz".into(),
        root_id: "".into(),
        vm_id: "vm".into(),
        vm_configuration: Bytes::new(),
        configuration: Bytes::new(),
        environment: Box::default(),
        limits: Limits { start: Duration::from_millis(10), ..Limits::default() },
        denied: Denied::default(),
        upstreams: None,
    };
    // Whether it wants to start is its own business.
    let _ = Vm::start(&Plugin::new(module, options, &Scopes::default()), Rc::new(Nowhere));
});
