//! From the text of a file to values with places.

mod quick;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use crate::index::{Indexed, Problem, index};
use crate::limits;
use crate::place::{Locations, Position};

/// The values of a text, each with the places of its fields. Empty documents are left out.
pub(crate) fn read(path: &Path, whole: &Arc<str>) -> (Vec<(Value, Locations)>, Vec<Problem>) {
    let text = without_mark(whole);
    if text.len() > limits::FILE_BYTES {
        let message = format!("the file has {} bytes; at most {} are read", text.len(), limits::FILE_BYTES);
        return (Vec::new(), vec![Problem { position: None, field: None, message }]);
    }
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    if !is_json && let Some(mut values) = quick::read(whole) {
        values.retain(|(value, _)| !value.is_null());
        return (values, Vec::new());
    }
    let mut indexed = if is_json { index(&as_yaml(text)) } else { index(text) };
    let mut problems = std::mem::take(&mut indexed.duplicates);
    let mut values = if is_json { json(text, indexed, &mut problems) } else { yaml(text, indexed, &mut problems) };
    values.retain(|(value, _)| !value.is_null());
    (values, problems)
}

/// A byte order mark is not content.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn yaml(text: &str, mut indexed: Indexed, problems: &mut Vec<Problem>) -> Vec<(Value, Locations)> {
    let documents = serde_yaml::Deserializer::from_str(text);
    // The index comes first in the pair: where it ends, the other reader must not even look at the text.
    let places = std::mem::take(&mut indexed.documents);
    let mut values = Vec::with_capacity(places.len());
    let may_merge = text.contains("<<");
    for (locations, document) in places.into_iter().zip(documents) {
        match Reader::LENIENT.deserialize(document) {
            Ok(mut value) => {
                if may_merge {
                    merge(&mut value);
                }
                values.push((value, locations));
            }
            Err(error) => {
                let here = error.location().map(|at| Position { line: at.line() as u32, column: at.column() as u32 });
                let position = here.or_else(|| locations.find(&[]));
                problems.push(Problem { position, field: None, message: format!("not valid YAML: {error}") });
                break;
            }
        }
    }
    problems.extend(indexed.fatal);
    values
}

/// JSON is nearly YAML, but only nearly: its values come from a JSON reader, and the places from the YAML events of
/// [`as_yaml`] as far as those understand it. Values without places are still read, for JSON has no aliases.
fn json(text: &str, indexed: Indexed, problems: &mut Vec<Problem>) -> Vec<(Value, Locations)> {
    match serde_json::from_str::<Leniently>(text) {
        Ok(Leniently(value)) => vec![(value, indexed.documents.into_iter().next().unwrap_or_default())],
        Err(error) => {
            let position = Some(Position { line: error.line() as u32, column: error.column().max(1) as u32 });
            problems.push(Problem { position, field: None, message: format!("not valid JSON: {error}") });
            Vec::new()
        }
    }
}

/// JSON with what YAML does not know replaced by something of the same length, so that places stay: tabs between
/// values, and escapes of surrogates within them.
fn as_yaml(json: &str) -> String {
    let mut rest = json;
    let mut text = String::with_capacity(json.len());
    while let Some(at) = rest.find(['\t', '\\']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (replacement, length) = match rest.as_bytes() {
            [b'\t', ..] => (" ", 1),
            [b'\\', b'u', b'd' | b'D', third, ..] if third.is_ascii_hexdigit() && *third >= b'8' => ("\\u00", 4),
            // The second of a pair is not the beginning of an escape.
            [b'\\', next, ..] if next.is_ascii() => (&rest[..2], 2),
            _ => ("\\", 1),
        };
        text.push_str(replacement);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

/// Reads any value. Keys that are numbers or truth values become text, as Kubernetes' own reader does it.
#[derive(Clone, Copy)]
struct Reader {
    /// Whether to fail where the index would find something wrong. Otherwise the first of a key that is there twice is
    /// kept: that it is an error is reported from the index, for all of them.
    is_strict: bool,
    /// How many lists and objects are around the value.
    depth: usize,
}

impl Reader {
    const LENIENT: Self = Self { is_strict: false, depth: 0 };
    const STRICT: Self = Self { is_strict: true, depth: 0 };

    /// For what is within a list or an object.
    fn within<E: Error>(self) -> Result<Self, E> {
        if self.is_strict && self.depth >= limits::DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

struct Leniently(Value);

impl<'de> Deserialize<'de> for Leniently {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reader::LENIENT.deserialize(deserializer).map(Self)
    }
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // What JSON has no number for (`.nan`, `.inf`) stays text and is refused wherever a number is wanted.
        Ok(serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        use serde::de::VariantAccess;
        let (tag, content) = data.variant::<String>()?;
        content.newtype_variant_seed(self)?;
        Err(A::Error::custom(format!("the tag `!{tag}` means nothing here")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let within = self.within()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(within)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let within = self.within()?;
        let mut object = Map::new();
        while let Some(key) = fields.next_key_seed(within)? {
            let value = fields.next_value_seed(within)?;
            let key = match key {
                Value::String(key) => key,
                Value::Array(_) | Value::Object(_) if self.is_strict => return Err(A::Error::custom("not a key")),
                other => other.to_string(),
            };
            match object.entry(key) {
                Entry::Vacant(free) => drop(free.insert(value)),
                Entry::Occupied(_) if self.is_strict => return Err(A::Error::custom("a key is there twice")),
                Entry::Occupied(_) => {}
            }
        }
        Ok(Value::Object(object))
    }
}

/// Resolves merge keys (`<<: *defaults`): fields of the named objects that the object does not have itself.
fn merge(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(merge),
        Value::Object(object) => {
            object.values_mut().for_each(merge);
            let sources = match object.get("<<") {
                Some(Value::Object(_)) => object.remove("<<").into_iter().collect(),
                Some(Value::Array(list)) if list.iter().all(Value::is_object) => match object.remove("<<") {
                    Some(Value::Array(list)) => list,
                    _ => Vec::new(),
                },
                _ => Vec::new(),
            };
            for source in sources {
                if let Value::Object(fields) = source {
                    fields.into_iter().for_each(|(key, value)| {
                        object.entry(key).or_insert(value);
                    });
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
