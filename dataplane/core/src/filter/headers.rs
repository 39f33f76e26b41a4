//! Changes of headers.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

/// What is removed, set and added, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Removed, all values of each.
    pub remove: Vec<HeaderName>,
    /// In the place of whatever was there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// After what is there, in one line with commas between (RFC 9110, section 5.3): `old,new`.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Changes headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            add(headers, name, value);
        }
    }
}

fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    // Cookies have commas of their own and are never joined (RFC 6265, section 3).
    if *name == SET_COOKIE || !headers.contains_key(name) {
        headers.append(name, value.clone());
        return;
    }
    let values = headers.get_all(name).iter().chain([value]).map(HeaderValue::as_bytes);
    let joined = values.collect::<Vec<_>>().join(&b","[..]);
    // Valid values with a comma between them are a valid value.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, joined);
    }
}

impl fmt::Display for HeaderChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |verb: &str, (name, value): &(HeaderName, HeaderValue)| {
            format!("{verb} {name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let removed = self.remove.iter().map(|name| format!("remove {name}"));
        let set = self.set.iter().map(|one| named("set", one));
        let added = self.add.iter().map(|one| named("add", one));
        f.write_str(&removed.chain(set).chain(added).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(HeaderName, HeaderValue)> {
        let lines = text.split(';').map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| line.split_once('=').unwrap()).map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn removed_then_set_then_added() {
        // remove, set, add, before, after
        let cases = [
            ("", "", "", "a=1", "a=1"),
            ("a", "", "", "a=1;a=2;b=3", "b=3"),
            ("", "a=9", "", "a=1;a=2", "a=9"),
            ("", "a=9", "", "b=1", "a=9;b=1"),
            ("", "", "a=2", "a=1", "a=1,2"),
            ("", "", "a=3", "a=1;a=2", "a=1,2,3"),
            ("", "", "a=1", "", "a=1"),
            ("", "", "a=1;a=2", "", "a=1,2"),
            ("a", "a=2", "a=3", "a=1", "a=2,3"),
            ("", "", "set-cookie=b", "set-cookie=a", "set-cookie=a;set-cookie=b"),
        ];
        for (remove, set, add, before, after) in cases {
            let remove = remove.split_whitespace().map(|name| name.parse().unwrap()).collect();
            let changes = HeaderChanges { remove, set: pairs(set), add: pairs(add) };
            let mut headers = HeaderMap::new();
            for (name, value) in pairs(before) {
                headers.append(name, value);
            }
            changes.apply(&mut headers);
            let mut found: Vec<_> = headers.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            found.sort_by_key(|(name, _)| name.to_string());
            assert_eq!(found, pairs(after), "{changes} of {before}");
        }
    }
}
