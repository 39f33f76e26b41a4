//! A request that meets a match of a rule, as far as one can be read off its conditions. It sends nothing.

use serde_json::Value;

use crate::command::quoted;

/// A request as curl takes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) method: String,
    /// Path with query.
    pub(super) target: String,
    /// `name: value` each.
    pub(super) headers: Vec<String>,
}

impl Sample {
    /// What a client would send that knows nothing of any rule.
    pub(super) fn plain() -> Self {
        Self { method: "GET".to_owned(), target: "/".to_owned(), headers: Vec::new() }
    }

    /// A request that meets the conditions of a match in canonical form (`spec.match` of a rule).
    ///
    /// # Errors
    /// When a condition has a regular expression, or a value that would have to be encoded: what the field is.
    pub(super) fn of(conditions: &Value) -> Result<Self, String> {
        let mut sample = Self::plain();
        if let Some(method) = list(&conditions["method"]).iter().find_map(|method| method.as_str()) {
            method.clone_into(&mut sample.method);
        }
        if let Some(path) = conditions.get("path") {
            let path = value_of(path).filter(|path| is_plain(path, "/")).ok_or("path")?;
            sample.target = if path.starts_with('/') { path } else { format!("/{path}") };
        }
        for (name, value) in values(conditions, "headers")? {
            sample.headers.push(format!("{name}: {value}"));
        }
        let pairs = |field| {
            let pairs = values(conditions, field)?;
            let are_plain = pairs.iter().all(|(name, value)| is_plain(name, "") && is_plain(value, ""));
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if are_plain { Ok(pairs) } else { Err(field.to_owned()) }
        };
        let (query, cookies) = (pairs("query")?, pairs("cookies")?);
        if !query.is_empty() {
            sample.target = format!("{}?{}", sample.target, query.join("&"));
        }
        if !cookies.is_empty() {
            sample.headers.push(format!("cookie: {}", cookies.join("; ")));
        }
        Ok(sample)
    }

    /// The arguments of curl besides the address.
    pub(super) fn arguments(&self) -> Vec<&str> {
        let mut arguments = match self.method.as_str() {
            "GET" => Vec::new(),
            // With -X it would wait for a body that never comes.
            "HEAD" => vec!["-I"],
            method => vec!["-X", method],
        };
        self.headers.iter().for_each(|header| arguments.extend(["-H", header]));
        arguments
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        self.headers.iter().try_for_each(|header| write!(f, " {}", quoted(header)))
    }
}

/// A list, or one thing instead of it.
pub(super) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// Names with a value each that meets their condition.
fn values(conditions: &Value, field: &str) -> Result<Vec<(String, String)>, String> {
    let named = conditions[field].as_object().into_iter().flatten();
    // A header that must be absent is one that is not sent.
    let wanted = named.filter(|(_, condition)| condition.get("absent").is_none());
    let value = |(name, condition): (&String, &Value)| match value_of(condition) {
        Some(value) => Ok((name.clone(), value)),
        None => Err(format!("{field}.{name}")),
    };
    wanted.map(value).collect()
}

fn value_of(condition: &Value) -> Option<String> {
    if condition.get("present").is_some() {
        return Some("anything".to_owned());
    }
    let text =
        condition.as_str().or_else(|| ["exact", "prefix", "suffix"].iter().find_map(|kind| condition[kind].as_str()));
    text.map(str::to_owned)
}

/// Whether a text needs no encoding in a URL or a cookie.
fn is_plain(text: &str, also: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._~".contains(letter) || also.contains(letter))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_read_off_conditions() {
        let check = |conditions: Value, expected: Result<&str, &str>| {
            let found = Sample::of(&conditions).map(|sample| sample.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{conditions}");
        };
        check(json!({}), Ok("GET /"));
        check(Value::Null, Ok("GET /"));
        check(json!({ "method": ["POST", "GET"], "path": { "prefix": "/a" } }), Ok("POST /a"));
        check(json!({ "method": "PUT", "path": { "suffix": ".jpg" } }), Ok("PUT /.jpg"));
        check(
            json!({ "headers": { "x-user": { "exact": "a b" }, "y": { "present": true } } }),
            Ok("GET / 'x-user: a b' 'y: anything'"),
        );
        check(json!({ "headers": { "x": { "absent": true }, "y": "z" } }), Ok("GET / 'y: z'"));
        check(
            json!({ "query": { "q": { "prefix": "v" } }, "cookies": { "a": { "exact": "1" }, "b": { "suffix": "2" } } }),
            Ok("GET /?q=v 'cookie: a=1; b=2'"),
        );
        check(json!({ "headers": { "x": { "regex": "a+" } } }), Err("headers.x"));
        check(json!({ "path": { "regex": "/a+" } }), Err("path"));
        check(json!({ "path": { "exact": "/a b" } }), Err("path"));
        check(json!({ "query": { "q": { "exact": "a&b" } } }), Err("query"));
    }

    #[test]
    fn curl_is_told_what_differs_from_its_defaults() {
        let check = |method: &str, expected: &[&str]| {
            let sample = Sample { method: method.to_owned(), headers: vec!["a: b".to_owned()], ..Sample::plain() };
            assert_eq!(sample.arguments(), expected);
        };
        check("GET", &["-H", "a: b"]);
        check("HEAD", &["-I", "-H", "a: b"]);
        check("POST", &["-X", "POST", "-H", "a: b"]);
    }
}
