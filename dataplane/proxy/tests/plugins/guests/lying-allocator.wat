;; What it allocates is beyond its memory.
(module
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 0x7ffffff0))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $pairs (i32.const 0) (i32.const 16) (i32.const 20))) (then (unreachable)))
        (i32.const 0)))
