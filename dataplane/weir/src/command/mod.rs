//! One file per command. A command parses its arguments, calls one crate, and prints.

pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod plugin;
pub(crate) mod policy;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod versions;
pub(crate) mod watch;

use std::io::Write as _;

/// Prints a JSON value on lines of their own.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints text. Whoever reads it may stop before its end, as `head` does.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// How the user called this program, for commands that can be pasted into the same shell.
pub(crate) fn this_program() -> String {
    quoted(&std::env::args_os().next().map_or_else(|| "weir".to_owned(), |typed| typed.to_string_lossy().into_owned()))
}

/// A word as a shell takes it for one.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What a user may call a version; it becomes a part of a path, so that it must not have just any character.
pub(crate) fn version_name(text: &str) -> Result<String, String> {
    let is_number = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_id = (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number || is_id || text == "current" {
        return Ok(text.to_owned());
    }
    Err("a version is a number from `weir versions`, at least 8 digits of a version id, or `current`".to_owned())
}

/// A count with its noun: `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_sees_one() {
        for (word, expected) in [
            ("target/release/weir", "target/release/weir"),
            ("http://10.96.0.10/a", "http://10.96.0.10/a"),
            ("http://[fd96::10]/", "'http://[fd96::10]/'"),
            ("x-user-tag: canary", "'x-user-tag: canary'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("~/weir", "'~/weir'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn versions_have_names_that_fit_into_a_path() {
        for (name, is_right) in [
            ("1", true),
            ("4711", true),
            ("current", true),
            ("0123abcd", true),
            (&*"f".repeat(64), true),
            (&*"f".repeat(65), false),
            ("0123abc", false),
            ("", false),
            ("../status", false),
            ("a b", false),
            ("latest", false),
        ] {
            assert_eq!(version_name(name).is_ok(), is_right, "{name}");
        }
    }

    #[test]
    fn nouns_are_in_the_number_of_their_count() {
        for (count, expected) in [(0, "0 errors"), (1, "1 error"), (2, "2 errors")] {
            assert_eq!(counted(count, "error"), expected);
        }
    }
}
