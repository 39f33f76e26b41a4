//! The version log changes hands: another process takes over from this one.

use super::Publisher;
use crate::log::LogError;

impl Publisher {
    /// Writes what is not on disk yet, closes the log, and leaves it to another process. What is in force stays in
    /// force; nothing else can be put in force until [`Publisher::take_back`].
    ///
    /// # Errors
    /// When something could not be written: the other process would not know what is in force. The log stays here.
    pub fn lend(&mut self) -> Result<(), LogError> {
        self.write_unrecorded()?;
        self.save_seen();
        self.shared.log.lend();
        Ok(())
    }

    /// The other process did not take over, and is gone: the log is this one's again. What is in force has to be
    /// settled anew, because the other may have changed the kernel's side. What the other may have recorded stays in
    /// the log, before what comes next.
    ///
    /// # Errors
    /// When the log cannot be read; whoever needs it next tries again.
    pub fn take_back(&mut self) -> Result<(), LogError> {
        self.shared.log.take_back();
        self.is_settled = self.current().is_none();
        if let Some(latest) = self.shared.log.latest()? {
            self.last_sequence = self.last_sequence.max(latest.sequence);
        }
        Ok(())
    }
}
