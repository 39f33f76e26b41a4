//! What rules say of texts and of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Whence;

/// A pattern of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// Any text that is there.
    Present,
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

impl Pattern {
    /// `*`, `PREFIX*`, `*SUFFIX`, or a text; as Istio writes them.
    fn new(written: &str) -> Self {
        match (written, written.strip_suffix('*'), written.strip_prefix('*')) {
            ("*", ..) => Self::Present,
            (_, Some(prefix), _) => Self::Prefix(prefix.into()),
            (_, None, Some(suffix)) => Self::Suffix(suffix.into()),
            (text, None, None) => Self::Exact(text.into()),
        }
    }

    fn is_met_by(&self, text: &str) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(wanted) => text == &**wanted,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
        }
    }
}

/// Texts that there must or must not be.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    is: Vec<Pattern>,
    is_not: Vec<Pattern>,
}

impl Texts {
    /// One of these (none given: any), and none of those. Each is `*`, `PREFIX*`, `*SUFFIX`, or the whole text.
    pub fn new<T: AsRef<str>>(is: impl IntoIterator<Item = T>, is_not: impl IntoIterator<Item = T>) -> Self {
        let is = is.into_iter().map(|one| Pattern::new(one.as_ref())).collect();
        let is_not = is_not.into_iter().map(|one| Pattern::new(one.as_ref())).collect();
        Self { is, is_not }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.is.is_empty() && self.is_not.is_empty()
    }

    /// Whether a text is as wanted; without one, whether there need not be one.
    pub(super) fn are_met_by(&self, text: Option<&str>) -> bool {
        self.are_met_by_any(text.into_iter())
    }

    /// Whether one of the texts is as wanted, and none as not wanted.
    pub(super) fn are_met_by_any<T: AsRef<str>>(&self, texts: impl Iterator<Item = T>) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut is_met = self.is.is_empty();
        for text in texts {
            let meets = |pattern: &Pattern| pattern.is_met_by(text.as_ref());
            if self.is_not.iter().any(meets) {
                return false;
            }
            is_met = is_met || self.is.iter().any(meets);
        }
        is_met
    }
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// Its first address.
    pub first: IpAddr,
    /// How many of the first bits are the same in all of it: 0 to 32, or to 128.
    pub bits: u8,
}

impl Block {
    /// The block that an address is in; `None` where the address has fewer bits.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        let first = match address {
            IpAddr::V4(v4) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Self { first, bits })
    }

    /// One address.
    pub fn of(address: IpAddr) -> Self {
        Self { first: address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether all of another block is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        other.bits >= self.bits && Self::new(other.first, self.bits) == Some(*self)
    }
}

/// What is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBlock;

impl FromStr for Block {
    type Err = NoBlock;

    fn from_str(text: &str) -> Result<Self, NoBlock> {
        match text.split_once('/') {
            None => text.parse().map(Self::of).map_err(|_| NoBlock),
            Some((address, bits)) => {
                let address = address.parse().map_err(|_| NoBlock)?;
                Self::new(address, bits.parse().map_err(|_| NoBlock)?).ok_or(NoBlock)
            }
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Blocks of addresses that something must or must not be from.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// One of these; empty: any.
    pub is: Vec<Block>,
    /// None of these.
    pub is_not: Vec<Block>,
}

impl Blocks {
    pub(super) fn are_met_by(&self, whence: Whence<'_>) -> bool {
        let within = |blocks: &[Block]| match whence {
            Whence::Address(address) => blocks.iter().any(|block| block.contains(&Block::of(address))),
            Whence::Within(all) => blocks.iter().any(|block| all.contains(block)),
        };
        (self.is.is_empty() || within(&self.is)) && !within(&self.is_not)
    }

    pub(super) fn named(&self) -> impl Iterator<Item = &Block> {
        self.is.iter().chain(&self.is_not)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_wanted_and_not_wanted() {
        let texts = |is: &[&str], is_not: &[&str]| Texts::new(is.iter().copied(), is_not.iter().copied());
        for (is, is_not, text, expected) in [
            (&["a"][..], &[][..], Some("a"), true),
            (&["a"], &[], Some("ab"), false),
            (&["a*"], &[], Some("ab"), true),
            (&["*b"], &[], Some("ab"), true),
            (&["*b"], &[], Some("ba"), false),
            (&["*"], &[], Some("x"), true),
            (&["*"], &[], Some(""), false),
            (&["*"], &[], None, false),
            (&[], &["a"], None, true),
            (&[], &["a"], Some("a"), false),
            (&["a*"], &["ab"], Some("ab"), false),
            (&["a*"], &["ab"], Some("ac"), true),
            (&[], &[], None, true),
        ] {
            assert_eq!(texts(is, is_not).are_met_by(text), expected, "{is:?} {is_not:?} {text:?}");
        }
        let several = texts(&["a"], &["b"]);
        assert!(several.are_met_by_any(["x", "a"].iter()));
        assert!(!several.are_met_by_any(["a", "b"].iter()));
    }

    #[test]
    fn blocks_contain_what_has_their_first_bits() {
        for (block, other, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.9.9.9/8", "10.1.2.0/24", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/24", "10.0.0.0/8", false),
            ("fd00::/8", "fd12::7", true),
            ("::/0", "fd12::7", true),
            ("10.0.0.1", "10.0.0.1/32", true),
        ] {
            let parse = |text: &str| text.parse::<Block>().unwrap();
            assert_eq!(parse(block).contains(&parse(other)), expected, "{block} {other}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "a/8", "10.0.0.0/8/8"] {
            assert_eq!(bad.parse::<Block>(), Err(NoBlock), "{bad}");
        }
    }
}
