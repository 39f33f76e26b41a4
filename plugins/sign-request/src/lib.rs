//! Requests are signed on their way to a service, so that it knows that they came through the mesh.
//!
//! The signature is an HMAC (RFC 2104) with SHA-256 of the time, the method, the path and the headers that the configuration
//! names, each on a line; in hexadecimal digits in `x-signature`, with the time (seconds since 1970) in `x-signature-time`.
//! What a client sends under these names is replaced.
//!
//! Configuration, in JSON: `key`, the secret; `headers`, those that are signed as well, as they come.

use hmac::{Hmac, Mac};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use sha2::Sha256;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

const SIGNATURE: &str = "x-signature";
const TIME: &str = "x-signature-time";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { settings: Rc::default() }));
}}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    key: String,
    #[serde(default)]
    headers: Vec<String>,
}

struct Root {
    settings: Rc<Settings>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice::<Settings>(&text) {
            Ok(settings) if settings.key.len() >= 16 => {
                self.settings = Rc::new(settings);
                true
            }
            // What is wrong is said without the key.
            Ok(_) => refused("the key must have at least 16 bytes"),
            Err(error) => refused(&format!("line {}, column {}: no settings", error.line(), error.column())),
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { settings: Rc::clone(&self.settings) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn refused(reason: &str) -> bool {
    let _ = proxy_wasm::hostcalls::log(LogLevel::Error, reason);
    false
}

struct Exchange {
    settings: Rc<Settings>,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let header = |name: &str| self.get_http_request_header_bytes(name).unwrap_or_default();
        let time = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let lines = [time.clone().into_bytes(), header(":method"), header(":path")];
        let lines = lines.into_iter().chain(self.settings.headers.iter().map(|name| header(name)));
        let signature = signature(self.settings.key.as_bytes(), lines);
        self.set_http_request_header(SIGNATURE, Some(&signature));
        self.set_http_request_header(TIME, Some(&time));
        Action::Continue
    }
}

/// Of lines, each with its end.
fn signature(key: &[u8], lines: impl Iterator<Item = Vec<u8>>) -> String {
    // Keys of any length are keys.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    for line in lines {
        mac.update(&line);
        mac.update(b"\n");
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with `printf '1700000000\nGET\n/a?b=c\n' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    #[test]
    fn a_signature_is_what_others_compute() {
        let lines = ["1700000000", "GET", "/a?b=c"].map(|line| line.as_bytes().to_vec());
        let expected = "94e04bfa44c34c6bc4e6f318bdfa56c879b1cba09f29f1357c67f5c7fcdbfd51";
        assert_eq!(signature(b"0123456789abcdef", lines.into_iter()), expected);
    }
}
