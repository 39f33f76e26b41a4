//! What a plugin decides about where a request goes: properties that it sets while it has the request's head.
//!
//! Elsewhere these are properties like any others and do nothing, so that a plugin that sets them stays one that every
//! host runs.

use std::time::Duration;

use bytes::Bytes;

/// What begins the paths of properties that rules match, and of those that decide.
const MATCH: &[u8] = b"weir\0match\0";
pub(crate) const ROUTE: &[u8] = b"weir\0route\0";

/// The longest time that a plugin may give a request.
const LONGEST: Duration = Duration::from_secs(3600);

/// Destinations of a split, mirrors, and tries after the first.
const DESTINATIONS: usize = 16;
const MIRRORS: usize = 4;
const RETRIES: u32 = 10;

/// The largest weight.
const WEIGHT: u32 = 1_000_000;

/// What plugins decided about a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routing {
    /// Where it goes instead of where its rule says: `namespace/name:port`, or `name:port`; of several, one is drawn by
    /// the weights. None of them is 0 but where there are others.
    pub destinations: Vec<(Box<str>, u32)>,
    /// The version that it goes to, of those that its destinations have.
    pub version: Option<Box<str>>,
    /// Where copies of it go instead of where its rule says, and the percentage of requests that are copied.
    pub mirrors: Option<Vec<(Box<str>, f64)>>,
    /// How long it may take instead of what its rule says.
    pub timeout: Option<Duration>,
    /// How often it is tried again instead of what its rule says.
    pub retries: Option<u32>,
    /// What rules match: names and values.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// What cannot be, for people. It is not refused when it is set: libraries for plugins end a plugin for that, and
    /// nobody would hear why.
    pub mistake: Option<Box<str>>,
}

fn timeout(text: &str) -> Option<Duration> {
    let duration = Duration::from_millis(text.parse().ok()?);
    (!duration.is_zero() && duration <= LONGEST).then_some(duration)
}

/// A list of services, each perhaps with a number.
fn services<T>(text: &str, alone: T, number: impl Fn(&str) -> Option<T>) -> Option<Vec<(Box<str>, T)>>
where
    T: Copy,
{
    let one = |part: &str| {
        let (service, number) = match part.trim().split_once('=') {
            Some((service, text)) => (service, number(text)?),
            None => (part.trim(), alone),
        };
        let (_, port) = service.rsplit_once([':', '|']).filter(|(name, _)| !name.is_empty())?;
        // As Istio writes it, the port is somewhere else.
        (service.contains('|') || port.parse::<u16>().is_ok()).then(|| (service.into(), number))
    };
    text.split(',').map(one).collect()
}

fn destinations(text: &str) -> Option<Vec<(Box<str>, u32)>> {
    let weight = |text: &str| text.parse().ok().filter(|weight| *weight <= WEIGHT);
    let all = services(text, 1, weight)?;
    (all.len() <= DESTINATIONS && all.iter().any(|(_, weight)| *weight > 0)).then_some(all)
}

fn mirrors(text: &str) -> Option<Vec<(Box<str>, f64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let percent = |text: &str| text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    services(text, 100.0, percent).filter(|all| all.len() <= MIRRORS)
}

impl Routing {
    /// Adds what a plugin set. What is decided twice, the later one has decided.
    pub(crate) fn add<'p>(&mut self, properties: impl Iterator<Item = (&'p [u8], &'p Bytes)>) {
        for (path, value) in properties {
            let text = String::from_utf8_lossy(value);
            if let Some(name) = path.strip_prefix(MATCH).and_then(|name| str::from_utf8(name).ok()) {
                self.attributes.retain(|(known, _)| **known != *name);
                self.attributes.push((name.into(), text.into()));
            } else if let Some(name) = path.strip_prefix(ROUTE)
                && let Err(expected) = self.decide(name, &text)
            {
                let name = String::from_utf8_lossy(name);
                let mistake = format!("a plugin set weir.route.{name} to \"{text}\", which is not {expected}");
                self.mistake = Some(mistake.into());
            }
        }
    }

    /// Adds what a later plugin has decided.
    pub fn merge(&mut self, later: Self) {
        let Self { destinations, version, mirrors, timeout, retries, attributes, mistake } = later;
        if !destinations.is_empty() {
            self.destinations = destinations;
        }
        self.version = version.or(self.version.take());
        self.mirrors = mirrors.or(self.mirrors.take());
        self.timeout = timeout.or(self.timeout);
        self.retries = retries.or(self.retries);
        self.mistake = mistake.or(self.mistake.take());
        self.attributes.retain(|(known, _)| attributes.iter().all(|(name, _)| name != known));
        self.attributes.extend(attributes);
    }

    /// One decision; `Err` says what would be one.
    pub(crate) fn decide(&mut self, name: &[u8], text: &str) -> Result<(), &'static str> {
        match name {
            b"destination" => {
                const WANTED: &str = "a service with its port, or some with weights, like a:80=9,b:80=1";
                self.destinations = destinations(text).ok_or(WANTED)?;
            }
            b"version" => self.version = Some(text).filter(|text| !text.is_empty()).map(Into::into),
            b"mirror" => {
                const WANTED: &str = "a service with its port, or up to four, perhaps with percentages, like a:80=12.5";
                self.mirrors = Some(mirrors(text).ok_or(WANTED)?);
            }
            b"timeout_ms" => self.timeout = Some(timeout(text).ok_or("a number from 1 to 3600000")?),
            b"retries" => {
                let retries = text.parse().ok().filter(|retries| *retries <= RETRIES);
                self.retries = Some(retries.ok_or("a number from 0 to 10")?);
            }
            _ => return Err("a decision that there is"),
        }
        Ok(())
    }

    /// All services that it names.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        let mirrors = self.mirrors.iter().flatten().map(|(name, _)| &**name);
        self.destinations.iter().map(|(name, _)| &**name).chain(mirrors)
    }

    /// Whether it says where the request goes.
    pub fn is_placed(&self) -> bool {
        !self.destinations.is_empty() || self.version.is_some()
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
            ("weir\0route\0destination", "shop/cart:80=9, cart.shop:80=1", None),
            ("weir\0route\0destination", "outbound|80||cart.shop.svc.cluster.local", None),
            ("weir\0route\0destination", "cart", Some("weir.route.destination to \"cart\"")),
            ("weir\0route\0destination", "cart:http", Some("weir.route.destination to \"cart:http\"")),
            ("weir\0route\0destination", "cart:80=0", Some("weir.route.destination")),
            ("weir\0route\0destination", "cart:80=-1", Some("weir.route.destination")),
            ("weir\0route\0destination", "cart:80,", Some("weir.route.destination")),
            ("weir\0route\0destination", "", Some("weir.route.destination")),
            ("weir\0route\0version", "v2", None),
            ("weir\0route\0mirror", "", None),
            ("weir\0route\0mirror", "cart:80=12.5,b:1", None),
            ("weir\0route\0mirror", "cart:80=101", Some("weir.route.mirror")),
            ("weir\0route\0mirror", "a:1,a:1,a:1,a:1,a:1", Some("weir.route.mirror")),
            ("weir\0route\0timeout_ms", "1500", None),
            ("weir\0route\0timeout_ms", "0", Some("weir.route.timeout_ms to \"0\"")),
            ("weir\0route\0timeout_ms", "4000000", Some("weir.route.timeout_ms")),
            ("weir\0route\0retries", "0", None),
            ("weir\0route\0retries", "11", Some("weir.route.retries")),
            ("weir\0route\0weight", "1", Some("weir.route.weight to \"1\", which is not a decision")),
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
        let of = |properties: &[(&str, &'static str)]| {
            let properties: Vec<_> = properties
                .iter()
                .map(|(path, value)| (path.as_bytes(), Bytes::from_static(value.as_bytes())))
                .collect();
            let mut routing = Routing::default();
            routing.add(properties.iter().map(|(path, value)| (*path, value)));
            routing
        };
        let mut routing = of(&[("weir\0match\0tier", "iron"), ("weir\0match\0user", "ann"), ("other", "x")]);
        assert!(Routing::default().is_empty() && !routing.is_empty());
        routing.merge(of(&[("weir\0match\0tier", "gold"), ("weir\0route\0destination", "a:1")]));
        routing.merge(of(&[("weir\0route\0retries", "2")]));
        assert_eq!(routing.destinations, [("a:1".into(), 1)]);
        assert_eq!(routing.attributes, [("user".into(), "ann".into()), ("tier".into(), "gold".into())]);
    }
}
