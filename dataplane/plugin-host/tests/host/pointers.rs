//! Host functions that are called with numbers that mean nothing: each answers with a status, and nothing else happens.

use std::fmt::Write as _;

use crate::functions::FUNCTIONS;
use crate::support::{get, ok, open, options, plugin, start, text};
use weir_plugin_host::{Direction, Step};

/// Bytes of the guest's memory: two pages.
const MEMORY: u32 = 128 << 10;

/// Where the guest's memory begins and ends, and what is nowhere near.
const EDGES: [u32; 12] =
    [0, 1, 7, 8, MEMORY - 5, MEMORY - 4, MEMORY - 1, MEMORY, MEMORY + 1, 1 << 31, u32::MAX - 3, u32::MAX];

/// A module that makes these calls when it sees a request's headers, a response's, and when the exchange ends.
fn module(calls: &[(usize, Vec<u32>)]) -> Vec<u8> {
    let mut body = String::new();
    for (name, parameters) in FUNCTIONS {
        let parameters: String =
            parameters.chars().map(|one| if one == 'I' { " (param i64)" } else { " (param i32)" }).collect();
        let result = if name.starts_with("emscripten") { "" } else { "(result i32)" };
        let _ = writeln!(body, r#"(import "env" "{name}" (func ${name}{parameters} {result}))"#);
    }
    let _ = writeln!(body, r#"(memory (export "memory") 2) (func $calls"#);
    for (function, arguments) in calls {
        let (name, parameters) = FUNCTIONS[*function];
        let arguments: String = parameters
            .chars()
            .zip(arguments)
            .map(|(one, value)| format!("({}.const {value}) ", if one == 'I' { "i64" } else { "i32" }))
            .collect();
        let call = format!("(call ${name} {arguments})");
        let _ = match name.starts_with("emscripten") {
            true => writeln!(body, "{call}"),
            false => writeln!(body, "(drop {call})"),
        };
    }
    let _ = writeln!(
        body,
        r#") (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $calls) (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $calls) (i32.const 0))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $calls) (i32.const 0))
        (func (export "proxy_on_log") (param i32) (call $calls))"#
    );
    text(&body)
}

/// Runs them through an exchange; the instance must live on.
fn check(calls: &[(usize, Vec<u32>)]) {
    let plugin = plugin(&module(calls), options("a configuration"));
    let vm = start(&plugin).unwrap();
    let context = open(&vm);
    let mut head = get("/path?query", &[("x-one", "1"), ("x-one", "2")]);
    let step = context.on_request_headers(&mut head, false);
    assert!(!matches!(step, Step::Failed), "{calls:?}");
    context.on_body(Direction::Request, &mut "a body".into(), true);
    context.on_response_headers(&mut ok(&[("x-two", "2")]), true);
    drop(context);
    let totals = plugin.totals();
    assert!(vm.is_alive() && totals.traps == 0 && totals.timeouts == 0, "{calls:?}: {totals:?}");
}

#[test]
fn every_edge_in_every_place() {
    let lengths = FUNCTIONS.iter().map(|(_, parameters)| parameters.len());
    for (function, length) in lengths.enumerate() {
        let mut calls: Vec<(usize, Vec<u32>)> = EDGES.iter().map(|edge| (function, vec![*edge; length])).collect();
        for place in 0..length {
            for edge in EDGES {
                let arguments = (0..length).map(|at| if at == place { edge } else { 8 }).collect();
                calls.push((function, arguments));
            }
        }
        check(&calls);
    }
}

#[test]
fn any_mixture_of_calls() {
    // Numbers that are the same each time (xorshift), so that a failure comes again.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) as usize % below
    };
    for _ in 0..60 {
        let mut calls = Vec::new();
        for _ in 0..100 {
            let function = next(FUNCTIONS.len());
            let arguments = FUNCTIONS[function].1.chars().map(|_| match next(3) {
                0 => EDGES[next(EDGES.len())],
                1 => next(16) as u32,
                _ => next(MEMORY as usize) as u32,
            });
            calls.push((function, arguments.collect()));
        }
        check(&calls);
    }
}
