//! Drops what is too old. The newest revision is the one in force and always stays.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::Log;
use super::tables::{BYTES_KEY, DOCUMENTS, GRAPHS, HASH, META, RECORDS, SETS, hashes};
use crate::record::Record;

impl Log {
    /// Drops revisions, the oldest first, until what is left is within the bounds.
    pub(super) fn retain(&self, write: &WriteTransaction) -> Result<(), redb::Error> {
        loop {
            let revisions = write.open_table(RECORDS)?.len()?;
            let bytes = write.open_table(META)?.get(BYTES_KEY)?.map_or(0, |value| value.value());
            let too_many = revisions > self.retention.revisions.max(1) as u64 || bytes > self.retention.bytes;
            if revisions <= 1 || !too_many {
                return Ok(());
            }
            let freed = drop_oldest(write)?;
            write.open_table(META)?.insert(BYTES_KEY, bytes.saturating_sub(freed))?;
        }
    }
}

/// Drops the oldest revision with the documents that no other has; the bytes that frees.
fn drop_oldest(write: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut records = write.open_table(RECORDS)?;
    let Some((sequence, version)) = records.first()?.map(|(key, value)| (key.value(), version_of(value.value())))
    else {
        return Ok(0);
    };
    let mut freed = records.remove(sequence)?.map_or(0, |value| value.value().len());
    freed += write.open_table(GRAPHS)?.remove(sequence)?.map_or(0, |value| value.value().len());
    // A record that cannot be read leaves its documents behind: lost space, but nothing that is needed.
    let Some(version) = version else { return Ok(freed as u64) };
    for entry in records.iter()? {
        if version_of(entry?.1.value()) == Some(version) {
            return Ok(freed as u64);
        }
    }
    let mut sets = write.open_table(SETS)?;
    let set = sets.remove(version)?.map_or_else(Vec::new, |value| value.value().to_vec());
    freed += set.len();
    let mut unused: BTreeSet<[u8; HASH]> = hashes(&set).collect();
    for entry in sets.iter()? {
        if unused.is_empty() {
            break;
        }
        for hash in hashes(entry?.1.value()) {
            unused.remove(&hash);
        }
    }
    let mut documents = write.open_table(DOCUMENTS)?;
    for hash in unused {
        freed += documents.remove(hash)?.map_or(0, |value| value.value().len());
    }
    Ok(freed as u64)
}

fn version_of(record: &[u8]) -> Option<[u8; HASH]> {
    serde_json::from_slice::<Record>(record).ok().map(|record| record.version_id.0)
}
