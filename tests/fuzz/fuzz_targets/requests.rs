//! Requests as people describe them, and the cookies and queries of any request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_core::explain::Described;
use weir_core::route::{Request, Source};
use weir_core::snapshot::Snapshot;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines().map(str::to_owned);
    let described = Described {
        url: lines.next().unwrap_or_default(),
        method: lines.next().unwrap_or_default(),
        from: lines.next(),
        headers: lines.collect(),
    };
    let _ = described.explain(&Snapshot::empty());
    let mut headers = http::HeaderMap::new();
    if let Ok(value) = http::HeaderValue::from_bytes(data) {
        headers.insert(http::header::COOKIE, value);
    }
    let source = Source { address: std::net::IpAddr::from([0, 0, 0, 0]), workload: None };
    let request = Request { method: &http::Method::GET, path: "/", query: Some(text), headers: &headers, source };
    let _ = (request.cookies().count(), request.query_parameters().count());
});
