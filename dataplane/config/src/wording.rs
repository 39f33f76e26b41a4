//! Says what is wrong in words of people who write YAML, and guesses what they meant.

/// The nearest of the known names, when it is near enough to be what was meant: at most one slip in three letters.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let bound = (name.chars().count() / 3).clamp(1, 3);
    let near = known.into_iter().map(|known| (distance(name, known), known));
    near.filter(|(distance, _)| *distance <= bound).min().map(|(_, known)| known)
}

/// Insertions, deletions, replacements and swaps of neighbours between two texts (optimal string alignment). Letters
/// in the wrong case are not slips.
fn distance(a: &str, b: &str) -> usize {
    // Names longer than any of ours are no slips of the pen, and must cost nothing.
    const LONGEST: usize = 64;
    let letters = |text: &str| text.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A message of serde in other words.
pub(crate) fn for_people(message: &str) -> String {
    if message.starts_with("unknown field `") {
        return unknown_field(message);
    }
    let (found, expected) = match message.split_once(", expected ") {
        Some((found, expected)) => (found, wanted(expected)),
        None => return message.to_owned(),
    };
    let found = ["invalid type: ", "invalid value: ", "invalid length "]
        .into_iter()
        .find_map(|start| found.strip_prefix(start))
        .unwrap_or(found);
    let quoted = found.split('`').nth(1).filter(|_| !found.starts_with("string ") && expected.contains("text"));
    let hint = quoted.map_or_else(String::new, |plain| format!("; write it in quotes: \"{plain}\""));
    format!("must be {expected}, is {}{hint}", found_as(found))
}

fn unknown_field(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(meant) => format!("unknown field `{unknown}`, did you mean `{meant}`?"),
        None if known.is_empty() => format!("unknown field `{unknown}`; there are no fields here"),
        None => format!("unknown field `{unknown}`; the fields here are {}", known.join(", ")),
    }
}

fn wanted(expected: &str) -> &str {
    match expected {
        "a string" => "text",
        "i64" | "u64" | "i32" | "u32" | "u16" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        other => other,
    }
}

fn found_as(found: &str) -> String {
    let plain = found.split('`').nth(1);
    match (found.split(' ').next().unwrap_or_default(), plain) {
        ("integer" | "floating", Some(number)) => format!("the number {number}"),
        ("boolean", Some(value)) => value.to_owned(),
        ("string", _) => format!("the text {}", found.trim_start_matches("string ")),
        ("map", _) => "an object".to_owned(),
        ("sequence", _) => "a list".to_owned(),
        ("null" | "unit", _) => "empty".to_owned(),
        _ => found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["headers", "cookies", "query", "path", "method"];
        let cases = [
            ("haeders", Some("headers")),
            ("header", Some("headers")),
            ("HEADERS", Some("headers")),
            ("cookeis", Some("cookies")),
            ("paht", Some("path")),
            ("methods", Some("method")),
            ("destination", None),
            ("", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"h".repeat(100_000), known), None);
    }

    #[test]
    fn messages_of_serde_in_other_words() {
        let cases = [
            (
                "unknown field `haeders`, expected one of `headers`, `path`",
                "unknown field `haeders`, did you mean `headers`?",
            ),
            ("unknown field `x`, expected `headers` or `path`", "unknown field `x`; the fields here are headers, path"),
            ("unknown field `x`, there are no fields", "unknown field `x`; there are no fields here"),
            (
                "invalid type: integer `5`, expected a string",
                "must be text, is the number 5; write it in quotes: \"5\"",
            ),
            ("invalid type: boolean `true`, expected a string", "must be text, is true; write it in quotes: \"true\""),
            ("invalid type: string \"`a`\", expected i64", "must be a whole number, is the text \"`a`\""),
            ("invalid type: map, expected a list of methods", "must be a list of methods, is an object"),
            ("invalid type: null, expected a map", "must be an object, is empty"),
            ("something else", "something else"),
        ];
        for (message, expected) in cases {
            assert_eq!(for_people(message), expected);
        }
    }
}
