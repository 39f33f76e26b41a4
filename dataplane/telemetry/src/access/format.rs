//! What lines look like: JSON objects, or text as a template has it.

use std::io::Write as _;

use super::AccessRecord;
use super::field::{Field, UnknownField, Value};

/// How much of a text is written. Paths and headers can be as long as a head may be.
const TEXT_BYTES: usize = 1_024;

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object with these fields, without those that a request does not have.
    Json(Vec<Field>),
    /// Text with fields in it.
    Template(Vec<Piece>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Written as it is.
    Text(String),
    /// Replaced by what the request has there, or `-`.
    Field(Field),
}

/// A template that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name in braces is no field's.
    #[error(transparent)]
    Field(#[from] UnknownField),
    /// A brace has no partner. `{{` and `}}` are written as single braces.
    #[error("the {0:?} at byte {1} has no partner; a brace of its own is written twice")]
    Brace(char, usize),
    /// A line is one line.
    #[error("a template has no line breaks")]
    LineBreak,
}

impl Default for Format {
    fn default() -> Self {
        Self::Json(Field::ALL.to_vec())
    }
}

impl Format {
    /// Text with `{field}` where a field is to stand.
    ///
    /// # Errors
    /// When there is no such field, or the braces do not fit.
    pub fn template(text: &str) -> Result<Self, TemplateError> {
        if text.contains(['\n', '\r']) {
            return Err(TemplateError::LineBreak);
        }
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(position) = rest.find(['{', '}']) {
            let brace = if rest[position..].starts_with('{') { '{' } else { '}' };
            literal.push_str(&rest[..position]);
            let after = &rest[position + 1..];
            rest = if let Some(after) = after.strip_prefix(brace) {
                literal.push(brace);
                after
            } else {
                let at = text.len() - rest.len() + position;
                let name = after.split_once('}').filter(|_| brace == '{');
                let (name, after) = name.ok_or(TemplateError::Brace(brace, at))?;
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Field(name.trim().parse()?));
                after
            };
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self::Template(pieces))
    }

    /// Adds a line.
    pub(super) fn write(&self, record: &AccessRecord<'_>, line: &mut Vec<u8>) {
        match self {
            Self::Json(fields) => {
                line.push(b'{');
                let begun = line.len();
                for field in fields {
                    let value = record.value(*field);
                    if matches!(value, Value::Absent) {
                        continue;
                    }
                    if line.len() > begun {
                        line.push(b',');
                    }
                    let _ = write!(line, "\"{}\":", field.name());
                    json(value, line);
                }
                line.push(b'}');
            }
            Self::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => line.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => text(record.value(*field), line),
                    }
                }
            }
        }
        line.push(b'\n');
    }
}

fn json(value: Value<'_>, line: &mut Vec<u8>) {
    // Nothing that is written to memory fails.
    let _ = match value {
        Value::Absent => serde_json::to_writer(line, &()),
        Value::Number(number) => serde_json::to_writer(line, &number),
        Value::Text(text) => serde_json::to_writer(line, cut(&text)),
        Value::Texts(texts) => serde_json::to_writer(line, &texts),
    };
}

/// As nginx does: what would end a line, or a quotation, is written as its number.
fn text(value: Value<'_>, line: &mut Vec<u8>) {
    let mut escaped = |text: &str| {
        for byte in cut(text).bytes() {
            match byte {
                b'"' | b'\\' | 0..=0x1f | 0x7f => drop(write!(line, "\\x{byte:02X}")),
                _ => line.push(byte),
            }
        }
    };
    match value {
        Value::Absent => line.push(b'-'),
        Value::Number(number) => drop(write!(line, "{number}")),
        Value::Text(text) => escaped(&text),
        Value::Texts(texts) => escaped(&texts.join(",")),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}
