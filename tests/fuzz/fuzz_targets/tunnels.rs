//! Heads of tunnels between nodes, and ids of workloads: whatever they say, a tunnel leads to a port of the workload's own address,
//! and an id that is read is written as it was.
#![no_main]

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderValue};
use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use weir_core::authorization::{Principal, is_trust_domain};
use weir_core::hbone;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, forwarded, id) = (line(), line(), line(), line());
    if let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) {
        for own in ["10.42.0.7", "fd42::7"] {
            let own: IpAddr = own.parse().expect("it is one");
            if let Ok(port) = hbone::target(&method, &uri, own) {
                let authority = uri.authority().expect("there is no tunnel without").as_str();
                assert_eq!(authority.parse(), Ok(std::net::SocketAddr::new(own, port)));
                assert!(method == Method::CONNECT && port != 0 && port != hbone::PORT);
            }
        }
    }
    if let Ok(value) = HeaderValue::from_bytes(forwarded)
        && let Some(source) = hbone::source(&HeaderMap::from_iter([(FORWARDED, value)]))
    {
        let again = HeaderValue::try_from(hbone::forwarded(source)).expect("it is a value");
        let again = hbone::source(&HeaderMap::from_iter([(FORWARDED, again)])).expect("it can be read");
        // The scope of an address means something to its own node only.
        assert_eq!((again.ip(), again.port()), (source.ip(), source.port()));
    }
    if let Some(id) = std::str::from_utf8(id).ok().map(|id| (id, Principal::from_id(id)))
        && let (id, Some(principal)) = id
    {
        assert_eq!(principal.id(), id);
        assert!(is_trust_domain(principal.trust_domain()));
        let again = Principal::new(principal.trust_domain(), principal.namespace(), principal.service_account());
        assert_eq!(again, principal);
    }
});
