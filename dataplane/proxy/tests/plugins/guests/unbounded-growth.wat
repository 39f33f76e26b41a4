;; It takes all memory that it can get, 1 MiB at a time, and fails when it gets no more.
(module
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (loop $again
            (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (unreachable)))
