;; It calls itself without end.
(module
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $deep (i32.const 1))))
