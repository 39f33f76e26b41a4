//! Brings an earlier revision back, as a new one.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use weir_config::Parsed;

use super::Publisher;
use super::change::Wanted;
use crate::cycle::{Cycle, Outcome, Trigger};
use crate::log::{SelectError, Selector};
use crate::reader::parsed;
use crate::record::Cause;

/// Bytes of the name of who asked that are kept.
const BY_BYTES: usize = 256;

impl Publisher {
    /// Puts the content of a kept revision in force again. `by` says who wants it. How it ended is in the cycle's
    /// outcome: the content may not be valid any more, or be in force already.
    ///
    /// It holds until the source's content changes; see the module's documentation.
    ///
    /// # Errors
    /// When the selector names no revision, or several; nothing was done then.
    pub fn rollback(&mut self, to: &Selector, by: &str) -> Result<Arc<Cycle>, SelectError> {
        self.shared.log.check_not_lent()?;
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let reader = self.reader();
        let target = reader.find(to)?.record.version();
        let documents = reader.documents(&Selector::Sequence(target.sequence))?;
        let by: String = by.chars().take(BY_BYTES).collect();
        let mut cycle = self.begin(Trigger::Rollback { by: by.clone() }, started, started_at);
        if self.current().is_some_and(|current| current.version_id == target.version_id) {
            let reason = format!("the content of revision {target} is in force already");
            return Ok(self.finish(cycle, Outcome::Unchanged { reason }));
        }
        let outcome = match parsed(&documents) {
            Ok(Parsed { documents, diagnostics: warnings, .. }) => {
                // A change that waits to be tried again must not undo what somebody has just asked for.
                self.failed = None;
                let cause = Cause::Rollback { to: target, by };
                let source = "rollback".to_owned();
                self.publish(&mut cycle, Wanted { documents, cause, seen: None, warnings, source })
            }
            Err(diagnostics) => Outcome::rejected(&diagnostics),
        };
        // The caller has the outcome; a rollback that was refused is no lasting state of the node.
        self.shared.state().rejections.remove("rollback");
        Ok(self.finish(cycle, outcome))
    }
}
