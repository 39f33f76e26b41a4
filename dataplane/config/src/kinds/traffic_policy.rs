//! `BackendTrafficPolicy` (weir.dev/v1): how the endpoints of services are treated. What it says it says in the words of
//! Envoy Gateway's kind of that name, as far as that goes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use weir_core::balance::{Algorithm, HealthCheck, OutlierDetection, Question, TrafficPolicy};
use weir_core::name::ServiceName;
use weir_core::split::StickyKey;

use super::condition::{cookie, method};
use super::duration::{DurationText, duration};
use super::envelope::Envelope;
use super::metadata::{Metadata, is_label, is_subdomain};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::place::Segment;
use crate::shape::nullable;

/// A `BackendTrafficPolicy` as it is written.
pub(crate) type TrafficPolicyDocument = Envelope<Spec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with targetRefs, loadBalancer, healthCheck, circuitBreaker"
)]
pub(crate) struct Spec {
    #[serde(deserialize_with = "nullable")]
    target_refs: Vec<TargetSpec>,
    load_balancer: Option<BalancerSpec>,
    health_check: Option<HealthSpec>,
    circuit_breaker: Option<BreakerSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with maxParallelRequests, maxParallelRetries"
)]
struct BreakerSpec {
    max_parallel_requests: Option<i64>,
    max_parallel_retries: Option<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with kind, name, sectionName")]
struct TargetSpec {
    group: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    section_name: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with type, consistentHash, slowStart"
)]
struct BalancerSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    consistent_hash: Option<HashSpec>,
    slow_start: Option<SlowStartSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with type and header or cookie")]
struct HashSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    header: Option<NameSpec>,
    cookie: Option<NameSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with name")]
struct NameSpec {
    name: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with window")]
struct SlowStartSpec {
    window: Option<DurationText>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with active, passive, panicThreshold"
)]
struct HealthSpec {
    active: Option<ActiveSpec>,
    passive: Option<PassiveSpec>,
    panic_threshold: Option<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with consecutive5XxErrors, consecutiveGatewayErrors, consecutiveLocalOriginFailures, \
                 failurePercentageThreshold, requestVolume, interval, baseEjectionTime, maxEjectionTime, \
                 maxEjectionPercent"
)]
struct PassiveSpec {
    #[serde(rename = "consecutive5XxErrors")]
    consecutive_5xx_errors: Option<i64>,
    consecutive_gateway_errors: Option<i64>,
    consecutive_local_origin_failures: Option<i64>,
    failure_percentage_threshold: Option<i64>,
    request_volume: Option<i64>,
    interval: Option<DurationText>,
    base_ejection_time: Option<DurationText>,
    max_ejection_time: Option<DurationText>,
    max_ejection_percent: Option<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with type, interval, timeout, unhealthyThreshold, healthyThreshold, http, grpc"
)]
struct ActiveSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    interval: Option<DurationText>,
    timeout: Option<DurationText>,
    unhealthy_threshold: Option<i64>,
    healthy_threshold: Option<i64>,
    http: Option<HttpSpec>,
    grpc: Option<GrpcSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with path, hostname, method, expectedStatuses"
)]
struct HttpSpec {
    path: Option<String>,
    hostname: Option<String>,
    method: Option<String>,
    #[serde(deserialize_with = "nullable")]
    expected_statuses: Vec<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with service")]
struct GrpcSpec {
    service: Option<String>,
}

/// A policy as valid, with what it is for.
#[derive(Debug)]
pub(crate) struct PolicyFor {
    pub(crate) targets: Vec<Target>,
    pub(crate) policy: TrafficPolicy,
}

/// A service, or one port of it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: ServiceName,
    /// The name of the port; `None` for all.
    pub(crate) port_name: Option<Box<str>>,
    /// Where in the list it is written.
    pub(crate) position: usize,
}

impl Target {
    /// The field that names it.
    pub(crate) fn path(&self) -> [Segment<'static>; 3] {
        [Segment::Key("spec"), Segment::Key("targetRefs"), Segment::Index(self.position)]
    }
}

impl Kind for TrafficPolicyDocument {
    const KIND: &'static str = "BackendTrafficPolicy";
    const API_VERSIONS: &'static [&'static str] = &["weir.dev/v1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        checker.field("spec", |checker| {
            let targets = checker.field("targetRefs", |checker| self.spec.targets(namespace, checker));
            let mut policy = TrafficPolicy::default();
            if let Some(balancer) = &self.spec.load_balancer {
                checker.field("loadBalancer", |checker| balancer.apply(&mut policy, checker));
            }
            if let Some(health) = &self.spec.health_check {
                checker.field("healthCheck", |checker| health.apply(&mut policy, checker));
            }
            if let Some(breaker) = &self.spec.circuit_breaker {
                checker.field("circuitBreaker", |checker| breaker.apply(&mut policy, checker));
            }
            Some(Content::TrafficPolicy(Box::new(PolicyFor { targets, policy })))
        })
    }

    fn normalise(&mut self) {
        let spec = &mut self.spec;
        for target in &mut spec.target_refs {
            target.group = target.group.take().filter(|group| !group.is_empty() && group != "core");
            target.kind = target.kind.take().filter(|kind| kind != "Service");
        }
        if let Some(passive) = spec.health_check.as_mut().and_then(|health| health.passive.as_mut()) {
            // Written out, because an empty object is nothing.
            passive.interval.get_or_insert_with(|| "10s".to_owned().into());
        }
    }
}

impl Spec {
    fn targets<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Vec<Target> {
        let written = &self.target_refs;
        if written.is_empty() {
            checker.error("must name the services that the policy is for");
        }
        if written.len() > limits::SERVICES {
            checker.error(format!("at most {} targets, here are {}", limits::SERVICES, written.len()));
        }
        let mut valid = Vec::new();
        for (position, target) in written.iter().enumerate().take(limits::SERVICES) {
            checker.element(position, |checker| {
                let is_core = matches!(target.group.as_deref(), None | Some("" | "core"));
                if !is_core || target.kind.as_deref().is_some_and(|kind| kind != "Service") {
                    checker.error("a target must be a Service of the core group");
                    return;
                }
                let Some(name) = &target.name else {
                    checker.missing("name", "must name a service");
                    return;
                };
                if !is_label(name) {
                    checker.error_at("name", format!("\"{name}\" is not the name of a service"));
                    return;
                }
                let port_name = target.section_name.as_deref().map(Into::into);
                valid.push(Target { service: ServiceName::new(namespace, name), port_name, position });
            });
        }
        valid
    }
}

impl BalancerSpec {
    fn apply<'a>(&'a self, policy: &mut TrafficPolicy, checker: &mut Checker<'a>) {
        if let Some(slow_start) = &self.slow_start {
            checker.field("slowStart", |checker| {
                policy.slow_start = duration("window", slow_start.window.as_ref(), checker);
                if slow_start.window.is_none() {
                    checker.missing("window", "must say for how long a new endpoint takes less than its share");
                }
            });
        }
        const TYPES: [&str; 5] = ["LeastRequest", "PeakEWMA", "RoundRobin", "Random", "ConsistentHash"];
        let form = self.form.as_deref().unwrap_or("LeastRequest");
        if self.consistent_hash.is_some() && form != "ConsistentHash" {
            checker.error_at("consistentHash", "is only for `type: ConsistentHash`");
        }
        policy.algorithm = match form {
            "LeastRequest" => Algorithm::LeastRequest,
            "PeakEWMA" => Algorithm::PeakEwma,
            "RoundRobin" => Algorithm::RoundRobin,
            "Random" => Algorithm::Random,
            "ConsistentHash" => match &self.consistent_hash {
                None => {
                    checker.missing("consistentHash", "must say what is to find the same endpoint again");
                    return;
                }
                Some(hash) => match checker.field("consistentHash", |checker| hash.key(checker)) {
                    Some(key) => Algorithm::ConsistentHash(key),
                    None => return,
                },
            },
            other => {
                checker.error_at("type", format!("must be one of {}, is \"{other}\"", TYPES.join(", ")));
                return;
            }
        };
    }
}

impl BreakerSpec {
    fn apply(&self, policy: &mut TrafficPolicy, checker: &mut Checker<'_>) {
        let range = (0, 1_000_000);
        policy.max_requests = number("maxParallelRequests", self.max_parallel_requests, range, checker);
        policy.max_retries = number("maxParallelRetries", self.max_parallel_retries, range, checker);
    }
}

impl HashSpec {
    fn key<'a>(&'a self, checker: &mut Checker<'a>) -> Option<StickyKey> {
        let form = self.form.as_deref().unwrap_or_default();
        for (key, field, owner) in [("header", &self.header, "Header"), ("cookie", &self.cookie, "Cookie")] {
            if field.is_some() && form != owner {
                checker.error_at(key, format!("is only for `type: {owner}`"));
            }
        }
        let mut name = |key: &'a str, field: &'a Option<NameSpec>| {
            let name = field.as_ref().and_then(|field| field.name.as_deref());
            if name.is_none() {
                checker.missing(key, format!("must have the name of a {key}"));
            }
            name
        };
        match form {
            "Header" => {
                let name = name("header", &self.header)?;
                let header = HeaderName::from_bytes(name.as_bytes()).ok();
                if header.is_none() {
                    checker.error_at("header", format!("\"{name}\" is not the name of a header"));
                }
                header.map(StickyKey::Header)
            }
            "Cookie" => {
                let name = name("cookie", &self.cookie)?;
                match cookie(name) {
                    Ok(_) => Some(StickyKey::Cookie(name.into())),
                    Err(message) => {
                        checker.error_at("cookie", message);
                        None
                    }
                }
            }
            "SourceIP" => Some(StickyKey::SourceIp),
            "SourceIdentity" => Some(StickyKey::SourceIdentity),
            other => {
                checker.error_at(
                    "type",
                    format!("must be one of Header, Cookie, SourceIP, SourceIdentity, is \"{other}\""),
                );
                None
            }
        }
    }
}

impl HealthSpec {
    fn apply<'a>(&'a self, policy: &mut TrafficPolicy, checker: &mut Checker<'a>) {
        if let Some(percent) = number("panicThreshold", self.panic_threshold, (0, 100), checker) {
            policy.panic_percent = percent as u8;
        }
        if let Some(active) = &self.active {
            policy.health = checker.field("active", |checker| active.check(checker)).map(Arc::new);
        }
        if let Some(passive) = &self.passive {
            policy.outliers = Some(checker.field("passive", |checker| passive.check(checker)));
        }
    }
}

impl PassiveSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> OutlierDetection {
        let usual = OutlierDetection::default();
        let mut in_a_row = |key, written, usual| match number(key, written, (0, 1_000_000), checker) {
            None => usual,
            Some(count) => Some(count).filter(|count| *count > 0),
        };
        let consecutive_5xx = in_a_row("consecutive5XxErrors", self.consecutive_5xx_errors, usual.consecutive_5xx);
        let consecutive_gateway_errors =
            in_a_row("consecutiveGatewayErrors", self.consecutive_gateway_errors, usual.consecutive_gateway_errors);
        let consecutive_local_failures = in_a_row(
            "consecutiveLocalOriginFailures",
            self.consecutive_local_origin_failures,
            usual.consecutive_local_failures,
        );
        let percent = number("failurePercentageThreshold", self.failure_percentage_threshold, (1, 100), checker);
        let volume = number("requestVolume", self.request_volume, (1, 1_000_000), checker);
        let most = number("maxEjectionPercent", self.max_ejection_percent, (0, 100), checker);
        let mut time = |key, written: &'a Option<DurationText>, usual| time(key, written.as_ref(), usual, checker);
        OutlierDetection {
            consecutive_5xx,
            consecutive_gateway_errors,
            consecutive_local_failures,
            failure_percentage: percent.map(|percent| percent as u8),
            request_volume: volume.unwrap_or(usual.request_volume),
            interval: time("interval", &self.interval, usual.interval),
            base_ejection: time("baseEjectionTime", &self.base_ejection_time, usual.base_ejection),
            max_ejection: time("maxEjectionTime", &self.max_ejection_time, usual.max_ejection),
            max_ejection_percent: most.map_or(usual.max_ejection_percent, |most| most as u8),
        }
    }
}

impl ActiveSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<HealthCheck> {
        let interval = time("interval", self.interval.as_ref(), Duration::from_secs(3), checker);
        let timeout = time("timeout", self.timeout.as_ref(), Duration::from_secs(1), checker);
        let unhealthy = number("unhealthyThreshold", self.unhealthy_threshold, (1, 1_000), checker);
        let healthy = number("healthyThreshold", self.healthy_threshold, (1, 1_000), checker);
        let form = self.form.as_deref().unwrap_or_default();
        for (key, is_written, owner) in [("http", self.http.is_some(), "HTTP"), ("grpc", self.grpc.is_some(), "GRPC")] {
            if is_written && form != owner {
                checker.error_at(key, format!("is only for `type: {owner}`"));
            }
        }
        let question = match form {
            "TCP" => Some(Question::Tcp),
            "GRPC" => {
                let service = self.grpc.as_ref().and_then(|grpc| grpc.service.as_deref()).unwrap_or_default();
                if service.len() > limits::GRPC_SERVICE_BYTES {
                    let most = limits::GRPC_SERVICE_BYTES;
                    checker.field("grpc", |checker| checker.error_at("service", format!("at most {most} bytes")));
                }
                Some(Question::Grpc { service: service.into() })
            }
            "HTTP" => match &self.http {
                Some(http) => checker.field("http", |checker| http.check(checker)),
                None => {
                    checker.missing("http", "must say what endpoints are asked: {path: /healthz}");
                    None
                }
            },
            other => {
                checker.error_at("type", format!("must be one of HTTP, GRPC, TCP, is \"{other}\""));
                None
            }
        };
        Some(HealthCheck {
            question: question?,
            interval,
            timeout,
            healthy_threshold: healthy.unwrap_or(1),
            unhealthy_threshold: unhealthy.unwrap_or(3),
        })
    }
}

impl HttpSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Question> {
        let path = self.path.as_deref().and_then(|path| {
            let is_path = path.starts_with('/') && path.parse::<Uri>().is_ok() && path.len() <= limits::CONDITION_BYTES;
            if !is_path {
                checker.error_at("path", format!("\"{path}\" is not the path of a request"));
            }
            is_path.then_some(path)
        });
        if self.path.is_none() {
            checker.missing("path", "must be the path that endpoints are asked for");
        }
        let host = self.hostname.as_deref().map(|host| {
            let value = HeaderValue::try_from(host).ok().filter(|_| is_subdomain(host));
            if value.is_none() {
                checker.error_at("hostname", format!("\"{host}\" is not the name of a host"));
            }
            value
        });
        let method = self.method.as_deref().map_or(Ok(Method::GET), method);
        let method = method.map_err(|message| checker.error_at("method", message)).ok();
        let mut statuses = Vec::new();
        checker.field("expectedStatuses", |checker| {
            if self.expected_statuses.len() > limits::FAILURES {
                checker.error(format!("at most {} statuses", limits::FAILURES));
            }
            for (position, status) in self.expected_statuses.iter().enumerate().take(limits::FAILURES) {
                match u16::try_from(*status).ok().filter(|status| (200..600).contains(status)) {
                    Some(status) => statuses.push(status),
                    None => checker.element(position, |c| c.error(format!("must be from 200 to 599, is {status}"))),
                }
            }
        });
        Some(Question::Http { method: method?, path: path?.into(), host: host.flatten(), statuses })
    }
}

/// A time from 100 ms to a day.
fn time<'a>(key: &'a str, written: Option<&'a DurationText>, usual: Duration, checker: &mut Checker<'a>) -> Duration {
    let time = duration(key, written, checker);
    if time.is_some_and(|time| !(SHORTEST..=LONGEST).contains(&time)) {
        checker.error_at(key, "must be from 100ms to 24h");
    }
    time.unwrap_or(usual)
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(86_400);

/// A whole number within a range; `None` where nothing, or nothing right, is written.
fn number<'a>(key: &'a str, written: Option<i64>, (least, most): (u32, u32), checker: &mut Checker<'a>) -> Option<u32> {
    let written = written?;
    let valid = u32::try_from(written).ok().filter(|number| (least..=most).contains(number));
    if valid.is_none() {
        checker.error_at(key, format!("must be from {least} to {most}, is {written}"));
    }
    valid
}
