//! Fields of responses that nobody may see are replaced.
//!
//! Bodies in JSON are held back until they are whole; the values of fields with certain names, however deep, become `"***"`. What
//! says that it is JSON and is not, is refused: nobody knows what would be in it. Other types pass as they are.
//!
//! Configuration, in JSON: `fields`, their names.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What stands for what nobody may see.
const HIDDEN: &str = "***";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { settings: Rc::default() }));
}}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    fields: BTreeSet<String>,
}

struct Root {
    settings: Rc<Settings>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice::<Settings>(&text) {
            Ok(settings) if !settings.fields.is_empty() => {
                self.settings = Rc::new(settings);
                true
            }
            Ok(_) => refused("there must be fields"),
            Err(error) => refused(&error.to_string()),
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { settings: Rc::clone(&self.settings), is_json: false }))
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
    is_json: bool,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // What is compressed cannot be read.
        self.set_http_request_header("accept-encoding", None);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, is_end: bool) -> Action {
        let kind = self.get_http_response_header_bytes("content-type").unwrap_or_default();
        self.is_json = !is_end && is_json(&String::from_utf8_lossy(&kind));
        if self.is_json {
            self.set_http_response_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, is_end: bool) -> Action {
        if !self.is_json {
            return Action::Continue;
        }
        if !is_end {
            return Action::Pause;
        }
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        let redacted = redacted(&body, &self.settings.fields).unwrap_or_else(|| b"null".to_vec());
        self.set_http_response_body(0, size, &redacted);
        Action::Continue
    }
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

/// The same without what nobody may see; `None` where it cannot be read.
fn redacted(body: &[u8], fields: &BTreeSet<String>) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    hide(&mut value, fields);
    serde_json::to_vec(&value).ok()
}

fn hide(value: &mut Value, fields: &BTreeSet<String>) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| hide(one, fields)),
        Value::Object(all) => {
            for (name, one) in all {
                if fields.contains(name) {
                    *one = Value::String(HIDDEN.to_owned());
                } else {
                    hide(one, fields);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_hidden_however_deep() {
        let fields = BTreeSet::from(["password".to_owned()]);
        for (body, expected) in [
            (r#"{"a":1,"password":"x"}"#, Some(r#"{"a":1,"password":"***"}"#)),
            (r#"[{"a":{"password":["x"]}}]"#, Some(r#"[{"a":{"password":"***"}}]"#)),
            ("3", Some("3")),
            ("{", None),
        ] {
            let redacted = redacted(body.as_bytes(), &fields);
            assert_eq!(redacted.as_deref().map(String::from_utf8_lossy).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn json_has_many_names() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/html", false),
            ("", false),
        ] {
            assert_eq!(is_json(kind), expected, "{kind}");
        }
    }
}
