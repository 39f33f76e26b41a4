//! What a plugin decides about where a request goes: properties that it sets while it has the request's head.
//!
//! Elsewhere these are properties like any others and do nothing, so that a plugin that sets them stays one that every
//! host runs.

use std::time::Duration;

use bytes::Bytes;

/// What begins the paths of properties that rules match.
const MATCH: &[u8] = b"weir\0match\0";

/// The longest time that a plugin may give a request.
const LONGEST: Duration = Duration::from_secs(3600);

/// What plugins decided about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Where it goes instead of where its rule says: `namespace/name:port`, or `name:port`.
    pub destination: Option<Box<str>>,
    /// How long it may take instead of what its rule says.
    pub timeout: Option<Duration>,
    /// What rules match: names and values.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// What cannot be, for people. It is not refused when it is set: libraries for plugins end a plugin for that, and
    /// nobody would hear why.
    pub mistake: Option<Box<str>>,
}

/// A property that decides something.
enum Meaning<'p> {
    Destination,
    Timeout,
    Attribute(&'p str),
}

impl<'p> Meaning<'p> {
    fn of(path: &'p [u8]) -> Option<Self> {
        match path {
            b"weir\0route\0destination" => Some(Self::Destination),
            b"weir\0route\0timeout_ms" => Some(Self::Timeout),
            _ => Some(Self::Attribute(str::from_utf8(path.strip_prefix(MATCH)?).ok()?)),
        }
    }
}

fn timeout(text: &str) -> Option<Duration> {
    let duration = Duration::from_millis(text.parse().ok()?);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

impl Routing {
    /// Adds what a plugin set. What is decided twice, the later one has decided.
    pub(crate) fn add<'p>(&mut self, properties: impl Iterator<Item = (&'p [u8], &'p Bytes)>) {
        for (path, value) in properties {
            let Some(meaning) = Meaning::of(path) else { continue };
            let text = String::from_utf8_lossy(value);
            match meaning {
                Meaning::Destination if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                    self.destination = Some(text.into());
                }
                Meaning::Destination => {
                    self.is_wrong("weir.route.destination", &text, "the name of a service and a port")
                }
                Meaning::Timeout => match timeout(&text) {
                    Some(timeout) => self.timeout = Some(timeout),
                    None => self.is_wrong("weir.route.timeout_ms", &text, "a number from 1 to 3600000"),
                },
                Meaning::Attribute(name) => {
                    self.attributes.retain(|(known, _)| **known != *name);
                    self.attributes.push((name.into(), text.into()));
                }
            }
        }
    }

    fn is_wrong(&mut self, path: &str, value: &str, expected: &str) {
        self.mistake = Some(format!("a plugin set {path} to \"{value}\", which is not {expected}").into());
    }

    /// Whether nothing is decided.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told() {
        for (path, value, mistake) in [
            ("weir\0route\0destination", "shop/cart:80", None),
            ("weir\0route\0destination", "cart", Some("weir.route.destination to \"cart\"")),
            ("weir\0route\0destination", "cart:http", Some("weir.route.destination to \"cart:http\"")),
            ("weir\0route\0timeout_ms", "1500", None),
            ("weir\0route\0timeout_ms", "0", Some("weir.route.timeout_ms to \"0\"")),
            ("weir\0route\0timeout_ms", "4000000", Some("weir.route.timeout_ms")),
            ("weir\0match\0tier", "", None),
            ("anything\0else", "\u{0}", None),
        ] {
            let mut routing = Routing::default();
            let value = Bytes::from_static(value.as_bytes());
            routing.add([(path.as_bytes(), &value)].into_iter());
            let said = routing.mistake.unwrap_or_default();
            assert_eq!(said.is_empty(), mistake.is_none(), "{path:?}: {said}");
            assert!(said.contains(mistake.unwrap_or_default()), "{said}");
        }
    }

    #[test]
    fn the_later_plugin_decides() {
        let mut routing = Routing::default();
        assert!(routing.is_empty());
        let set = |routing: &mut Routing, properties: &[(&str, &'static str)]| {
            let properties: Vec<_> = properties
                .iter()
                .map(|(path, value)| (path.as_bytes(), Bytes::from_static(value.as_bytes())))
                .collect();
            routing.add(properties.iter().map(|(path, value)| (*path, value)));
        };
        set(&mut routing, &[("weir\0match\0tier", "iron"), ("weir\0match\0user", "ann"), ("other", "x")]);
        set(&mut routing, &[("weir\0match\0tier", "gold"), ("weir\0route\0destination", "a:1")]);
        assert_eq!(routing.destination.as_deref(), Some("a:1"));
        assert_eq!(routing.attributes, [("user".into(), "ann".into()), ("tier".into(), "gold".into())]);
    }
}
