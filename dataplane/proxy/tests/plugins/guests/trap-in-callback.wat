;; It traps in the callback CALLBACK, which is put in for each of them.
(module
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (func (export "CALLBACK") PARAMETERS (unreachable)))
