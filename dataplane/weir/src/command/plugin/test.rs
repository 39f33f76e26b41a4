//! `weir plugin test`: a table of requests, and what a plugin is to make of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request, response};
use serde::Deserialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use weir_core::plugin::Limits;
use weir_plugin_host::{Denied, Engine, Module, Options, Plugin, Routing, Scopes, Vm};

use super::trial::{Answer, Message, Outcome, Services, exchange};
use crate::command::{counted, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Files with cases
    #[arg(default_value = "tests.yaml")]
    files: Vec<PathBuf>,
    /// The module, instead of the one that each file names
    #[arg(long)]
    plugin: Option<PathBuf>,
}

/// A file with cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The module; beside the file where it is not absolute.
    plugin: PathBuf,
    /// What cases are configured with that do not say it themselves.
    #[serde(default)]
    configuration: Value,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    configuration: Option<Value>,
    #[serde(default)]
    request: RequestSpec,
    /// What an endpoint answers.
    #[serde(default)]
    upstream: ResponseSpec,
    /// What services answer that the plugin calls.
    #[serde(default)]
    services: BTreeMap<String, ResponseSpec>,
    /// How often the request comes; the last time counts.
    #[serde(default = "once")]
    times: u32,
    expect: Expected,
}

fn once() -> u32 {
    1
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RequestSpec {
    method: String,
    path: String,
    headers: BTreeMap<String, Texts>,
    body: String,
}

impl Default for RequestSpec {
    fn default() -> Self {
        Self { method: "GET".to_owned(), path: "/".to_owned(), headers: BTreeMap::new(), body: String::new() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResponseSpec {
    status: u16,
    headers: BTreeMap<String, Texts>,
    body: String,
}

impl Default for ResponseSpec {
    fn default() -> Self {
        Self { status: 200, headers: BTreeMap::new(), body: String::new() }
    }
}

/// The values of a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(all) => all,
        }
    }
}

/// What the values of a header are to be.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    Are(Texts),
    /// One, and another than this.
    Not {
        not: String,
    },
}

impl Values {
    fn are(&self, found: &[String]) -> bool {
        match (self, found) {
            (Self::Are(expected), found) => expected.all() == found,
            (Self::Not { not }, [one]) => one != not,
            (Self::Not { .. }, _) => false,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Are(expected) => format!("{:?}", expected.all()),
            Self::Not { not } => format!("one that is not \"{not}\""),
        }
    }
}

/// What is to come of it. What is not said may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    /// Whether the configuration is refused.
    refused: bool,
    /// What an endpoint is sent.
    request: Option<ExpectedMessage>,
    /// What the client is sent.
    response: Option<ExpectedMessage>,
    /// Whether an endpoint is asked.
    passes: Option<bool>,
    /// How it ends otherwise: `fails`, `is broken off`, `is too large`, `waits for ever`.
    end: Option<String>,
    /// What rules can match (`weir.match`).
    r#match: BTreeMap<String, String>,
    /// What is decided about the route (`weir.route`).
    route: BTreeMap<String, Value>,
    /// The plugin's metrics.
    metrics: BTreeMap<String, i64>,
    /// Each is part of a line of the log.
    logs: Vec<String>,
    /// What services were asked, as `SERVICE METHOD PATH`.
    calls: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ExpectedMessage {
    method: Option<String>,
    path: Option<String>,
    status: Option<u16>,
    /// Each with its value, its values, `{not: VALUE}`, or null where it must not be there.
    headers: BTreeMap<String, Option<Values>>,
    body: Option<String>,
}

impl Test {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let engine = Engine::new()?;
        let (mut passed, mut failed) = (0, 0);
        for file in &self.files {
            let file = if file.is_dir() { file.join("tests.yaml") } else { file.clone() };
            let table = Table::read(&file)?;
            let path = match &self.plugin {
                Some(plugin) => plugin.clone(),
                None => file.parent().unwrap_or(Path::new("")).join(&table.plugin),
            };
            let read = std::fs::read(&path)
                .with_context(|| format!("{}: `weir plugin build` makes it of its source", path.display()))?;
            let module = Module::compile(&engine, &read).with_context(|| path.display().to_string())?;
            for case in &table.cases {
                let wrong = case.run(&module, &table.configuration)?;
                let word = if wrong.is_empty() { "ok  " } else { "FAIL" };
                print(&format!("{word} {}\n", case.name))?;
                wrong.iter().try_for_each(|what| print(&format!("     {what}\n")))?;
                *if wrong.is_empty() { &mut passed } else { &mut failed } += 1;
            }
        }
        anyhow::ensure!(passed + failed > 0, "there is no case");
        print(&format!("{} passed, {failed} failed\n", counted(passed, "case")))?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Table {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_yaml::from_str(&text).with_context(|| path.display().to_string())
    }
}

fn headers(written: &BTreeMap<String, Texts>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in written {
        let name = HeaderName::try_from(name).with_context(|| format!("header {name}"))?;
        for value in values.all() {
            headers.append(&name, HeaderValue::try_from(value).with_context(|| format!("header {name}"))?);
        }
    }
    Ok(headers)
}

impl RequestSpec {
    fn message(&self) -> anyhow::Result<Message<request::Parts>> {
        let request = Request::builder().method(&*self.method).uri(&*self.path).body(())?;
        let mut head = request.into_parts().0;
        head.headers = headers(&self.headers)?;
        if !head.headers.contains_key("host") {
            head.headers.insert("host", HeaderValue::from_static("test"));
        }
        Ok(Message { head, body: Bytes::copy_from_slice(self.body.as_bytes()) })
    }
}

impl ResponseSpec {
    fn message(&self) -> anyhow::Result<Message<response::Parts>> {
        let mut head = Response::builder().status(self.status).body(())?.into_parts().0;
        head.headers = headers(&self.headers)?;
        Ok(Message { head, body: Bytes::copy_from_slice(self.body.as_bytes()) })
    }
}

/// What a plugin reads of a configuration: a text as it is, anything else as JSON.
fn text(configuration: &Value) -> Bytes {
    match configuration {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        other => other.to_string().into(),
    }
}

impl Case {
    /// What is not as it was expected.
    fn run(&self, module: &Module, configuration: &Value) -> anyhow::Result<Vec<String>> {
        let in_case = || format!("the case \"{}\"", self.name);
        let options = Options {
            name: "default/test".into(),
            root_id: "".into(),
            vm_id: "test".into(),
            vm_configuration: Bytes::new(),
            configuration: text(self.configuration.as_ref().unwrap_or(configuration)),
            environment: Box::default(),
            limits: Limits::default(),
            denied: Denied::default(),
            upstreams: None,
        };
        let plugin = Plugin::new(module.clone(), options, &Scopes::default());
        let mut services = Services::default();
        for (name, answer) in &self.services {
            let Message { head, body } = answer.message().with_context(in_case)?;
            services.answers.insert(name.clone(), Answer { head, body });
        }
        let services = Rc::new(services);
        let log = Log::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        let outcome = tracing::subscriber::with_default(subscriber, || {
            let vm = match Vm::start(&plugin, Rc::clone(&services) as Rc<dyn weir_plugin_host::Environment>) {
                Ok(vm) => vm,
                Err(error) => return Ok(Err(error)),
            };
            let mut outcome = Outcome::default();
            for _ in 0..self.times {
                let (request, response) = (self.request.message()?, self.upstream.message()?);
                outcome = exchange(&vm, &services, request, response);
            }
            anyhow::Ok(Ok(outcome))
        });
        let lines = log.lines();
        let mut wrong = match outcome.with_context(in_case)? {
            Err(error) if self.expect.refused => {
                drop(error);
                Vec::new()
            }
            Err(error) => vec![format!("it does not start: {error}")],
            Ok(_) if self.expect.refused => vec!["the configuration is not refused".to_owned()],
            Ok(outcome) => self.expect.compare(&outcome, &plugin, &services),
        };
        let missing = self.expect.logs.iter().filter(|part| !lines.iter().any(|line| line.contains(&***part)));
        wrong.extend(missing.map(|part| format!("no line of the log has \"{part}\"")));
        if !wrong.is_empty() {
            wrong.extend(lines.iter().map(|line| format!("log: {line}")));
        }
        Ok(wrong)
    }
}

impl Expected {
    fn compare(&self, outcome: &Outcome, plugin: &Plugin, services: &Services) -> Vec<String> {
        let mut wrong = Vec::new();
        if outcome.end != self.end.as_deref() {
            let word = |end: Option<&str>| end.map_or_else(|| "goes on".to_owned(), str::to_owned);
            wrong.push(format!("the exchange {}, and not {}", word(outcome.end), word(self.end.as_deref())));
        }
        if let Some(passes) = self.passes.filter(|passes| *passes != outcome.request.is_some()) {
            let what = if passes { "does not reach an endpoint" } else { "reaches an endpoint" };
            wrong.push(format!("the request {what}"));
        }
        if let Some(expected) = &self.request {
            match &outcome.request {
                None => wrong.push("the request does not reach an endpoint".to_owned()),
                Some(Message { head, body }) => {
                    let first = [
                        ("method", expected.method.clone(), head.method.to_string()),
                        ("path", expected.path.clone(), head.uri.to_string()),
                    ];
                    expected.compare("request", &first, &head.headers, body, &mut wrong);
                }
            }
        }
        if let Some(expected) = &self.response {
            match &outcome.response {
                None => wrong.push("there is no response".to_owned()),
                Some(Message { head, body }) => {
                    let status = expected.status.map(|status| status.to_string());
                    let first = [("status", status, head.status.as_u16().to_string())];
                    expected.compare("response", &first, &head.headers, body, &mut wrong);
                }
            }
        }
        self.compare_routing(&outcome.routing, &mut wrong);
        for (name, expected) in &self.metrics {
            let found = plugin.metrics().into_iter().find(|metric| metric.name == *name).map(|metric| metric.value);
            if found != Some(*expected) {
                let found = found.map_or_else(|| "not there".to_owned(), |found| found.to_string());
                wrong.push(format!("the metric {name} is {found}, and not {expected}"));
            }
        }
        if let Some(expected) = self.calls.as_ref().filter(|expected| **expected != *services.asked.borrow()) {
            wrong.push(format!("it asks {:?}, and not {expected:?}", services.asked.borrow()));
        }
        wrong
    }

    fn compare_routing(&self, routing: &Routing, wrong: &mut Vec<String>) {
        if let Some(mistake) = &routing.mistake {
            wrong.push(mistake.to_string());
        }
        for (name, expected) in &self.r#match {
            let found = routing.attributes.iter().find(|(known, _)| **known == **name).map(|(_, value)| &**value);
            if found != Some(expected) {
                wrong.push(format!("what rules match as {name} is {found:?}, and not \"{expected}\""));
            }
        }
        let listed = |all: &[(Box<str>, String)]| {
            let all: Vec<_> = all.iter().map(|(name, number)| format!("{name}{number}")).collect();
            all.join(",")
        };
        for (name, expected) in &self.route {
            let found = match &**name {
                "destination" => {
                    let is_one = routing.destinations.len() == 1;
                    let weight = |weight: u32| if is_one { String::new() } else { format!("={weight}") };
                    let all: Vec<_> =
                        routing.destinations.iter().map(|(name, one)| (name.clone(), weight(*one))).collect();
                    Some(listed(&all)).filter(|all| !all.is_empty())
                }
                "version" => routing.version.as_deref().map(str::to_owned),
                "mirror" => routing.mirrors.as_ref().map(|mirrors| {
                    let percent = |percent: f64| if percent == 100.0 { String::new() } else { format!("={percent}") };
                    let all: Vec<_> = mirrors.iter().map(|(name, one)| (name.clone(), percent(*one))).collect();
                    listed(&all)
                }),
                "timeout_ms" => routing.timeout.map(|timeout| timeout.as_millis().to_string()),
                "retries" => routing.retries.map(|retries| retries.to_string()),
                other => Some(format!("(there is no decision {other})")),
            };
            let expected = match expected {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            if found != expected {
                let word = |value: Option<String>| value.unwrap_or_else(|| "not decided".to_owned());
                wrong.push(format!("the route's {name} is {}, and not {}", word(found), word(expected)));
            }
        }
    }
}

impl ExpectedMessage {
    fn compare(
        &self,
        what: &str,
        first: &[(&str, Option<String>, String)],
        headers: &HeaderMap,
        body: &[u8],
        wrong: &mut Vec<String>,
    ) {
        for (field, expected, found) in first {
            if let Some(expected) = expected.as_ref().filter(|expected| *expected != found) {
                wrong.push(format!("the {what}'s {field} is {found}, and not {expected}"));
            }
        }
        for (name, expected) in &self.headers {
            let found: Vec<_> = headers
                .get_all(name.to_ascii_lowercase())
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            let is_right = expected.as_ref().map_or(found.is_empty(), |expected| expected.are(&found));
            if !is_right {
                let expected = expected.as_ref().map_or_else(|| "[]".to_owned(), Values::describe);
                wrong.push(format!("the {what}'s header {name} is {found:?}, and not {expected}"));
            }
        }
        if let Some(expected) = self.body.as_ref().filter(|expected| expected.as_bytes() != body) {
            wrong.push(format!("the {what}'s body is {:?}, and not {expected:?}", String::from_utf8_lossy(body)));
        }
    }
}

/// The lines that a plugin logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
    }
}
