//! So many requests of one client in a second, and no more.
//!
//! A token bucket for each client, shared by all workers of a node: it is kept in shared data, which changes only if nobody
//! else has changed it meanwhile. What is too much is answered with 429 and `retry-after`.
//!
//! Configuration, in JSON: `rate`, requests in a second; `burst`, how many may come at once (without it: as many as in a
//! second); `key`, the header that tells clients apart (without it: their address). Clients that send no such header share a
//! bucket.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, Status};
use serde::Deserialize;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

/// Times that a change is tried while others change the same bucket.
const TRIES: usize = 10;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { limit: Rc::default(), refused: 0 }));
}}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    rate: f64,
    #[serde(default)]
    burst: f64,
    key: Option<String>,
}

struct Root {
    limit: Rc<Limit>,
    /// The metric that counts what is too much.
    refused: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let limit = match serde_json::from_slice::<Limit>(&text) {
            Ok(limit) => limit,
            Err(error) => return refused(&error.to_string()),
        };
        if !(limit.rate > 0.0 && limit.rate <= 1e6 && limit.burst >= 0.0 && limit.burst <= 1e6) {
            return refused("rate must be above 0, burst not below, and both at most 1000000");
        }
        let burst = if limit.burst < 1.0 { limit.rate.max(1.0) } else { limit.burst };
        self.limit = Rc::new(Limit { burst, ..limit });
        self.refused = hostcalls::define_metric(MetricType::Counter, "refused").unwrap_or_default();
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { limit: Rc::clone(&self.limit), refused: self.refused }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn refused(reason: &str) -> bool {
    let _ = hostcalls::log(LogLevel::Error, reason);
    false
}

struct Exchange {
    limit: Rc<Limit>,
    refused: u32,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Some(wait) = self.take() else { return Action::Continue };
        let _ = hostcalls::increment_metric(self.refused, 1);
        let wait = (wait.ceil().max(1.0) as u64).to_string();
        self.send_http_response(429, vec![("retry-after", &wait)], Some(b"too many requests\n"));
        Action::Pause
    }
}

impl Exchange {
    /// Takes a token; if there is none, for how many seconds.
    fn take(&self) -> Option<f64> {
        let client = match &self.limit.key {
            Some(header) => self.get_http_request_header_bytes(header).unwrap_or_default(),
            None => self.get_property(vec!["source", "address"]).map(without_port).unwrap_or_default(),
        };
        let key = format!("bucket {}", String::from_utf8_lossy(&client));
        let now = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for _ in 0..TRIES {
            let (kept, change) = self.get_shared_data(&key);
            let bucket = kept.as_deref().and_then(Bucket::read).unwrap_or(Bucket { tokens: self.limit.burst, at: now });
            let (bucket, wait) = bucket.take(&self.limit, now);
            match self.set_shared_data(&key, Some(&bucket.write()), change) {
                Ok(()) => return wait,
                Err(Status::CasMismatch) => {}
                // There is no room for one more: the limit must not become an outage.
                Err(_) => return None,
            }
        }
        None
    }
}

/// An address is written with its port.
fn without_port(address: Vec<u8>) -> Vec<u8> {
    let end = address.iter().rposition(|byte| *byte == b':').unwrap_or(address.len());
    address[..end].to_vec()
}

/// What a client has left, and when that was so, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    tokens: f64,
    at: f64,
}

impl Bucket {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (tokens, at) = bytes.split_at_checked(8)?;
        Some(Self { tokens: f64::from_le_bytes(tokens.try_into().ok()?), at: f64::from_le_bytes(at.try_into().ok()?) })
    }

    fn write(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }

    fn take(self, limit: &Limit, now: f64) -> (Self, Option<f64>) {
        let passed = (now - self.at).max(0.0);
        let tokens = (self.tokens + passed * limit.rate).min(limit.burst);
        if tokens >= 1.0 {
            return (Self { tokens: tokens - 1.0, at: now }, None);
        }
        (Self { tokens, at: now }, Some((1.0 - tokens) / limit.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_with_time() {
        let limit = Limit { rate: 2.0, burst: 2.0, key: None };
        let mut bucket = Bucket { tokens: 2.0, at: 100.0 };
        for (now, expected) in [
            (100.0, None),
            (100.0, None),
            (100.0, Some(0.5)),
            (100.25, Some(0.25)),
            (100.5, None),
            (200.0, None),
            (200.0, None),
            (200.0, Some(0.5)),
        ] {
            let wait;
            (bucket, wait) = bucket.take(&limit, now);
            assert_eq!(wait, expected, "{now}");
        }
        // A clock that goes back gives nothing.
        assert_eq!(bucket.take(&limit, 100.0).1, Some(0.5));
        assert_eq!(Bucket::read(&bucket.write()), Some(bucket));
        assert_eq!(Bucket::read(b"short"), None);
    }

    #[test]
    fn an_address_has_a_port() {
        for (address, expected) in [("10.0.0.1:80", "10.0.0.1"), ("[::1]:80", "[::1]"), ("", "")] {
            assert_eq!(without_port(address.into()), expected.as_bytes());
        }
    }
}
