//! What a plugin begins with: its configurations, and what WASI tells it.

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
