//! A plugin that calls the host with whatever comes: each call is a byte for the function and four (or eight) for each of its
//! parameters, and the same bytes are what pointers point at. No call takes the host down or ends the instance, except by
//! what the plugin itself computes.
#![no_main]

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use libfuzzer_sys::fuzz_target;
use weir_core::name::{ClusterName, ServiceName};
use weir_core::plugin::Limits;
use weir_plugin_host::{Decided, Denied, Direction, Engine, Facts, Module, Nowhere, Options, Plugin, Scopes, Vm};

#[path = "../../../dataplane/plugin-host/tests/host/functions.rs"]
mod functions;

use functions::FUNCTIONS;

/// A module that makes the calls that its configuration says, as many of them in each callback as there are.
fn module() -> String {
    let (mut imports, mut cases, mut labels) = (String::new(), String::new(), String::new());
    for (at, (name, parameters)) in FUNCTIONS.iter().enumerate() {
        let types: String =
            parameters.chars().map(|one| if one == 'I' { " (param i64)" } else { " (param i32)" }).collect();
        let has_result = !name.starts_with("emscripten");
        let result = if has_result { "(result i32)" } else { "" };
        let _ = writeln!(imports, r#"(import "env" "{name}" (func $f{at}{types} {result}))"#);
        let arguments: String =
            parameters.chars().map(|one| if one == 'I' { "(call $long) " } else { "(call $word) " }).collect();
        let call = format!("(call $f{at} {arguments})");
        let call = if has_result { format!("(drop {call})") } else { call };
        let _ = writeln!(cases, ") {call} (br $next)");
        let _ = write!(labels, " $case{at}");
    }
    let opened: String = (0..FUNCTIONS.len()).rev().map(|at| format!("(block $case{at} ")).collect();
    format!(
        r#"(module {imports}
            (import "env" "proxy_get_buffer_bytes" (func $read (param i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (global $at (mut i32) (i32.const 0))
            (global $end (mut i32) (i32.const 0))
            (func (export "proxy_abi_version_0_2_1"))
            ;; The same place again and again where there is no more: whoever asks for much gets what it deserves.
            (func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (local $place i32)
                (local.set $place (global.get $next))
                (if (i32.gt_u (i32.add (global.get $next) (local.get $size)) (i32.const 131072))
                    (then (global.set $next (i32.const 65536)))
                    (else (global.set $next (i32.add (global.get $next) (local.get $size)))))
                (local.get $place))
            (func (export "proxy_on_configure") (param i32) (param $size i32) (result i32)
                (drop (call $read (i32.const 7) (i32.const 0) (local.get $size) (i32.const 8) (i32.const 12)))
                (global.set $at (i32.load (i32.const 8)))
                (global.set $end (i32.add (global.get $at) (i32.load (i32.const 12))))
                (i32.const 1))
            (func $byte (result i32)
                (if (result i32) (i32.ge_u (global.get $at) (global.get $end))
                    (then (i32.const 0))
                    (else
                        (global.set $at (i32.add (global.get $at) (i32.const 1)))
                        (i32.load8_u (i32.sub (global.get $at) (i32.const 1))))))
            (func $word (result i32)
                (i32.or (i32.or (call $byte) (i32.shl (call $byte) (i32.const 8)))
                    (i32.or (i32.shl (call $byte) (i32.const 16)) (i32.shl (call $byte) (i32.const 24)))))
            (func $long (result i64)
                (i64.or (i64.extend_i32_u (call $word)) (i64.shl (i64.extend_i32_u (call $word)) (i64.const 32))))
            (func $run (local $count i32)
                (local.set $count (i32.const 8))
                (loop $next
                    (if (i32.or (i32.ge_u (global.get $at) (global.get $end)) (i32.eqz (local.get $count))) (then (return)))
                    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
                    (block $none {opened} (br_table{labels} $none (call $byte)) {cases} )
                    (br $next)))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
            (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
            (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $run) (i32.const 0))
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
            (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $run) (i32.const 0))
            (func (export "proxy_on_log") (param i32) (call $run)))"#
    )
}

static MODULE: LazyLock<Module> = LazyLock::new(|| {
    let bytes = wat::parse_str(module()).expect("the module is right");
    Module::compile(&Engine::new().expect("an engine"), &bytes).expect("it compiles")
});

fuzz_target!(|data: &[u8]| {
    if data.len() > 32_768 {
        return;
    }
    let options = Options {
        name: "fuzz".into(),
        root_id: "root".into(),
        vm_id: "vm".into(),
        vm_configuration: Bytes::from_static(b"vm"),
        configuration: Bytes::copy_from_slice(data),
        environment: ["A=1".into()].into(),
        limits: Limits { callback: std::time::Duration::from_secs(1), ..Limits::default() },
        denied: Denied::default(),
        upstreams: None,
    };
    let plugin = Plugin::new(MODULE.clone(), options, &Scopes::default());
    let vm = Vm::start(&plugin, Rc::new(Nowhere)).expect("it starts");
    let facts = Facts {
        source: ([10, 0, 0, 1], 1234).into(),
        destination: ([10, 1, 0, 1], 80).into(),
        connection: 7,
        version: Some(Version::HTTP_11),
        scheme: "http",
        server_name: None,
        started: SystemTime::now(),
        revision: 3,
        service: ClusterName { service: ServiceName::new("default", "a"), port: 80 },
        workload: None,
        decided: Decided::default(),
    };
    let context = vm.open(facts).expect("an exchange");
    let mut head = Request::get("/a?b=c").header("host", "a").header("x-a", "1").body(()).unwrap().into_parts().0;
    let _ = context.on_request_headers(&mut head, false);
    context.take_request(&mut head);
    let mut routing = weir_plugin_host::Routing::default();
    context.add_routing(&mut routing);
    let _ = context.on_body(Direction::Request, &mut Bytes::from_static(b"body"), true);
    let _ = context.on_trailers(Direction::Request, &mut HeaderMap::new());
    let mut head = Response::builder().header("x-b", "2").body(()).unwrap().into_parts().0;
    let _ = context.on_response_headers(&mut head, false);
    context.take_response(&mut head);
    let _ = context.on_body(Direction::Response, &mut Bytes::from_static(b"body"), true);
    drop(context);
    assert!(vm.is_alive(), "a call has ended the instance");
});
