;; It adds a header of 64 KiB again and again, until it is refused.
(module
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (data (i32.const 16) "x-huge")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $count i32)
        (memory.fill (i32.const 65536) (i32.const 97) (i32.const 65536))
        (loop $again
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again
                (i32.and
                    (i32.lt_u (local.get $count) (i32.const 100))
                    (i32.eqz (call $add (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 65536) (i32.const 65536))))))
        (i32.const 0)))
