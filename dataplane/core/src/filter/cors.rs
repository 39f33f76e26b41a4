//! Cross-origin resource sharing, as the Fetch standard has it (<https://fetch.spec.whatwg.org/#http-cors-protocol>) and
//! the Gateway API's `HTTPCORSFilter` lets people write it.

use std::fmt;
use std::time::Duration;

use http::Method;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};

/// Which origins are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin: `*`.
    Any,
    /// This one, in lower case.
    Exact(Box<str>),
    /// All whose text has this before and that after at least one character: `https://*.example.com`. In lower case.
    Wildcard(Box<str>, Box<str>),
}

impl OriginPattern {
    /// A pattern from its text, where `*` stands for one or more characters. `None` with more than one `*`.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            None => Some(Self::Exact(text.into())),
            Some(("", "")) => Some(Self::Any),
            Some((_, after)) if after.contains('*') => None,
            Some((before, after)) => Some(Self::Wildcard(before.into(), after.into())),
        }
    }

    fn contains(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => **wanted == *origin,
            Self::Wildcard(before, after) => {
                let inner = origin.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
                // A wildcard is for parts of a host: it reaches over no port, path or user.
                inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(['/', '@', ':']))
            }
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Wildcard(before, after) => write!(f, "{before}*{after}"),
        }
    }
}

/// Methods or names of headers that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// All: `*`.
    Any,
    /// These, as they are sent: with commas between. `None` for none.
    These(Option<HeaderValue>),
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::These(None) => f.write_str("only what is always allowed"),
            Self::These(Some(list)) => f.write_str(&String::from_utf8_lossy(list.as_bytes())),
        }
    }
}

/// What scripts of other origins may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose scripts.
    pub origins: Vec<OriginPattern>,
    /// Whether browsers may send cookies and the like.
    pub credentials: bool,
    /// Methods that may be used, beyond `GET`, `HEAD` and `POST`.
    pub methods: AllowList,
    /// Headers that requests may have, beyond those of every form.
    pub headers: AllowList,
    /// Headers of responses that scripts may read.
    pub exposed: AllowList,
    /// How long a browser may keep the answer.
    pub max_age: Duration,
}

/// What a browser asks before a request that a form could not make.
#[derive(Clone, Copy, Debug)]
pub struct Preflight<'a> {
    cors: &'a Cors,
}

impl Cors {
    /// The preflight that a request is, if it is one: `OPTIONS` with an origin and the method that is meant.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Preflight<'_>> {
        let is_one = *method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        is_one.then_some(Preflight { cors: self })
    }

    /// What goes into `Access-Control-Allow-Origin` for a request from this origin; `None` when it is not allowed.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        if !self.origins.iter().any(|pattern| pattern.contains(&text)) {
            return None;
        }
        Some(if self.is_same_for_all() { HeaderValue::from_static("*") } else { origin.clone() })
    }

    /// Whether every origin gets the same answer. With credentials browsers accept no `*`.
    fn is_same_for_all(&self) -> bool {
        !self.credentials && self.origins.contains(&OriginPattern::Any)
    }

    /// The list to send. With credentials browsers take `*` by the letter, so that what was asked for is named.
    fn list(&self, list: &AllowList, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match list {
            AllowList::These(list) => list.clone(),
            AllowList::Any if self.credentials => asked.cloned(),
            AllowList::Any => Some(HeaderValue::from_static("*")),
        }
    }

    /// Tells a browser what its script may read of a response. What the endpoint says about it itself is replaced:
    /// twice the same header is none for a browser. `origin` is that of the request.
    pub fn on_response(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS] {
            headers.remove(name);
        }
        if !self.is_same_for_all() {
            vary_by_origin(headers);
        }
        let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) else { return };
        let names = || {
            let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
            HeaderValue::try_from(names.join(", ")).ok()
        };
        let exposed = match &self.exposed {
            AllowList::Any if self.credentials => names(),
            other => self.list(other, None),
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// Caches must not give one origin's answer to another.
fn vary_by_origin(headers: &mut HeaderMap) {
    let is_there = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case(ORIGIN.as_str()))
    });
    if !is_there {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

impl Preflight<'_> {
    /// The headers of the answer, which has status 204 and no body. An origin that is not allowed is told nothing, which
    /// is how browsers are told so.
    pub fn answer(&self, request: &HeaderMap) -> HeaderMap {
        let cors = self.cors;
        let mut headers = HeaderMap::new();
        if !cors.is_same_for_all() {
            vary_by_origin(&mut headers);
        }
        let Some(allowed) = request.get(ORIGIN).and_then(|origin| cors.allowed(origin)) else { return headers };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let methods = cors.list(&cors.methods, request.get(ACCESS_CONTROL_REQUEST_METHOD));
        if let Some(methods) = methods {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let names = cors.list(&cors.headers, request.get(ACCESS_CONTROL_REQUEST_HEADERS));
        if let Some(names) = names {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
        headers
    }
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<String> = self.origins.iter().map(OriginPattern::to_string).collect();
        write!(f, "origins {}, methods {}, headers {}", origins.join(" "), self.methods, self.headers)?;
        if self.credentials { f.write_str(", with credentials") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool, methods: AllowList) -> Cors {
        Cors {
            origins: origins.iter().map(|text| OriginPattern::new(text).unwrap()).collect(),
            credentials,
            headers: methods.clone(),
            exposed: methods.clone(),
            methods,
            max_age: Duration::from_secs(5),
        }
    }

    fn these(list: &'static str) -> AllowList {
        AllowList::These(Some(HeaderValue::from_static(list)))
    }

    fn headers(text: &str) -> HeaderMap {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
        pairs.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn shown(headers: &HeaderMap) -> String {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n").replace("access-control-", "")
    }

    #[test]
    fn origins() {
        let cases = [
            ("https://www.example.org", "https://www.example.org", true),
            ("https://www.example.org", "https://WWW.example.org", true),
            ("https://www.example.org", "http://www.example.org", false),
            ("https://www.example.org", "https://www.example.org:8443", false),
            ("https://*.example.org", "https://a.example.org", true),
            ("https://*.example.org", "https://a.b.example.org", true),
            ("https://*.example.org", "https://.example.org", false),
            ("https://*.example.org", "https://example.org", false),
            ("https://*.example.org", "https://evil.test/.example.org", false),
            ("https://*.example.org", "https://evil.test:80.example.org", false),
            ("https://*.example.org", "https://a.example.org.evil.test", false),
            ("*", "null", true),
        ];
        for (pattern, origin, expected) in cases {
            let origin = origin.to_ascii_lowercase();
            assert_eq!(OriginPattern::new(pattern).unwrap().contains(&origin), expected, "{pattern} {origin}");
        }
        assert_eq!(OriginPattern::new("https://*.*.org"), None);
    }

    #[test]
    fn preflights() {
        let asked = headers(
            "origin: https://a.test\naccess-control-request-method: PUT\naccess-control-request-headers: x-one, x-two",
        );
        let cases = [
            (
                cors(&["https://a.test"], false, these("PUT, DELETE")),
                "allow-headers: PUT, DELETE\nallow-methods: PUT, DELETE\nallow-origin: https://a.test\nmax-age: 5\n\
                 vary: Origin",
            ),
            (cors(&["*"], false, AllowList::Any), "allow-headers: *\nallow-methods: *\nallow-origin: *\nmax-age: 5"),
            (
                cors(&["*"], true, AllowList::Any),
                "allow-credentials: true\nallow-headers: x-one, x-two\nallow-methods: PUT\n\
                 allow-origin: https://a.test\nmax-age: 5\nvary: Origin",
            ),
            (cors(&["*"], false, AllowList::These(None)), "allow-origin: *\nmax-age: 5"),
            (cors(&["https://b.test"], true, AllowList::Any), "vary: Origin"),
        ];
        for (cors, expected) in cases {
            let preflight = cors.preflight(&Method::OPTIONS, &asked).unwrap();
            assert_eq!(shown(&preflight.answer(&asked)), expected, "{cors}");
            assert!(cors.preflight(&Method::PUT, &asked).is_none());
            assert!(cors.preflight(&Method::OPTIONS, &headers("origin: https://a.test")).is_none());
        }
    }

    #[test]
    fn responses() {
        let origin = HeaderValue::from_static("https://a.test");
        let cases = [
            (
                cors(&["https://a.test"], true, these("x-one")),
                "allow-credentials: true\nallow-origin: https://a.test\nexpose-headers: x-one\nvary: Accept\nvary: Origin",
            ),
            (
                cors(&["https://a.test"], true, AllowList::Any),
                "allow-credentials: true\nallow-origin: https://a.test\nexpose-headers: vary\nvary: Accept\nvary: Origin",
            ),
            (cors(&["*"], false, AllowList::Any), "allow-origin: *\nexpose-headers: *\nvary: Accept"),
            (cors(&["https://b.test"], true, AllowList::Any), "vary: Accept\nvary: Origin"),
        ];
        for (cors, expected) in cases {
            let mut response = headers("vary: Accept\naccess-control-allow-origin: https://of-the-endpoint.test");
            cors.on_response(Some(&origin), &mut response);
            assert_eq!(shown(&response), expected, "{cors}");
        }
    }
}
