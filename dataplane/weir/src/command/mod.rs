//! One file per command. A command parses its arguments, calls one crate, and prints.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod versions;

use std::io::Write as _;

/// Prints a JSON value on lines of their own.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Prints text.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}
