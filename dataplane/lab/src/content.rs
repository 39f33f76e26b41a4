//! Content that both ends can compute: byte `i` of a stream depends on the seed and on `i`
//! alone, so a receiver checks each byte and names the first wrong one, which a checksum
//! cannot.

use sha2::{Digest, Sha256};

/// Most servers and clients here copy in pieces of this size.
pub(crate) const PIECE: usize = 64 * 1024;

/// The seed of `/bytes/<n>` and of everything that names none.
pub const SEED: u64 = 0;

/// A stream of deterministic bytes, or the check of one.
#[derive(Debug, Clone)]
pub struct Content {
    seed: u64,
    offset: u64,
}

impl Content {
    /// The stream of a seed, from its start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, offset: 0 }
    }

    /// How far it has come, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let (index, skip) = (self.offset / 8, (self.offset % 8) as usize);
            if skip == 0 && rest.len() >= 8 {
                let whole = rest.len() / 8 * 8;
                let (words, tail) = rest.split_at_mut(whole);
                for (i, word) in words.chunks_exact_mut(8).enumerate() {
                    word.copy_from_slice(&word_at(self.seed, index + i as u64));
                }
                self.offset += whole as u64;
                rest = tail;
            } else {
                let word = word_at(self.seed, index);
                let n = rest.len().min(8 - skip);
                rest[..n].copy_from_slice(&word[skip..skip + n]);
                self.offset += n as u64;
                rest = &mut rest[n..];
            }
        }
    }

    /// Compares the next bytes with what they should be.
    ///
    /// # Errors
    /// The offset of the first wrong byte.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), u64> {
        let mut expected = [0; 4096];
        for piece in bytes.chunks(expected.len()) {
            let start = self.offset;
            let expected = &mut expected[..piece.len()];
            self.fill(expected);
            if expected != piece {
                let same = expected.iter().zip(piece).take_while(|(a, b)| a == b);
                return Err(start + same.count() as u64);
            }
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a full-period mix that needs no state.
fn word_at(seed: u64, index: u64) -> [u8; 8] {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// The SHA-256 of the first `bytes` bytes, in hexadecimal, as the servers report it.
#[must_use]
pub fn sha256(seed: u64, bytes: u64) -> String {
    let (mut content, mut hash) = (Content::new(seed), Sha256::new());
    let mut buffer = vec![0; PIECE];
    while content.offset() < bytes {
        let n = (bytes - content.offset()).min(PIECE as u64) as usize;
        content.fill(&mut buffer[..n]);
        hash.update(&buffer[..n]);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_does_not_matter_and_errors_are_located() {
        let mut whole = vec![0; 10_000];
        Content::new(7).fill(&mut whole);
        for cut in [1, 3, 8, 13, 4096, 9_999] {
            let mut pieces = vec![0; whole.len()];
            let mut content = Content::new(7);
            pieces.chunks_mut(cut).for_each(|piece| content.fill(piece));
            assert!(pieces == whole, "cut into {cut}");
        }
        let mut checked = Content::new(7);
        whole.chunks(777).for_each(|piece| checked.check(piece).unwrap());
        whole[5_001] ^= 1;
        assert_eq!(Content::new(7).check(&whole), Err(5_001));
        assert!(Content::new(8).check(&whole).is_err());
    }

    #[test]
    fn the_hash_is_that_of_the_bytes() {
        let mut bytes = vec![0; 70_000];
        Content::new(SEED).fill(&mut bytes);
        assert_eq!(sha256(SEED, 70_000), hex(&Sha256::digest(&bytes)));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(SEED, 0), empty);
    }
}
