//! Who has a claim gets the canary.
//!
//! The plugin reads the token of a request (`authorization: Bearer`, a JSON Web Token) and tells rules what it found:
//! `match: {plugin: {version: canary}}` in a `RouteRule` does the rest. On other hosts it is a property that nobody reads, and
//! the header `x-version` says the same.
//!
//! It does not check who signed the token. That is for whoever lets the request in: a claim that is made up leads to the
//! canary, and to nothing else.
//!
//! Configuration: the claim and the value that it must have, as `name=value`. A claim with a list has each of its values.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde_json::Value;
use std::rc::Rc;

/// Bytes of a token.
const TOKEN_BYTES: usize = 16 << 10;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { wanted: Rc::new((String::new(), String::new())) }));
}}

struct Root {
    /// The claim and its value.
    wanted: Rc<(String, String)>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        match text.split_once('=') {
            Some((claim, value)) if !claim.is_empty() && !value.is_empty() => {
                self.wanted = Rc::new((claim.to_owned(), value.to_owned()));
                true
            }
            _ => {
                let _ = proxy_wasm::hostcalls::log(LogLevel::Error, "the configuration must be name=value");
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { wanted: Rc::clone(&self.wanted) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Exchange {
    wanted: Rc<(String, String)>,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // Bytes: a header need not be text.
        let token = self.get_http_request_header_bytes("authorization");
        let token = token.and_then(|token| String::from_utf8(token).ok()).unwrap_or_default();
        let (claim, value) = &*self.wanted;
        let version = if has_claim(&token, claim, value) { "canary" } else { "stable" };
        self.set_property(vec!["weir", "match", "version"], Some(version.as_bytes()));
        self.set_http_request_header("x-version", Some(version));
        Action::Continue
    }
}

/// Whether a header's token has a claim of this value.
fn has_claim(authorization: &str, claim: &str, value: &str) -> bool {
    let Some((scheme, token)) = authorization.split_once(' ') else { return false };
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > TOKEN_BYTES {
        return false;
    }
    let payload = token.trim().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let Some(claims) = payload.and_then(|payload| serde_json::from_slice::<Value>(&payload).ok()) else { return false };
    let is_it = |found: &Value| match found {
        Value::String(text) => text == value,
        Value::Number(_) | Value::Bool(_) => found.to_string() == value,
        _ => false,
    };
    match &claims[claim] {
        Value::Array(all) => all.iter().any(is_it),
        one => is_it(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read() {
        let token = |claims: &str| format!("Bearer e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        for (header, expected) in [
            (token(r#"{"group":"beta"}"#), true),
            (token(r#"{"group":["alpha","beta"]}"#), true),
            (token(r#"{"group":"alpha"}"#), false),
            (token(r#"{"other":"beta"}"#), false),
            (token("[]"), false),
            (token("nonsense"), false),
            ("Bearer x".to_owned(), false),
            ("Basic e30.eyJncm91cCI6ImJldGEifQ.x".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(has_claim(&header, "group", "beta"), expected, "{header}");
        }
        assert!(has_claim(&token(r#"{"level":3}"#), "level", "3"));
    }
}
