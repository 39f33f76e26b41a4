//! Says on standard error what is being measured, so that a run of minutes is not silent. The report goes to standard output.

use std::io::{self, Write as _};

/// One step.
pub(crate) fn line(text: &str) {
    // Nothing depends on it being read.
    let _ = writeln!(io::stderr(), "{text}");
}
