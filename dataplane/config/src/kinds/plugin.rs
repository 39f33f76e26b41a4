//! `Plugin` (weir.dev/v1): a module of WebAssembly that sees requests and responses, and what it may use.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::name::ObjectName;
use weir_core::plugin::{Limits, Loaded, MAX_MEMORY, ModuleSource, OnFailure, Plugin, VmOptions};
use weir_core::share::Share;

use super::duration::{DurationText, duration};
use super::envelope::Envelope;
use super::metadata::Metadata;
use super::rules::AppliesTo;
use super::services::{ServiceSpec, services};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::{OrText, nullable, text_or_number};

/// A `Plugin` as it is written.
pub(crate) type PluginDocument = Envelope<Spec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with module, services, configuration, order, percentage, onFailure, limits, rootId, vm"
)]
pub(crate) struct Spec {
    module: Option<ModuleSpec>,
    services: Option<Vec<OrText<ServiceSpec>>>,
    configuration: Option<Value>,
    order: Option<i64>,
    percentage: Option<f64>,
    on_failure: Option<String>,
    limits: Option<LimitsSpec>,
    root_id: Option<String>,
    vm: Option<VmSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with file and sha256")]
struct ModuleSpec {
    file: Option<String>,
    sha256: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with callback, start, memory, body"
)]
struct LimitsSpec {
    callback: Option<DurationText>,
    start: Option<DurationText>,
    #[serde(deserialize_with = "size")]
    memory: Option<String>,
    #[serde(deserialize_with = "size")]
    body: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with id, configuration, environment")]
struct VmSpec {
    id: Option<String>,
    configuration: Option<Value>,
    #[serde(deserialize_with = "nullable")]
    environment: BTreeMap<String, String>,
}

fn size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    text_or_number(from).map(Some)
}

/// A plugin as valid, with what it is for.
#[derive(Debug)]
pub(crate) struct PluginFor {
    /// The services; `None` for all of its namespace.
    pub(crate) applies_to: Option<Vec<AppliesTo>>,
    pub(crate) plugin: Arc<Plugin>,
}

impl Kind for PluginDocument {
    const KIND: &'static str = "Plugin";
    const API_VERSIONS: &'static [&'static str] = &["weir.dev/v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        let name = ObjectName::new(Self::KIND, namespace, self.metadata.name.as_deref()?);
        checker.field("spec", |checker| {
            let spec = &self.spec;
            let applies_to = checker.field("services", |checker| {
                spec.services.as_ref().map(|written| services("a plugin", written, namespace, checker))
            });
            let module = checker.field("module", |checker| spec.module(checker));
            let order = spec.order(checker);
            let share = spec.share(checker);
            let on_failure = spec.on_failure(checker);
            let limits = checker.field("limits", |checker| spec.limits(checker));
            let configuration = text(spec.configuration.as_ref(), "configuration", checker);
            let root_id = spec.root_id.as_deref().unwrap_or_default().into();
            let vm = checker.field("vm", |checker| spec.vm(checker));
            let plugin = Plugin {
                name,
                module: module?,
                configuration,
                root_id,
                vm,
                share,
                order,
                limits,
                on_failure,
                loaded: Loaded::default(),
            };
            Some(Content::Plugin(Box::new(PluginFor { applies_to, plugin: Arc::new(plugin) })))
        })
    }

    fn normalise(&mut self) {
        if let Some(sha256) = self.spec.module.as_mut().and_then(|module| module.sha256.as_mut()) {
            sha256.make_ascii_lowercase();
        }
    }
}

impl Spec {
    fn module<'a>(&'a self, checker: &mut Checker<'a>) -> Option<ModuleSource> {
        let Some(ModuleSpec { file, sha256 }) = &self.module else {
            checker.error("must say what the plugin runs");
            return None;
        };
        let digest = sha256.as_ref().map(|text| {
            let digest = digest(text);
            if digest.is_none() {
                checker.error_at("sha256", format!("must be 64 hexadecimal digits, is \"{text}\""));
            }
            digest
        });
        match file.as_deref() {
            None | Some("") => {
                checker.missing("file", "must name a file");
                None
            }
            Some(file) => Some(ModuleSource { file: PathBuf::from(file), sha256: digest.flatten() }),
        }
    }

    fn order<'a>(&'a self, checker: &mut Checker<'a>) -> i32 {
        let order = self.order.unwrap_or_default();
        if order.abs() > limits::PRIORITY {
            checker.error_at("order", format!("must be between -{0} and {0}, is {order}", limits::PRIORITY));
            return 0;
        }
        order as i32
    }

    fn share<'a>(&'a self, checker: &mut Checker<'a>) -> Share {
        let Some(percent) = self.percentage else { return Share::ALL };
        Share::from_percent(percent).unwrap_or_else(|| {
            checker.error_at("percentage", format!("must be between 0 and 100, is {percent}"));
            Share::ALL
        })
    }

    fn on_failure<'a>(&'a self, checker: &mut Checker<'a>) -> OnFailure {
        match self.on_failure.as_deref() {
            None | Some("closed") => OnFailure::Closed,
            Some("open") => OnFailure::Open,
            Some(other) => {
                checker.error_at("onFailure", format!("must be closed or open, is \"{other}\""));
                OnFailure::Closed
            }
        }
    }

    fn limits<'a>(&'a self, checker: &mut Checker<'a>) -> Limits {
        let usual = Limits::default();
        let Some(LimitsSpec { callback, start, memory, body }) = &self.limits else { return usual };
        let mut time = |key, written: &'a Option<DurationText>, (least, most), usual| {
            let Some(time) = duration(key, written.as_ref(), checker) else { return usual };
            if !(least..=most).contains(&time) {
                checker.error_at(key, format!("must be between {least:?} and {most:?}, is {time:?}"));
            }
            time
        };
        let callback = time("callback", callback, (Duration::from_millis(1), Duration::from_secs(1)), usual.callback);
        let start = time("start", start, (Duration::from_millis(10), Duration::from_secs(60)), usual.start);
        let memory = bytes("memory", memory.as_deref(), (64 << 10)..=MAX_MEMORY, checker);
        let body = bytes("body", body.as_deref(), 0..=limits::PLUGIN_BODY, checker);
        Limits { callback, start, memory: memory.unwrap_or(usual.memory), body: body.unwrap_or(usual.body), ..usual }
    }

    fn vm<'a>(&'a self, checker: &mut Checker<'a>) -> VmOptions {
        let Some(VmSpec { id, configuration, environment }) = &self.vm else { return VmOptions::default() };
        let is_bad = |text: &str| text.contains('\0');
        if environment.len() > limits::PLUGIN_ENVIRONMENT
            || environment
                .iter()
                .any(|(name, value)| name.is_empty() || name.contains('=') || is_bad(name) || is_bad(value))
        {
            let most = limits::PLUGIN_ENVIRONMENT;
            checker.error_at("environment", format!("at most {most} names without = and NUL, each with a text"));
        }
        VmOptions {
            id: id.as_deref().map(Into::into),
            configuration: text(configuration.as_ref(), "configuration", checker),
            environment: environment.iter().map(|(name, value)| format!("{name}={value}").into()).collect(),
        }
    }
}

/// What a plugin reads of a configuration: a text as it is, anything else as JSON.
fn text<'a>(written: Option<&Value>, key: &'a str, checker: &mut Checker<'a>) -> Arc<[u8]> {
    let text = match written {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.len() > limits::PLUGIN_CONFIGURATION {
        let (most, is) = (limits::PLUGIN_CONFIGURATION, text.len());
        checker.error_at(key, format!("must not be longer than {most} bytes, is {is}"));
    }
    text.into_bytes().into()
}

/// The bytes of 64 hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(digest)
}

/// A number of bytes: digits, perhaps with `Ki`, `Mi` or `Gi`, as Kubernetes writes quantities.
fn bytes<'a>(
    key: &'a str,
    written: Option<&str>,
    range: RangeInclusive<usize>,
    checker: &mut Checker<'a>,
) -> Option<usize> {
    let written = written?;
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((written.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit.unwrap_or((written, 0));
    let count = digits.parse::<usize>().ok().and_then(|count| count.checked_mul(1 << shift));
    let count = count.filter(|count| range.contains(count));
    if count.is_none() {
        let (least, most) = (range.start(), range.end());
        let message =
            format!("must be a number of bytes between {least} and {most}, like 512Ki or 16Mi, is \"{written}\"");
        checker.error_at(key, message);
    }
    count
}
