//! Lists of names and values as plugins and the host exchange them: a number of pairs, the lengths of each, and then
//! each name and each value with a NUL behind it. Numbers have 32 bits, little endian. Nothing at all is no pair.

use super::Status;

/// Bytes of a list, and pairs in it, that are taken from a plugin: as many as the reference host takes.
const MAX_BYTES: usize = 1 << 20;
const MAX_PAIRS: usize = 1024;

/// Bytes of a number.
const WORD: usize = 4;

/// Writes a list.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    lengths: Vec<u8>,
    texts: Vec<u8>,
    count: u32,
}

impl Encoder {
    /// With room for so many pairs.
    pub(crate) fn with_capacity(pairs: usize) -> Self {
        Self { lengths: Vec::with_capacity(pairs * 2 * WORD + WORD), texts: Vec::with_capacity(pairs * 40), count: 0 }
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.count == 0 {
            self.lengths.extend_from_slice(&[0; WORD]);
        }
        self.count += 1;
        for text in [name, value] {
            // A text of 4 GiB is in no head.
            self.lengths.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.texts.extend_from_slice(text);
            self.texts.push(0);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.lengths[..WORD].copy_from_slice(&self.count.to_le_bytes());
        }
        self.lengths.extend_from_slice(&self.texts);
        self.lengths
    }
}

/// A name and a value.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Reads a list that a plugin wrote.
pub(crate) fn decode(list: &[u8]) -> Result<Vec<Pair<'_>>, Status> {
    const BROKEN: Status = Status::SerializationFailure;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.len() > MAX_BYTES {
        return Err(BROKEN);
    }
    let word = |position: usize| {
        let bytes = list.get(position..position + WORD)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let count = word(0).ok_or(BROKEN)?;
    if count > MAX_PAIRS {
        return Err(BROKEN);
    }
    let mut rest = list.get(WORD + count * 2 * WORD..).ok_or(BROKEN)?;
    let mut text = |length: usize| {
        let (text, behind) = rest.split_at_checked(length)?;
        let (nul, behind) = behind.split_first()?;
        rest = behind;
        (*nul == 0).then_some(text)
    };
    let pairs = (0..count).map(|pair| {
        let at = WORD + pair * 2 * WORD;
        let name = text(word(at)?)?;
        Some((name, text(word(at + WORD)?)?))
    });
    pairs.collect::<Option<Vec<_>>>().ok_or(BROKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        pairs.iter().for_each(|(name, value)| encoder.push(name.as_bytes(), value.as_bytes()));
        encoder.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        for pairs in [&[][..], &[("", "")], &[("a", "b")], &[("a", "1"), ("a", ""), ("long-name", "a value")]] {
            let list = encode(pairs);
            let read = decode(&list).unwrap();
            let read: Vec<_> = read
                .iter()
                .map(|(name, value)| (str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap()))
                .collect();
            assert_eq!(read, pairs);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let expected = b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0a\0xy\0bcd\0\0";
        assert_eq!(encode(&[("a", "xy"), ("bcd", "")]), expected);
        assert_eq!(encode(&[]), b"");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let whole = encode(&[("a", "xy"), ("bcd", "")]);
        for end in 1..whole.len() {
            assert_eq!(decode(&whole[..end]), Err(Status::SerializationFailure), "cut at {end}");
        }
        let mut many = encode(&[("a", "xy")]);
        many[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut long = encode(&[("a", "xy")]);
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut unended = encode(&[("a", "xy")]);
        *unended.last_mut().unwrap() = b'!';
        for broken in [many, long, unended, vec![0; MAX_BYTES + 1]] {
            assert_eq!(decode(&broken), Err(Status::SerializationFailure));
        }
    }
}
