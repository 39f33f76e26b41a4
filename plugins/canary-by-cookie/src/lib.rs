//! Who has a cookie gets the canary.
//!
//! The plugin reads the cookie that its configuration names and tells the rules what it found, in a header that nobody
//! outside can set: `x-version: canary`. A `RouteRule` that matches this header does the rest. The answer says which
//! version it is from, so that people who test can see it.
//!
//! Configuration: the cookie's name and the value that it must have, as `name=value`. Without one it is `canary=yes`.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

/// What rules match.
const HEADER: &str = "x-version";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { wanted: "canary=yes".to_owned() }));
}}

struct Root {
    wanted: String,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        if size == 0 {
            return true;
        }
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        match String::from_utf8(configuration) {
            Ok(wanted) if is_cookie(&wanted) => {
                self.wanted = wanted;
                true
            }
            _ => {
                log(LogLevel::Error, "the configuration must be a cookie, written as name=value");
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { wanted: self.wanted.clone(), is_canary: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Exchange {
    wanted: String,
    is_canary: bool,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let cookies = self.get_http_request_header("cookie").unwrap_or_default();
        self.is_canary = has_cookie(&cookies, &self.wanted);
        self.set_http_request_header(HEADER, self.is_canary.then_some("canary"));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.set_http_response_header(HEADER, Some(if self.is_canary { "canary" } else { "stable" }));
        Action::Continue
    }
}

fn log(level: LogLevel, message: &str) {
    let _ = proxy_wasm::hostcalls::log(level, message);
}

/// Whether it is a name and a value, as a cookie has them (RFC 6265, section 4.1.1).
fn is_cookie(text: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    text.split_once('=').is_some_and(|(name, value)| is_plain(name) && is_plain(value))
}

/// Whether this cookie is among those of a request.
fn has_cookie(cookies: &str, wanted: &str) -> bool {
    cookies.split(';').any(|cookie| cookie.trim() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        for (cookies, expected) in [
            ("canary=yes", true),
            ("a=b; canary=yes", true),
            ("canary=yes;a=b", true),
            ("canary=no", false),
            ("notcanary=yes", false),
            ("canary=yesterday", false),
            ("", false),
        ] {
            assert_eq!(has_cookie(cookies, "canary=yes"), expected, "{cookies}");
        }
    }

    #[test]
    fn a_configuration_is_a_cookie() {
        for (text, expected) in [("a=b", true), ("a", false), ("=b", false), ("a=", false), ("a=b;c", false)] {
            assert_eq!(is_cookie(text), expected, "{text}");
        }
    }
}
