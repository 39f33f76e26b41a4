//! The access log: where it goes, what a line says, and which requests have one.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use weir_core::share::Share;
use weir_telemetry::access::{Destination, Field, Format};

use super::percent;

/// The access log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct AccessLog {
    /// Where lines go.
    pub destination: Destination,
    /// What they look like.
    pub format: Format,
    /// Which share of the requests that went well is written. Those that failed always are.
    pub sampled: Share,
}

/// The same as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// An absolute path, `stdout` or `stderr`.
    path: String,
    /// From 1 MiB to 1 TiB. Default: 64 MiB.
    #[serde(default = "default_max_bytes")]
    max_bytes: u64,
    /// Of the requests that went well. From 0 to 100. Default: 100.
    #[serde(default, deserialize_with = "percent::deserialize")]
    sampled_percent: Option<Share>,
    /// What JSON lines say. Default: everything.
    #[serde(default, deserialize_with = "fields")]
    fields: Option<Vec<Field>>,
    /// Lines of text instead of JSON.
    #[serde(default, deserialize_with = "template")]
    template: Option<Format>,
}

fn default_max_bytes() -> u64 {
    64 << 20
}

fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Field>>, D::Error> {
    let Some(names) = Option::<Vec<String>>::deserialize(deserializer)? else { return Ok(None) };
    let fields = names.iter().map(|name| name.parse().map_err(Error::custom));
    fields.collect::<Result<_, _>>().map(Some)
}

fn template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    Format::template(&text).map(Some).map_err(Error::custom)
}

impl TryFrom<Written> for AccessLog {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { path, max_bytes, sampled_percent, fields, template } = written;
        let (least, most) = (1 << 20, 1 << 40);
        if !(least..=most).contains(&max_bytes) {
            return Err(format!("maxBytes is {max_bytes}: it must be from {least} to {most}"));
        }
        let destination = match &*path {
            "stdout" => Destination::Stdout,
            "stderr" => Destination::Stderr,
            path if path.starts_with('/') => Destination::File { path: PathBuf::from(path), max_bytes },
            path => return Err(format!("path is {path:?}: it must be absolute, or stdout, or stderr")),
        };
        let format = match (fields, template) {
            (Some(_), Some(_)) => return Err("fields are of JSON lines: with a template there are none".to_owned()),
            (Some(fields), None) if fields.is_empty() => return Err("fields is empty".to_owned()),
            (Some(fields), None) => Format::Json(fields),
            (None, Some(template)) => template,
            (None, None) => Format::default(),
        };
        Ok(Self { destination, format, sampled: sampled_percent.unwrap_or(Share::ALL) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        let file = |max_bytes| Destination::File { path: "/a/b".into(), max_bytes };
        let some = Share::from_percent(2.5).unwrap();
        let cases = [
            (r#"{"path": "/a/b"}"#, (file(64 << 20), Format::default(), Share::ALL)),
            (r#"{"path": "/a/b", "maxBytes": 1048576}"#, (file(1 << 20), Format::default(), Share::ALL)),
            (r#"{"path": "stdout", "sampledPercent": 2.5}"#, (Destination::Stdout, Format::default(), some)),
            (
                r#"{"path": "stderr", "fields": ["time", "status"]}"#,
                (Destination::Stderr, Format::Json(vec![Field::Time, Field::Status]), Share::ALL),
            ),
            (
                r#"{"path": "stdout", "template": "{path}!"}"#,
                (Destination::Stdout, Format::template("{path}!").unwrap(), Share::ALL),
            ),
        ];
        for (text, (destination, format, sampled)) in cases {
            let expected = AccessLog { destination, format, sampled };
            assert_eq!(serde_json::from_str::<AccessLog>(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let cases = [
            (r#"{"path": "a"}"#, "path is \"a\": it must be absolute, or stdout, or stderr"),
            (r#"{"path": "/a", "maxBytes": 1}"#, "maxBytes is 1: it must be from 1048576 to 1099511627776"),
            (r#"{"path": "/a", "fields": []}"#, "fields is empty"),
            (r#"{"path": "/a", "fields": ["time"], "template": ""}"#, "with a template there are none"),
            (r#"{"path": "/a", "fields": ["when"]}"#, "\"when\" is no field of the access log"),
            (r#"{"path": "/a", "template": "{"}"#, "has no partner"),
            (r#"{"path": "/a", "sampledPercent": 101}"#, "from 0 to 100 percent"),
            (r#"{"path": "/a", "pathh": "/b"}"#, "unknown field `pathh`"),
            ("{}", "missing field `path`"),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<AccessLog>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
