;; It defines a metric for every number.
(module
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $count i32)
        (loop $again
            (i32.store (i32.const 16) (i32.or (i32.const 0x41414141) (local.get $count)))
            (drop (call $define (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 32)))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $count) (i32.const 60))))
        (i32.const 0)))
