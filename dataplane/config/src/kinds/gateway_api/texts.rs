//! Conditions on texts with names, which matches of every kind of route have.

use weir_core::route::{Condition, Field, TextMatch};

use super::spec::NamedTextSpec;
use crate::check::Checker;
use crate::kinds::condition::{bounded, expression};
use crate::limits;
use crate::wording;

/// The conditions of a list.
pub(super) fn texts<'a>(
    specs: &'a [NamedTextSpec],
    field: fn(&str) -> Result<Field, String>,
    checker: &mut Checker<'a>,
) -> Vec<Condition> {
    if specs.len() > limits::CONDITIONS {
        checker.error(format!("at most {} of a kind in one match, here are {}", limits::CONDITIONS, specs.len()));
    }
    let mut conditions: Vec<Condition> = Vec::new();
    for (position, spec) in specs.iter().enumerate().take(limits::CONDITIONS) {
        checker.element(position, |checker| {
            let text = text_match(spec, checker);
            let Some(name) = &spec.name else {
                checker.missing("name", "needs a name");
                return;
            };
            match field(name) {
                Err(message) => checker.error_at("name", message),
                // As the API has it: of several with one name only the first counts.
                Ok(field) if conditions.iter().any(|other| other.field == field) => {
                    checker.warning(format!("{field} is there twice; only the first has an effect"));
                }
                Ok(field) => conditions.extend(text.map(|text| Condition { field, text })),
            }
        });
    }
    conditions
}

fn text_match<'a>(spec: &'a NamedTextSpec, checker: &mut Checker<'a>) -> Option<TextMatch> {
    let Some(value) = spec.value.as_deref() else {
        checker.missing("value", "needs a value");
        return None;
    };
    // As the API has it: a value is at least one character long.
    let value = bounded("value", Some(value), Some("type: RegularExpression and value: .* for any"), checker)?;
    match spec.form.as_deref().unwrap_or("Exact") {
        "Exact" => Some(TextMatch::Exact(value.into())),
        "RegularExpression" => expression("value", value, checker).map(TextMatch::Regex),
        other => {
            checker.error_at("type", unknown("type", other, &["Exact", "RegularExpression"]));
            None
        }
    }
}

/// Says that a word is not among those known.
pub(super) fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    match wording::nearest(found, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{found}`, did you mean `{meant}`?"),
        None => format!("unknown {what} `{found}`; there are {}", known.join(", ")),
    }
}
