//! How calls of gRPC end (<https://grpc.io/docs/guides/status-codes>).

/// The status that a call ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallStatus(u8);

impl CallStatus {
    /// How many there are.
    pub const COUNT: usize = 18;

    /// The caller got none, or one that does not exist.
    pub const NONE: Self = Self(17);

    /// Those that say that the callee failed, not the caller
    /// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>): unknown, deadline exceeded, unimplemented, internal,
    /// unavailable, data loss; and none.
    pub(crate) const FAILURES: [usize; 7] = [2, 4, 12, 13, 14, 15, 17];

    /// The status with this number.
    pub const fn new(number: u8) -> Self {
        if number <= 16 { Self(number) } else { Self::NONE }
    }

    /// The status as it stands in `grpc-status`.
    pub fn parse(text: &[u8]) -> Self {
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map_or(Self::NONE, Self::new)
    }

    /// Its number; 17 where there is none.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether it says that the callee failed.
    pub fn is_failure(self) -> bool {
        Self::FAILURES.contains(&self.index())
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    /// What a status of this number is in metrics and logs.
    pub(crate) fn label(index: usize) -> String {
        if index < 17 { index.to_string() } else { "none".to_owned() }
    }
}

impl std::fmt::Display for CallStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&Self::label(self.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_status_is_none() {
        let cases =
            [("0", "0"), ("16", "16"), ("17", "none"), ("256", "none"), ("", "none"), ("-1", "none"), ("OK", "none")];
        for (text, expected) in cases {
            assert_eq!(CallStatus::parse(text.as_bytes()).to_string(), expected, "{text:?}");
        }
    }
}
