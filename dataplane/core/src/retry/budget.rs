//! The bound on how many requests are retries.

/// Bounds retries to a share of the requests, so that endpoints in trouble do not get more of them than others: a
/// bucket of tokens to which each request adds a part of one, and from which each retry takes one.
///
/// Source: the retry budgets of Finagle (<https://twitter.github.io/finagle/guide/Clients.html>) and of the Gateway API
/// (GEP-3388), whose defaults these are.
#[derive(Clone, Debug)]
pub struct Budget {
    /// In thousandths.
    tokens: u64,
    /// When tokens were last added because time had passed.
    filled_ms: u64,
}

impl Budget {
    /// Retries for a hundred requests.
    pub const PERCENT: u64 = 20;
    /// Retries a second that there may be however few requests there are.
    pub const LEAST: u64 = 10;
    /// Retries that may be saved up.
    pub const MOST: u64 = 100;

    const TOKEN: u64 = 1_000;

    /// The budget of the first second.
    pub fn new(now_ms: u64) -> Self {
        Self { tokens: Self::LEAST * Self::TOKEN, filled_ms: now_ms }
    }

    /// A request begins.
    pub fn on_request(&mut self) {
        self.tokens = (self.tokens + Self::TOKEN * Self::PERCENT / 100).min(Self::MOST * Self::TOKEN);
    }

    /// Takes what a retry costs. `false` when so much is not left. `now_ms` is a time that does not go back.
    pub fn take(&mut self, now_ms: u64) -> bool {
        let least = Self::LEAST * Self::TOKEN;
        let passed = now_ms.saturating_sub(self.filled_ms).min(1_000);
        if self.tokens < least {
            self.tokens = (self.tokens + passed * least / 1_000).min(least);
        }
        self.filled_ms = now_ms;
        let left = self.tokens.checked_sub(Self::TOKEN);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}
