//! The tables of the log, and how what is in them is written.

use redb::TableDefinition;
use weir_core::name::ObjectName;
#[cfg(doc)]
use weir_core::revision::DocumentHash;

use super::KeptDocument;

/// The version of what is below. A log with a greater one is not touched; one with a lesser one, which no release has
/// written, is as good as damaged.
pub(super) const SCHEMA: u32 = 2;

/// [`SCHEMA_KEY`] and [`BYTES_KEY`].
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The schema that the log was written with.
pub(super) const SCHEMA_KEY: &str = "schema";
/// Bytes of all values in the other tables.
pub(super) const BYTES_KEY: &str = "bytes";

/// By sequence: the record, as JSON.
pub(super) const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// By sequence: the graph of what the revision changed, as JSON. Apart from the record because lists do not show it.
pub(super) const GRAPHS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("graphs");
/// By version id: the hashes of the revision's documents one after another, in the order of their names.
pub(super) const SETS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("sets");
/// By [`DocumentHash`]: a document, as the bytes that are hashed.
pub(super) const DOCUMENTS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("documents");
/// By name of a source: what it had when its content was last accepted, as JSON.
pub(super) const SEEN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("seen");

/// Bytes of one hash.
pub(super) const HASH: usize = 32;

/// What [`DocumentHash`] is the hash of.
pub(super) fn encode(name: &ObjectName, canonical: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(canonical.len() + 96);
    for part in [&name.kind, &name.namespace, &name.name] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(canonical.as_bytes());
    bytes
}

/// The document of these bytes; none if they are not what [`encode`] makes.
pub(super) fn decode(bytes: &[u8]) -> Option<KeptDocument> {
    let mut parts = std::str::from_utf8(bytes).ok()?.splitn(4, '\0');
    let (kind, namespace, name, canonical) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(KeptDocument { name: ObjectName::new(kind, namespace, name), canonical: canonical.to_owned() })
}

/// The hashes of a set. A remainder shorter than a hash cannot be: sets are written from whole ones.
pub(super) fn hashes(set: &[u8]) -> impl Iterator<Item = [u8; HASH]> {
    set.as_chunks::<HASH>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};
    use weir_core::revision::DocumentHash;

    use super::*;

    #[test]
    fn documents_round_trip() {
        for (namespace, canonical) in [("default", "{\"a\":\"\\u0000\"}"), ("", ""), ("x", "a\0b")] {
            let name = ObjectName::new("Service", namespace, "a");
            let encoded = encode(&name, canonical);
            assert_eq!(DocumentHash::of(&name, canonical).0, *Sha256::digest(&encoded));
            let document = decode(&encoded).unwrap();
            assert_eq!((document.name, document.canonical.as_str()), (name, canonical));
        }
        for bad in [b"".as_slice(), b"a\0b\0c", b"a\0b\0c\0\xff"] {
            assert_eq!(decode(bad), None);
        }
    }
}
