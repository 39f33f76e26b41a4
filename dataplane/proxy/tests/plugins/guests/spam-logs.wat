;; It logs ten thousand lines for each request.
(module
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (data (i32.const 16) "spam")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $count i32)
        (loop $again
            (drop (call $log (i32.const 2) (i32.const 16) (i32.const 4)))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 10000))))
        (i32.const 0)))
