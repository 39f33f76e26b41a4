//! Plugins that do what they should not: what the host does about each.

use std::time::{Duration, Instant};

use crate::support::{engine, get, open, options, plugin, start, text};
use weir_core::plugin::Limits;
use weir_plugin_host::{Module, ModuleError, Options, StartError, Step, Totals};

const HEADERS: &str = r#"(export "proxy_on_request_headers") (param i32 i32 i32) (result i32)"#;

/// What becomes of a request whose headers are given to this callback.
fn headers(body: &str, options: Options) -> (Step, Totals, bool) {
    let module = text(&format!(r#"(memory (export "memory") 2) (func {HEADERS} {body})"#));
    let vm = start(&plugin(&module, options)).unwrap();
    let context = open(&vm);
    let step = context.on_request_headers(&mut get("/", &[]), true);
    drop(context);
    (step, vm.plugin().totals(), vm.is_alive())
}

#[test]
fn a_callback_that_traps_ends_its_instance_only() {
    let depth = r#"(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))"#;
    let cases = [
        ("unreachable", "unreachable", ""),
        ("beyond its memory", "(i32.load (i32.const 0x7ffffff0))", ""),
        ("division by zero", "(i32.div_u (i32.const 1) (i32.const 0))", ""),
        ("deep recursion", "(call $deep (i32.const 1))", depth),
    ];
    for (what, body, more) in cases {
        let module = text(&format!(r#"(memory (export "memory") 2) {more} (func {HEADERS} {body})"#));
        let plugin = plugin(&module, options(""));
        let (broken, other) = (start(&plugin).unwrap(), start(&plugin).unwrap());
        let (context, beside) = (open(&broken), open(&broken));
        assert!(matches!(context.on_request_headers(&mut get("/", &[]), true), Step::Failed), "{what}");
        assert!(!broken.is_alive() && other.is_alive(), "{what}");
        // Nothing more can be asked of it, by nobody.
        assert!(matches!(beside.on_request_headers(&mut get("/", &[]), true), Step::Failed), "{what}");
        let totals = plugin.totals();
        assert_eq!((totals.traps, totals.timeouts, totals.instances), (1, 0, 1), "{what}");
    }
}

#[test]
fn a_callback_that_computes_for_ever_is_ended() {
    let began = Instant::now();
    let (step, totals, is_alive) = headers("(loop $again (br $again)) (i32.const 0)", options(""));
    assert!(matches!(step, Step::Failed) && !is_alive);
    assert_eq!((totals.traps, totals.timeouts), (0, 1));
    // It may use 3 ms; this machine may do other things meanwhile.
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn memory_ends_where_the_limit_is() {
    // It grows by 1 MiB at a time and says how often it could.
    let body = r#"(local $count i32)
        (block $full (loop $again
            (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br $again)))
        (if (i32.ne (local.get $count) (i32.const 3)) (then unreachable))
        (i32.const 0)"#;
    let limits = Limits { memory: 4 << 20, ..Limits::default() };
    let (step, totals, is_alive) = headers(body, Options { limits, ..options("") });
    assert!(matches!(step, Step::Continue) && is_alive);
    assert_eq!(totals.memory, (3 << 20) + (128 << 10));
}

#[test]
fn a_start_that_fails_says_where() {
    let with = |more: &str, limits: Limits| {
        let module = text(&format!(r#"(memory (export "memory") 2) {more}"#));
        let plugin = plugin(&module, Options { limits, ..options("") });
        start(&plugin).map(drop).unwrap_err()
    };
    let short = Limits { start: Duration::from_millis(5), ..Limits::default() };
    let callback = |name: &str, body: &str| format!(r#"(func (export "{name}") (param i32 i32) (result i32) {body})"#);
    let cases = [
        (callback("proxy_on_vm_start", "(i32.const 0)"), "proxy_on_vm_start refuses to start"),
        (callback("proxy_on_configure", "(i32.const 0)"), "proxy_on_configure refuses its configuration"),
        (
            callback("proxy_validate_configuration", "(i32.const 0)"),
            "proxy_validate_configuration refuses its configuration",
        ),
        (callback("proxy_on_configure", "unreachable"), "proxy_on_configure failed: "),
        (
            callback("proxy_on_configure", "(loop $again (br $again)) (i32.const 1)"),
            "it took more processor time than it may",
        ),
        (r#"(func (export "_start") unreachable)"#.to_owned(), "_start failed: "),
        (
            r#"(func (export "_initialize") (loop $again (br $again)))"#.to_owned(),
            "it took more processor time than it may",
        ),
    ];
    for (module, expected) in cases {
        let said = with(&module, short.clone()).to_string();
        assert!(said.contains(expected), "{module}: {said}");
    }
    let small = Limits { memory: 64 << 10, ..Limits::default() };
    assert!(matches!(with("", small), StartError::NoSlot(_)));
}

#[test]
fn a_module_that_cannot_run_says_why() {
    let memory = r#"(memory (export "memory") 1)"#;
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let cases = [
        (b"no module".to_vec(), "it cannot be compiled"),
        (wat::parse_str(format!("(module {memory} {malloc})")).unwrap(), "it exports no proxy_abi_version_*"),
        (
            wat::parse_str(format!(r#"(module {memory} {malloc} (func (export "proxy_abi_version_9_9_9")))"#)).unwrap(),
            "it exports proxy_abi_version_9_9_9",
        ),
        (wat::parse_str(format!("(module {marker} {malloc})")).unwrap(), "there is no memory with the name memory"),
        (wat::parse_str(format!("(module {marker} {memory})")).unwrap(), "neither proxy_on_memory_allocate nor malloc"),
        (
            text(
                r#"(import "env" "proxy_teleport" (func)) (import "env" "table" (table 1 funcref)) (memory (export "memory") 1)"#,
            ),
            "the function env.proxy_teleport, the table env.table",
        ),
        (
            text(r#"(import "env" "proxy_log" (func (param i64))) (memory (export "memory") 1)"#),
            "incompatible import type for `env::proxy_log`",
        ),
        (
            text(r#"(memory (export "memory") 1) (func (export "proxy_on_tick") (result i32) (i32.const 0))"#),
            "proxy_on_tick takes 0 numbers and gives 1; one that takes 1 and gives 0 of 32 bits can be called",
        ),
    ];
    for (bytes, expected) in cases {
        let said = Module::compile(engine(), &bytes).map(drop).unwrap_err();
        assert!(said.to_string().contains(expected), "{said} is not {expected}");
        if let ModuleError::Exports(_) | ModuleError::Imports(_) | ModuleError::Version(_) = said {
            assert!(!said.to_string().contains('\n'), "{said}");
        }
    }
}
