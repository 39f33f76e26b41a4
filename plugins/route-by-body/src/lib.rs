//! Requests go where a field of their body says.
//!
//! The plugin holds a request back until it has its body, reads a field of it and chooses the service. That needs Weir: other
//! hosts choose before there is a body. There the request goes where it would without the plugin.
//!
//! Configuration, in JSON: `field`, where the field is (RFC 6901, like `/vehicle/kind`); `routes`, for values of it the
//! services with their ports; `otherwise`, where everything else goes (without it: where rules say).

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { routes: Rc::default() }));
}}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Routes {
    field: String,
    routes: BTreeMap<String, String>,
    otherwise: Option<String>,
}

struct Root {
    routes: Rc<Routes>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice::<Routes>(&text) {
            Ok(routes) if routes.field.starts_with('/') => {
                self.routes = Rc::new(routes);
                true
            }
            Ok(_) => refused("field must begin with /"),
            Err(error) => refused(&error.to_string()),
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { routes: Rc::clone(&self.routes) }))
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
    routes: Rc<Routes>,
}

impl Exchange {
    fn go(&self, destination: Option<&str>) {
        if let Some(destination) = destination {
            self.set_property(vec!["weir", "route", "destination"], Some(destination.as_bytes()));
        }
    }
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, is_end: bool) -> Action {
        if is_end {
            self.go(self.routes.otherwise.as_deref());
            return Action::Continue;
        }
        self.set_property(vec!["weir", "body", "before_route"], Some(b"true"));
        // Where that means nothing the body would never come.
        match self.get_property(vec!["weir", "service"]) {
            Some(_) => Action::Pause,
            None => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, is_end: bool) -> Action {
        if !is_end {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        self.go(self.routes.of(&body));
        Action::Continue
    }
}

impl Routes {
    fn of(&self, body: &[u8]) -> Option<&str> {
        let value = serde_json::from_slice::<Value>(body).ok();
        let value = value.as_ref().and_then(|value| value.pointer(&self.field)).map(|found| match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        value.and_then(|value| self.routes.get(&value)).or(self.otherwise.as_ref()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_leads_to_a_service() {
        let routes: Routes =
            serde_json::from_str(r#"{"field":"/a/b","routes":{"x":"x:80","3":"three:80"},"otherwise":"o:80"}"#)
                .unwrap();
        for (body, expected) in [
            (r#"{"a":{"b":"x"}}"#, "x:80"),
            (r#"{"a":{"b":3}}"#, "three:80"),
            (r#"{"a":{"b":"y"}}"#, "o:80"),
            ("{}", "o:80"),
            ("no json", "o:80"),
            ("", "o:80"),
        ] {
            assert_eq!(routes.of(body.as_bytes()), Some(expected), "{body}");
        }
    }
}
