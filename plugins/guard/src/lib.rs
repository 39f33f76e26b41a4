//! Requests that look like attacks are refused: a small rule checker, for what should not even reach a service.
//!
//! Configuration, in JSON: `rules`, each with an `id`, where it looks (`in`: `path`, `query`, `body`, `header:NAME`), and one of
//! `contains` (text, whatever its case), `longer_than` (bytes) or `absent` (true: it must be there). What is looked at is
//! decoded first: `%2e` is a dot, and `+` in a query a space. `action` is `deny` (403) or `log`. Requests are counted in the
//! metrics `rule.ID`.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};
use serde::Deserialize;
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { rules: Rc::default() }));
}}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSpec {
    id: String,
    r#in: String,
    contains: Option<String>,
    longer_than: Option<usize>,
    absent: Option<bool>,
    action: String,
}

#[derive(Debug)]
struct Rule {
    id: String,
    place: Place,
    condition: Condition,
    is_deny: bool,
    metric: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Body,
    Header(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    /// In small letters.
    Contains(Vec<u8>),
    LongerThan(usize),
    Absent,
}

impl RuleSpec {
    fn rule(self) -> Result<Rule, String> {
        let wrong = |what: &str| format!("rule {}: {what}", self.id);
        let place = match (&*self.r#in, self.r#in.strip_prefix("header:")) {
            ("path", _) => Place::Path,
            ("query", _) => Place::Query,
            ("body", _) => Place::Body,
            (_, Some(name)) if !name.is_empty() => Place::Header(name.to_ascii_lowercase()),
            _ => return Err(wrong("in must be path, query, body or header:NAME")),
        };
        let condition = match (&self.contains, self.longer_than, self.absent) {
            (Some(text), None, None) if !text.is_empty() => Condition::Contains(text.to_ascii_lowercase().into_bytes()),
            (None, Some(bytes), None) => Condition::LongerThan(bytes),
            (None, None, Some(true)) => Condition::Absent,
            _ => return Err(wrong("one of contains, longer_than, absent")),
        };
        let is_deny = match &*self.action {
            "deny" => true,
            "log" => false,
            _ => return Err(wrong("action must be deny or log")),
        };
        Ok(Rule { id: self.id, place, condition, is_deny, metric: 0 })
    }
}

impl Rule {
    /// Whether it speaks of this: what there is at its place.
    fn applies(&self, found: Option<&[u8]>) -> bool {
        match (&self.condition, found) {
            (Condition::Absent, found) => found.is_none(),
            (_, None) => false,
            (Condition::LongerThan(bytes), Some(found)) => found.len() > *bytes,
            (Condition::Contains(text), Some(found)) => {
                let small = found.to_ascii_lowercase();
                small.windows(text.len()).any(|part| part == text)
            }
        }
    }
}

struct Root {
    rules: Rc<Vec<Rule>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let rules = serde_json::from_slice::<Settings>(&text).map_err(|error| error.to_string());
        let rules = rules.and_then(|settings| settings.rules.into_iter().map(RuleSpec::rule).collect());
        match rules {
            Ok(rules) => {
                let rules: Vec<Rule> = rules;
                let counted = |rule: Rule| {
                    let metric = hostcalls::define_metric(MetricType::Counter, &format!("rule.{}", rule.id));
                    Rule { metric: metric.unwrap_or_default(), ..rule }
                };
                self.rules = Rc::new(rules.into_iter().map(counted).collect());
                true
            }
            Err(reason) => {
                let _ = hostcalls::log(LogLevel::Error, &reason);
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { rules: Rc::clone(&self.rules) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Exchange {
    rules: Rc<Vec<Rule>>,
}

impl Context for Exchange {}

impl Exchange {
    /// Whether a rule about what was found says that the request goes no further.
    fn is_refused(&self, rule: &Rule, found: Option<&[u8]>) -> bool {
        if !rule.applies(found) {
            return false;
        }
        let _ = hostcalls::increment_metric(rule.metric, 1);
        let _ = hostcalls::log(LogLevel::Warn, &format!("a request meets rule {}", rule.id));
        if rule.is_deny {
            self.send_http_response(403, vec![("x-guard", &rule.id)], Some(b"refused\n"));
        }
        rule.is_deny
    }
}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let target = self.get_http_request_header_bytes(":path").unwrap_or_default();
        let split = target.iter().position(|byte| *byte == b'?');
        let path = decoded(&target[..split.unwrap_or(target.len())], false);
        let query = split.map(|at| decoded(&target[at + 1..], true));
        for rule in self.rules.iter() {
            let is_refused = match &rule.place {
                Place::Path => self.is_refused(rule, Some(&path)),
                Place::Query => self.is_refused(rule, query.as_deref()),
                Place::Header(name) => self.is_refused(rule, self.get_http_request_header_bytes(name).as_deref()),
                Place::Body => false,
            };
            if is_refused {
                return Action::Pause;
            }
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, is_end: bool) -> Action {
        let mut rules = self.rules.iter().filter(|rule| rule.place == Place::Body).peekable();
        if rules.peek().is_none() {
            return Action::Continue;
        }
        // A word may come in two pieces.
        if !is_end {
            return Action::Pause;
        }
        let body = self.get_http_request_body(0, size).unwrap_or_default();
        if rules.any(|rule| self.is_refused(rule, Some(&body))) { Action::Pause } else { Action::Continue }
    }
}

/// Bytes that are written with `%`, as what they are.
fn decoded(text: &[u8], is_query: bool) -> Vec<u8> {
    let mut rest = text;
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        rest = after;
        decoded.push(match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                rest = &after[2..];
                (high * 16 + low) as u8
            }
            (b'+', ..) if is_query => b' ',
            _ => first,
        });
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Result<Rule, String> {
        serde_json::from_str::<RuleSpec>(json).map_err(|error| error.to_string())?.rule()
    }

    #[test]
    fn rules_speak_of_what_they_say() {
        for (json, found, expected) in [
            (r#"{"id":"1","in":"path","contains":"../","action":"deny"}"#, Some("/a/../b"), true),
            (r#"{"id":"1","in":"query","contains":"UNION select","action":"deny"}"#, Some("q=union SELECT"), true),
            (r#"{"id":"1","in":"query","contains":"x","action":"deny"}"#, None, false),
            (r#"{"id":"1","in":"header:A","longer_than":3,"action":"log"}"#, Some("abcd"), true),
            (r#"{"id":"1","in":"header:a","longer_than":3,"action":"log"}"#, Some("abc"), false),
            (r#"{"id":"1","in":"header:a","absent":true,"action":"log"}"#, None, true),
            (r#"{"id":"1","in":"header:a","absent":true,"action":"log"}"#, Some(""), false),
        ] {
            assert_eq!(rule(json).unwrap().applies(found.map(str::as_bytes)), expected, "{json}");
        }
        for wrong in [
            r#"{"id":"1","in":"nowhere","contains":"x","action":"deny"}"#,
            r#"{"id":"1","in":"path","contains":"","action":"deny"}"#,
            r#"{"id":"1","in":"path","contains":"x","longer_than":1,"action":"deny"}"#,
            r#"{"id":"1","in":"path","contains":"x","action":"drop"}"#,
        ] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_otherwise_is_the_same() {
        for (text, is_query, expected) in [
            ("%2e%2E/", false, "../"),
            ("a+b", true, "a b"),
            ("a+b", false, "a+b"),
            ("%", false, "%"),
            ("%zz", false, "%zz"),
            ("%4", false, "%4"),
        ] {
            assert_eq!(decoded(text.as_bytes(), is_query), expected.as_bytes(), "{text}");
        }
    }
}
