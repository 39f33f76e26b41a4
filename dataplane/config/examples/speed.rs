//! How long a folder of rules takes, by the step: `cargo run --release -p weir-config --example speed [FILES]`.

#![expect(clippy::print_stdout, reason = "it is run to be read")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_config::{Compiler, ParseCache, SourceFile, compile};
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

/// A rule like the first that people write, all of them for one service.
fn short_rule(number: usize) -> SourceFile {
    let text = format!(
        "apiVersion: weir.dev/v1
kind: RouteRule
metadata:
  name: rule-{number}
spec:
  services: [service-0]
  match:
    headers:
      x-user-tag:
        exact: user-{number}
  route:
    destination:
      host: service-{service}
      port: 8080
",
        service = number % 100
    );
    SourceFile::new(format!("rules/{number}.yaml"), text)
}

/// A rule that uses most of what a rule can have, for one service of a hundred.
fn rule(number: usize) -> SourceFile {
    let service = number % 100;
    let text = format!(
        "apiVersion: weir.dev/v1
kind: RouteRule
metadata:
  name: rule-{number}
  labels: {{team: vision}}
spec:
  services: [service-{service}]
  priority: 5
  match:
    - headers:
        x-user-tag: {{exact: user-{number}}}
        x-device: {{regex: \"camera-[0-9]+\"}}
      path: {{prefix: /v2/recognize}}
      method: [GET, POST]
    - cookies: {{session: {{prefix: \"{number}-\"}}}}
  route:
    destinations:
      - {{host: service-{service}, port: 8080, weight: 95}}
      - {{host: service-{next}, port: 8080, weight: 5}}
    sticky: {{header: x-user-id}}
  mirror: {{destination: {{host: service-{next}, port: 8080}}, percentage: 10}}
  timeouts: {{request: 5s, perTry: 1s}}
",
        next = (service + 1) % 100
    );
    SourceFile::new(format!("rules/{number}.yaml"), text)
}

fn service(number: usize) -> SourceFile {
    let text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: service-{number}}}
spec: {{clusterIP: 10.96.0.{number}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: service-{number}-1, labels: {{kubernetes.io/service-name: service-{number}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.42.0.{number}]}}, {{addresses: [10.42.1.{number}]}}]
ports: [{{name: http, port: 80}}]
"
    );
    SourceFile::new(format!("services/{number}.yaml"), text)
}

/// The shortest of several runs: what the machine can do when nobody else wants it.
fn shortest(what: &str, mut run: impl FnMut()) -> Duration {
    let times = (0..10).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    let shortest = times.min().unwrap_or_default();
    println!("{what:<42} {:>9.2} ms", shortest.as_secs_f64() * 1e3);
    shortest
}

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000);
    measure("short", (0..count).map(short_rule).chain((0..100).map(service)).collect());
    measure("long", (0..count).map(rule).chain((0..100).map(service)).collect());
    let text = |files: Vec<SourceFile>| files.into_iter().map(|file| file.text).collect::<Vec<_>>().join("---\n");
    // A file has a bound.
    let count = count.min(5_000);
    let one = SourceFile::new("all.yaml", text((0..count).map(rule).collect()));
    println!("{count} of the long rules in one file of {} KiB", one.text.len() / 1024);
    shortest("parse everything", || {
        assert!(!black_box(weir_config::parse(std::slice::from_ref(&one))).has_errors());
    });
}

fn measure(size: &str, files: Vec<SourceFile>) {
    let (count, bytes) = (files.len() - 100, files.iter().map(|file| file.text.len()).sum::<usize>());
    println!("{count} files with a {size} rule, 100 with a service and its slice, {} KiB", bytes / 1024);
    let mut files: Vec<_> = files.into_iter().map(Arc::new).collect();
    let all = shortest("parse everything", || {
        black_box(weir_config::parse(&files));
    });
    let mut cache = ParseCache::default();
    let parsed = cache.parse(&files);
    assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
    shortest("parse again, nothing changed", || {
        black_box(cache.parse(&files));
    });
    let mut turn = 0;
    let original = Arc::clone(&files[7]);
    let mut change = |files: &mut [Arc<SourceFile>], what: &str| {
        turn += 1;
        let text = original.text.replace(what, &format!("{what}-{turn}"));
        files[7] = Arc::new(SourceFile { path: Arc::clone(&original.path), text: text.into() });
    };
    shortest("parse again, one file changed", || {
        change(&mut files, "user-7");
        black_box(cache.parse(&files));
    });
    let mut stats = StatsTable::default();
    shortest("id", || {
        black_box(parsed.documents.id());
    });
    let compiled = shortest("compile everything", || {
        let compiled = compile(&parsed.documents, Sequence(1), &mut stats);
        assert!(compiled.snapshot.is_some() && compiled.diagnostics.is_empty(), "{:?}", compiled.diagnostics);
    });
    let mut compiler = Compiler::default();
    compiler.compile(&cache.parse(&files).documents, Sequence(1), &mut stats);
    for (what, text) in [("its condition", "user-7"), ("its destination", "host: service-7")] {
        shortest(&format!("parse and compile a change of {what}"), || {
            change(&mut files, text);
            let compiled = compiler.compile(&cache.parse(&files).documents, Sequence(1), &mut stats);
            assert!(compiled.snapshot.is_some());
            black_box(compiled);
        });
    }
    println!("{:<42} {:>9.2} ms", "parse everything and compile", (all + compiled).as_secs_f64() * 1e3);
}
