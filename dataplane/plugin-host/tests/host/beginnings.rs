//! What a plugin begins with: its configurations, and what WASI tells it; and how it ends.

use std::task::{Context, Poll, Waker};

use crate::support::{get, open, options, plugin, start, text, values};
use weir_plugin_host::Step;

/// Keeps the VM's configuration and the environment when it starts, and says both in headers, with what the functions of WASI have returned.
const MODULE: &str = r#"
    (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_unstable" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "x-vm")
    (data (i32.const 16) "x-environment")
    (data (i32.const 32) "x-wasi")
    (data (i32.const 48) "yes")
    (global $good (mut i32) (i32.const 0))
    ;; At 100 where the configuration is and how long it is, at 108 how many variables there are and how many bytes.
    (func (export "proxy_on_vm_start") (param i32) (param $size i32) (result i32)
        (if (call $buffer (i32.const 6) (i32.const 0) (local.get $size) (i32.const 100) (i32.const 104))
            (then (return (i32.const 0))))
        (drop (call $sizes (i32.const 108) (i32.const 112)))
        (drop (call $environ (i32.const 200) (i32.const 300)))
        (global.set $good (i32.and
            (i32.and
                (i32.eqz (call $random (i32.const 400) (i32.const 16)))
                (i64.ne (i64.load (i32.const 400)) (i64.load (i32.const 408))))
            (i32.and
                (i32.and
                    (i32.eqz (call $clock (i32.const 0) (i64.const 0) (i32.const 420)))
                    (i64.gt_u (i64.load (i32.const 420)) (i64.const 1700000000000000000)))
                (i32.eq (call $prestat (i32.const 3) (i32.const 440)) (i32.const 8)))))
        (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $add (i32.const 0) (i32.const 0) (i32.const 4) (i32.load (i32.const 100)) (i32.load (i32.const 104))))
        ;; The second of them, from its place to the NUL that ends all.
        (drop (call $add (i32.const 0) (i32.const 16) (i32.const 13) (i32.load (i32.const 204))
            (i32.sub (i32.add (i32.const 299) (i32.load (i32.const 112))) (i32.load (i32.const 204)))))
        (drop (call $add (i32.const 0) (i32.const 32) (i32.const 6) (i32.const 48) (i32.mul (global.get $good) (i32.const 3))))
        (i32.sub (i32.load (i32.const 108)) (i32.const 2)))"#;

#[test]
fn the_vm_has_a_configuration_and_an_environment() {
    let vm = start(&plugin(&text(MODULE), options(""))).unwrap();
    let mut head = get("/", &[]);
    assert!(matches!(open(&vm).on_request_headers(&mut head, true), Step::Continue));
    let found = ["x-vm", "x-environment", "x-wasi"].map(|name| values(&head.headers, name));
    assert_eq!(found, [vec!["vm configuration"], vec!["B=two"], vec!["yes"]]);
}

/// Adds ten to a counter when it is asked whether it is done, and one when it goes; `DONE` is what it says, `CALL` what it does before.
const ENDING: &str = r#"
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $add (param i32 i64) (result i32)))
    (import "env" "proxy_done" (func $done (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "ends")
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (i32.and
            (i32.eqz (call $define (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16)))
            ;; Nobody waits for it now.
            (i32.eq (call $done) (i32.const 1))))
    (func (export "proxy_on_tick") (param i32) (drop (call $done)))
    (func (export "proxy_on_done") (param i32) (result i32)
        (drop (call $add (i32.load (i32.const 16)) (i64.const 10)))
        CALL
        (i32.const DONE))
    (func (export "proxy_on_delete") (param i32) (drop (call $add (i32.load (i32.const 16)) (i64.const 1))))"#;

#[test]
fn the_end_is_told_once_and_may_take_a_while() {
    for (done, call, is_gone, ends) in [
        ("1", "", true, 11),
        ("0", "", false, 11),
        ("0", "(drop (call $done))", true, 11),
        // What fails with its end has ended.
        ("1", "unreachable", true, 10),
    ] {
        let module = ENDING.replace("DONE", done).replace("CALL", call);
        let plugin = plugin(&text(&module), options(""));
        let vm = start(&plugin).unwrap();
        assert_eq!(vm.part(), is_gone, "{done} {call}");
        let mut context = Context::from_waker(Waker::noop());
        if !is_gone {
            assert_eq!(vm.poll_parted(&mut context), Poll::Pending);
            vm.tick();
        }
        assert_eq!(vm.poll_parted(&mut context), Poll::Ready(()));
        drop(vm);
        assert_eq!((plugin.metrics()[0].value, plugin.totals().traps), (ends, 0), "{done} {call}");
        // Without having been told before, it is told when it goes.
        let other = start(&plugin).unwrap();
        drop(other);
        assert_eq!(plugin.metrics()[0].value, 2 * ends, "{done} {call}");
    }
}
