;; It calls a service again and again, without end, until it is refused.
(module
    (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))
    (data (i32.const 16) "a:80")
    ;; :method GET, :path /, :authority a
    (data (i32.const 64) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $count i32)
        (loop $again
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $again
                (i32.and
                    (i32.lt_u (local.get $count) (i32.const 1000))
                    (i32.eqz (call $call (i32.const 16) (i32.const 4) (i32.const 64) (i32.const 61) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 32))))))
        ;; As many as there may be, with those of earlier requests, and the one that was refused.
        (if (i32.gt_u (local.get $count) (i32.const 65)) (then (unreachable)))
        (i32.const 0)))
