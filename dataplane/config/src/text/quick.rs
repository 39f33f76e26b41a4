//! The quick way to read YAML: values alone, with one reader instead of two. Places are looked up in the text when
//! somebody asks for one, which for most files is never.
//!
//! It is taken only by texts that can do no harm without having been measured first, and only when nothing is wrong
//! with them: what is not right is read once more in the thorough way, whose words are better.

use std::sync::Arc;

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::{Reader, without_mark};
use crate::place::{Locations, Position, Unread};

/// Bytes of a text. The YAML reader takes quadratic time for some texts; for this size that is a few milliseconds.
const BYTES: usize = 16 << 10;

/// Brackets that may open lists and objects within a line. The reader looks at each open one for every word.
const OPENED: usize = 1_024;

/// The values of a text, one for each document; `None` when it must be read thoroughly.
pub(super) fn read(whole: &Arc<str>) -> Option<Vec<(Value, Locations)>> {
    let text = without_mark(whole);
    if !is_tame(text) {
        return None;
    }
    let starts = starts(text);
    let mut values = Vec::with_capacity(starts.len());
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Reader::STRICT.deserialize(document).ok()?;
        // A text for a document is an error, and where a text begins (`|` and nothing, ...) readers tell differently.
        if value.is_string() || values.len() == starts.len() {
            return None;
        }
        values.push(value);
    }
    if values.len() != starts.len() {
        return None;
    }
    let text = Arc::new(Unread::new(whole));
    let locations = starts.into_iter().enumerate().map(|(n, start)| Locations::in_text(start, Arc::clone(&text), n));
    Some(values.into_iter().zip(locations).collect())
}

/// Whether reading the text is harmless: it is short, and has no anchors (so no aliases), no merge keys, no directives,
/// and no line ends on which readers disagree.
fn is_tame(text: &str) -> bool {
    let (mut opened, mut before) = (0, b'\n');
    for byte in text.bytes() {
        match byte {
            b'&' | b'\r' => return false,
            b'%' if before == b'\n' => return false,
            b'<' if before == b'<' => return false,
            b'[' | b'{' => opened += 1,
            _ => {}
        }
        before = byte;
    }
    text.len() <= BYTES && opened <= OPENED && !text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
}

/// Where the content of each document begins; line 0 for a document without any. `---` and `...` at the beginning of a
/// line are never content (YAML 1.2.2, section 9.1.2), whatever surrounds them.
fn starts(text: &str) -> Vec<Position> {
    let mut complete = Vec::new();
    let mut open: Option<Position> = None;
    for (number, line) in (1..).zip(text.split('\n')) {
        let mut content = line;
        if let Some(rest) = after_marker(line, "...") {
            complete.extend(open.take());
            content = rest;
        } else if let Some(rest) = after_marker(line, "---") {
            complete.extend(open.replace(Position::default()));
            content = rest;
        }
        let content = content.trim_start_matches([' ', '\t']);
        if !content.is_empty() && !content.starts_with('#') {
            let start = open.get_or_insert_default();
            if start.line == 0 {
                // What is before the content is blanks and a marker: as many characters as bytes.
                *start = Position { line: number, column: (line.len() - content.len()) as u32 + 1 };
            }
        }
    }
    complete.extend(open);
    complete
}

fn after_marker<'t>(line: &'t str, marker: &str) -> Option<&'t str> {
    line.strip_prefix(marker).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests;
