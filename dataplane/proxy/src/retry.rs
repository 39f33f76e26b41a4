//! Requests that are tried again, as their rule says (`weir_core::retry`).

mod tries;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use weir_core::name::ClusterName;
use weir_core::retry;

pub(crate) use self::tries::Tries;
use crate::body::Budget;
use crate::settings::RetryLimits;

/// What a worker keeps for further tries.
pub(crate) struct Retries {
    limits: RetryLimits,
    memory: Arc<Budget>,
    budgets: RefCell<HashMap<ClusterName, Kept, foldhash::fast::RandomState>>,
}

/// The budget of a destination, and when it was last used.
struct Kept {
    budget: retry::Budget,
    used_ms: u64,
}

/// For how long a budget is kept that nobody uses: what was saved up is lost then.
const KEPT_MS: u64 = 10_000;

impl Retries {
    pub(crate) fn new(limits: &RetryLimits) -> Self {
        Self { limits: limits.clone(), memory: Budget::new(limits.total_bytes), budgets: RefCell::default() }
    }

    fn with_budget<T>(&self, name: &ClusterName, now_ms: u64, use_it: impl FnOnce(&mut retry::Budget) -> T) -> T {
        let mut budgets = self.budgets.borrow_mut();
        let kept = match budgets.get_mut(name) {
            Some(kept) => kept,
            None => {
                budgets.entry(name.clone()).or_insert_with(|| Kept { budget: retry::Budget::new(now_ms), used_ms: 0 })
            }
        };
        kept.used_ms = now_ms;
        use_it(&mut kept.budget)
    }

    /// A request is sent to a destination.
    fn on_request(&self, name: &ClusterName, now_ms: u64) {
        self.with_budget(name, now_ms, retry::Budget::on_request);
    }

    /// Whether a destination may have one of its requests again.
    fn may_retry(&self, name: &ClusterName, now_ms: u64) -> bool {
        self.with_budget(name, now_ms, |budget| budget.take(now_ms))
    }

    /// Forgets budgets that nobody uses.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.budgets.borrow_mut().retain(|_, kept| now_ms.saturating_sub(kept.used_ms) <= KEPT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_destination_has_a_budget_for_as_long_as_it_is_used() {
        let retries = Retries::new(&RetryLimits::default());
        let name = |port| ClusterName { service: weir_core::name::ServiceName::new("default", "a"), port };
        while retries.may_retry(&name(1), 0) {}
        assert!(retries.may_retry(&name(2), 0));
        (0..100).for_each(|_| retries.on_request(&name(1), 0));
        assert!(retries.may_retry(&name(1), 0));
        retries.on_request(&name(1), KEPT_MS);
        retries.sweep(KEPT_MS + 1);
        assert_eq!(retries.budgets.borrow().keys().collect::<Vec<_>>(), [&name(1)]);
    }
}
