//! A difference as text for people: no colours, one line a fact, so that it can be piped and compared.

use std::fmt;

use serde_json::Value;

use super::{ChangeLog, DiffGraph, Node, NodeChange};

/// Characters of a value shown on a line; the structured form has it whole.
const SHOWN: usize = 120;

impl fmt::Display for ChangeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference\n");
        }
        for object in &self.removed {
            writeln!(f, "- {object}")?;
        }
        for object in &self.added {
            writeln!(f, "+ {object}")?;
        }
        for changed in &self.changed {
            writeln!(f, "~ {}", changed.object)?;
            for field in &changed.fields {
                let path = if field.path.is_empty() { "(everything)" } else { &field.path };
                for (sign, value) in [('-', &field.from), ('+', &field.to)] {
                    if let Some(value) = value {
                        writeln!(f, "  {sign} {path}: {}", shown(value))?;
                    }
                }
            }
            if changed.more > 0 {
                writeln!(f, "    and {} more fields", changed.more)?;
            }
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl fmt::Display for NodeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Affected => "affected",
            Self::Missing => "missing",
        })
    }
}

/// A tree: every object that changed, below it what it refers to and what refers to it.
impl fmt::Display for DiffGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = |node: &&Node| node.change < NodeChange::Affected;
        for Node { object, change } in self.nodes.iter().filter(changed) {
            writeln!(f, "{object} ({change})")?;
            let lines = self.edges.iter().filter_map(|edge| match (&edge.from == object, &edge.to == object) {
                (true, _) => Some(("->", &edge.to, &edge.field)),
                (_, true) => Some(("<-", &edge.from, &edge.field)),
                _ => None,
            });
            let mut lines = lines.peekable();
            while let Some((arrow, other, field)) = lines.next() {
                let branch = if lines.peek().is_some() { "|-" } else { "`-" };
                let how = self.change(other).map_or(String::new(), |change| format!(" ({change})"));
                writeln!(f, "{branch} {arrow} {other}{how} by {field}")?;
            }
        }
        if self.more > 0 {
            writeln!(f, "and {} more objects", self.more)?;
        }
        Ok(())
    }
}
