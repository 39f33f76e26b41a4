//! `Plugin` (weir.dev/v1): a module of WebAssembly that sees requests and responses, and what it may use.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::name::{ClusterName, ObjectName};
use weir_core::plugin::{Capabilities, Layer, Limits, Loaded, MAX_MEMORY, OnFailure, Phase, Plugin, Shadow, VmOptions};
use weir_core::share::Share;

use super::duration::{DurationText, duration};
use super::envelope::Envelope;
use super::host;
use super::metadata::Metadata;
use super::services::ServiceSpec;
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::{OrText, nullable, text_or_number};

mod attached;
mod module;

use attached::RuleRefSpec;
pub(crate) use attached::{Attached, PluginFor, RuleRef};
use module::ModuleSpec;

/// A `Plugin` as it is written.
pub(crate) type PluginDocument = Envelope<Spec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with module, protocol, services, gateways, rules, configuration, phase, order, percentage, \
                 onFailure, limits, capabilities, shadow, rootId, vm"
)]
pub(crate) struct Spec {
    module: Option<ModuleSpec>,
    protocol: Option<String>,
    services: Option<Vec<OrText<ServiceSpec>>>,
    gateways: Option<Vec<String>>,
    rules: Option<Vec<OrText<RuleRefSpec>>>,
    configuration: Option<Value>,
    phase: Option<String>,
    order: Option<i64>,
    percentage: Option<f64>,
    on_failure: Option<String>,
    limits: Option<LimitsSpec>,
    capabilities: Option<CapabilitiesSpec>,
    shadow: Option<ShadowSpec>,
    root_id: Option<String>,
    vm: Option<VmSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with module and configuration")]
struct ShadowSpec {
    module: Option<ModuleSpec>,
    configuration: Option<Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with functions and upstreams")]
struct CapabilitiesSpec {
    functions: Option<Vec<String>>,
    upstreams: Option<Vec<String>>,
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
            let attached = spec.attached(namespace, checker);
            let module = checker.field("module", |checker| match &spec.module {
                Some(module) => module.check(checker),
                None => {
                    checker.error("must say what the plugin runs");
                    None
                }
            });
            let configuration = text(spec.configuration.as_ref(), "configuration", checker);
            let plugin = Plugin {
                name,
                protocol: choice("protocol", spec.protocol.as_deref(), PROTOCOLS, checker),
                configuration,
                root_id: spec.root_id.as_deref().unwrap_or_default().into(),
                vm: checker.field("vm", |checker| spec.vm(checker)),
                share: spec.share(checker),
                phase: choice("phase", spec.phase.as_deref(), PHASES, checker),
                order: spec.order(checker),
                limits: checker.field("limits", |checker| spec.limits(checker)),
                capabilities: checker.field("capabilities", |checker| spec.capabilities(namespace, checker)),
                on_failure: choice("onFailure", spec.on_failure.as_deref(), POLICIES, checker),
                shadow: checker.field("shadow", |checker| spec.shadow(checker)),
                module: module?,
                loaded: Loaded::default(),
            };
            if plugin.shadow.is_some() && plugin.protocol == Layer::Tcp {
                checker.error_at("shadow", "only a plugin for requests can be tried out beside the traffic");
            }
            Some(Content::Plugin(Box::new(PluginFor { attached, plugin: Arc::new(plugin) })))
        })
    }

    fn normalise(&mut self) {
        let Spec { module, shadow, .. } = &mut self.spec;
        let of_shadow = shadow.as_mut().and_then(|shadow| shadow.module.as_mut());
        module.iter_mut().chain(of_shadow).for_each(ModuleSpec::normalise);
    }
}

impl Spec {
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

    fn shadow<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Box<Shadow>> {
        let shadow = self.shadow.as_ref()?;
        if shadow.module.is_none() && shadow.configuration.is_none() {
            checker.error("must have another module or another configuration than the plugin");
        }
        let module = shadow.module.as_ref().or(self.module.as_ref())?;
        let module = checker.field("module", |checker| module.check(checker));
        let configuration = shadow.configuration.as_ref().or(self.configuration.as_ref());
        let configuration = text(configuration, "configuration", checker);
        Some(Box::new(Shadow { module: module?, configuration, loaded: Loaded::default() }))
    }

    fn capabilities<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Capabilities {
        let Some(CapabilitiesSpec { functions, upstreams }) = &self.capabilities else {
            return Capabilities::default();
        };
        let most = limits::PLUGIN_CAPABILITIES;
        for (key, count) in [("functions", functions), ("upstreams", upstreams)].map(|(key, all)| (key, all.as_ref())) {
            if count.is_some_and(|all| all.len() > most) {
                checker.error_at(key, format!("at most {most} names"));
            }
        }
        let upstreams = upstreams.as_ref().map(|all| {
            checker.field("upstreams", |checker| {
                let named = all.iter().take(most).enumerate();
                let named = named.filter_map(|(position, written)| {
                    checker.element(position, |checker| upstream(written, namespace, checker))
                });
                named.collect()
            })
        });
        let functions = functions.as_ref().map(|all| all.iter().take(most).map(|name| name.as_str().into()).collect());
        Capabilities { functions, upstreams }
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

const PROTOCOLS: &[(&str, Layer)] = &[("http", Layer::Http), ("tcp", Layer::Tcp)];

const PHASES: &[(&str, Phase)] =
    &[("unspecified", Phase::Unspecified), ("authn", Phase::Authn), ("authz", Phase::Authz), ("stats", Phase::Stats)];

const POLICIES: &[(&str, OnFailure)] =
    &[("closed", OnFailure::Closed), ("open", OnFailure::Open), ("reload", OnFailure::Reload)];

/// One of several words; the first where nothing is said.
fn choice<'a, T: Copy>(key: &'a str, written: Option<&str>, words: &[(&str, T)], checker: &mut Checker<'a>) -> T {
    let written = written.unwrap_or(words[0].0);
    let found = words.iter().find(|(word, _)| *word == written);
    found
        .unwrap_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            checker.error_at(key, format!("must be one of {}, is \"{written}\"", known.join(", ")));
            &words[0]
        })
        .1
}

/// A service with its port, by a name as rules write it: `name:port`.
fn upstream(written: &str, namespace: &str, checker: &mut Checker<'_>) -> Option<ClusterName> {
    let parsed = written.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(ClusterName { service: host::parse(name, namespace)?, port })
    });
    if parsed.is_none() {
        checker.error(format!("must be a service with its port, like auth:80 or auth.shop:80, is \"{written}\""));
    }
    parsed
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
