//! What identifies a version of the configuration: the hash of its canonical content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::name::ObjectName;

/// SHA-256 of a document: of its kind, namespace and name, each with a zero byte behind it (none can be in a name), and
/// its canonical content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DocumentHash(pub [u8; 32]);

impl DocumentHash {
    /// The hash of a document, given as its name and its JSON with the keys of objects sorted.
    pub fn of(name: &ObjectName, canonical_json: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [&name.kind, &name.namespace, &name.name] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(canonical_json);
        Self(hash.finalize().into())
    }
}

/// SHA-256 of the canonical content of a configuration: equal content has the same id, on every node and at any time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionId(pub [u8; 32]);

impl RevisionId {
    /// The id of a set of documents: the hash of their hashes, which must come sorted by the documents' names and without
    /// duplicates. What a document that did not change adds to it is known already.
    pub fn of(documents: impl IntoIterator<Item = DocumentHash>) -> Self {
        let mut hash = Sha256::new();
        documents.into_iter().for_each(|document| hash.update(document.0));
        Self(hash.finalize().into())
    }

    /// The first 12 hex digits: what people read and type.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevisionId({self})")
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidRevisionId;

impl fmt::Display for InvalidRevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version id is 64 hexadecimal digits")
    }
}

impl std::error::Error for InvalidRevisionId {}

impl FromStr for RevisionId {
    type Err = InvalidRevisionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidRevisionId);
        }
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(bytes.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidRevisionId)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidRevisionId)?;
        }
        Ok(Self(id))
    }
}

impl Serialize for RevisionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RevisionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A position in the version log. Content can come back (a rollback), a position never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_the_same_id_and_boundaries_count() {
        let (a, b) = (ObjectName::new("Service", "default", "a"), ObjectName::new("Service", "default", "b"));
        let of = |names: &[&ObjectName]| RevisionId::of(names.iter().map(|name| DocumentHash::of(name, "{}")));
        let id = of(&[&a, &b]);
        assert_eq!(id, of(&[&a, &b]));
        assert_ne!(id, of(&[&a]));
        let ab = ObjectName::new("Service", "default", "ab");
        let long = ObjectName::new("Service", "defaulta", "b");
        assert_ne!(of(&[&ab]), of(&[&long]));
        assert_ne!(DocumentHash::of(&a, "{}"), DocumentHash::of(&a, "{} "));
    }

    #[test]
    fn text_form_round_trips_and_rejects_anything_else() {
        let id = RevisionId::of([]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), 12);
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"ä".repeat(32)] {
            assert_eq!(bad.parse::<RevisionId>(), Err(InvalidRevisionId), "{bad}");
        }
    }
}
