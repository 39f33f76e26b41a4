//! A rule as it is written. Everything is optional here: what is missing is a matter for the check, which knows more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::kinds::duration::DurationText;
use crate::kinds::envelope::Envelope;
use crate::kinds::retry::ATTEMPTS;
use crate::kinds::services::ServiceSpec;
use crate::shape::{OneOrMany, OrText, Shape, Text, nullable, text_or_number};

/// A `RouteRule` as it is written.
pub(crate) type RouteRuleDocument = Envelope<Spec>;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with match, route, directResponse, mirror, timeouts, retry, rateLimit, fault"
)]
pub(crate) struct Spec {
    pub(super) services: Option<Vec<OrText<ServiceSpec>>>,
    pub(super) priority: Option<i64>,
    #[serde(rename = "match")]
    pub(super) matches: Option<OneOrMany<MatchSpec>>,
    pub(super) route: Option<RouteSpec>,
    pub(super) mirror: Option<OneOrMany<MirrorSpec>>,
    pub(super) timeouts: Option<TimeoutsSpec>,
    pub(super) retry: Option<RetrySpec>,
    pub(super) direct_response: Option<DirectSpec>,
    pub(super) rate_limit: Option<RateLimitSpec>,
    pub(super) fault: Option<FaultSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with status and body")]
pub(super) struct DirectSpec {
    pub(super) status: Option<i64>,
    pub(super) body: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with requests, unit, burst, per")]
pub(super) struct RateLimitSpec {
    pub(super) requests: Option<i64>,
    pub(super) unit: Option<DurationText>,
    pub(super) burst: Option<i64>,
    pub(super) per: Option<StickySpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with delay and abort")]
pub(super) struct FaultSpec {
    pub(super) delay: Option<DelaySpec>,
    pub(super) abort: Option<AbortSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with fixedDelay and percentage")]
pub(super) struct DelaySpec {
    pub(super) fixed_delay: Option<DurationText>,
    pub(super) percentage: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with httpStatus or grpcStatus, and percentage"
)]
pub(super) struct AbortSpec {
    pub(super) http_status: Option<i64>,
    pub(super) grpc_status: Option<i64>,
    pub(super) percentage: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object with headers, cookies, query, plugin, path, method, or a list of them"
)]
pub(super) struct MatchSpec {
    #[serde(deserialize_with = "nullable")]
    pub(super) headers: BTreeMap<String, OrText<TextSpec>>,
    #[serde(deserialize_with = "nullable")]
    pub(super) cookies: BTreeMap<String, OrText<TextSpec>>,
    #[serde(deserialize_with = "nullable")]
    pub(super) query: BTreeMap<String, OrText<TextSpec>>,
    #[serde(deserialize_with = "nullable")]
    pub(super) plugin: BTreeMap<String, OrText<TextSpec>>,
    pub(super) path: Option<PathSpec>,
    pub(super) method: Option<OneOrMany<MethodText>>,
}

impl Shape for MatchSpec {
    const ONE: &'static str = "an object with headers, cookies, query, plugin, path, method";
    const SEVERAL: &'static str = "an object with headers, cookies, query, plugin, path, method, or a list of them";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TextSpec {
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) regex: Option<String>,
    pub(super) present: Option<bool>,
    pub(super) absent: Option<bool>,
}

impl Shape for TextSpec {
    const ONE: &'static str = "text, or an object with one of exact, prefix, suffix, regex, present, absent";
    const SEVERAL: &'static str = Self::ONE;
}

impl From<String> for TextSpec {
    fn from(exact: String) -> Self {
        Self { exact: Some(exact), ..Self::default() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with one of exact, prefix, suffix, regex")]
pub(super) struct PathSpec {
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) regex: Option<String>,
}

/// Marks a text as a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OfMethod;

pub(super) type MethodText = Text<OfMethod>;

impl Shape for OfMethod {
    const ONE: &'static str = "text (a method)";
    const SEVERAL: &'static str = "text (a method) or a list of methods";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with destination or destinations")]
pub(super) struct RouteSpec {
    pub(super) destination: Option<DestinationSpec>,
    pub(super) destinations: Option<Vec<DestinationSpec>>,
    pub(super) sticky: Option<StickySpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with host, port, weight")]
pub(super) struct DestinationSpec {
    pub(super) host: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) weight: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with one of header, cookie, source")]
pub(super) struct StickySpec {
    pub(super) header: Option<String>,
    pub(super) cookie: Option<String>,
    pub(super) source: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with destination, percentage, methods, or a list of them")]
pub(super) struct MirrorSpec {
    pub(super) destination: Option<DestinationSpec>,
    pub(super) percentage: Option<f64>,
    pub(super) methods: Option<Vec<MethodText>>,
}

impl Shape for MirrorSpec {
    const ONE: &'static str = "an object with destination, percentage, methods";
    const SEVERAL: &'static str = "an object with destination, percentage, methods, or a list of them";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with request and perTry")]
pub(super) struct TimeoutsSpec {
    pub(super) request: Option<DurationText>,
    pub(super) per_try: Option<DurationText>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with attempts, on, methods, backoff, hedgeAfter, destination"
)]
pub(super) struct RetrySpec {
    pub(super) attempts: Option<i64>,
    pub(super) on: Option<Vec<FailureText>>,
    pub(super) methods: Option<Vec<MethodText>>,
    pub(super) backoff: Option<DurationText>,
    pub(super) hedge_after: Option<DurationText>,
    pub(super) destination: Option<OrText<RetryToSpec>>,
}

/// The name of a kind of failure, or a status code.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct FailureText(#[serde(deserialize_with = "text_or_number")] pub(super) String);

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum RetryToSpec {
    Word(String),
    Named(RetryHostSpec),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryHostSpec {
    pub(super) host: Option<String>,
    pub(super) port: Option<i64>,
}

impl<'de> Deserialize<'de> for RetryToSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        RetryHostSpec::deserialize(from).map(Self::Named)
    }
}

impl Shape for RetryToSpec {
    const ONE: &'static str = "`first`, `same`, or an object with host and port";
    const SEVERAL: &'static str = Self::ONE;
}

impl From<String> for RetryToSpec {
    fn from(word: String) -> Self {
        Self::Word(word)
    }
}

impl Spec {
    /// Writes what means the same in the same way.
    pub(super) fn normalise(&mut self) {
        self.priority = self.priority.filter(|priority| *priority != 0);
        for one in self.matches.iter_mut().flat_map(|matches| &mut matches.items) {
            let headers = std::mem::take(&mut one.headers);
            one.headers = headers.into_iter().map(|(name, text)| (name.to_ascii_lowercase(), text)).collect();
        }
        if let Some(route) = &mut self.route {
            let destinations = route.destinations.iter_mut().flatten();
            for destination in route.destination.iter_mut().chain(destinations) {
                destination.weight = destination.weight.filter(|weight| *weight != 1);
            }
            if let Some(StickySpec { header: Some(header), .. }) = &mut route.sticky {
                header.make_ascii_lowercase();
            }
        }
        if let Some(retry) = &mut self.retry {
            // Written out, because an empty object is nothing.
            retry.attempts.get_or_insert(ATTEMPTS.into());
            let is_first = |to: &OrText<RetryToSpec>| to.0 == RetryToSpec::Word("first".to_owned());
            retry.destination = retry.destination.take().filter(|to| !is_first(to));
        }
        let fault = self.fault.iter_mut();
        for percentage in fault.flat_map(|fault| {
            let abort = fault.abort.iter_mut().map(|abort| &mut abort.percentage);
            fault.delay.iter_mut().map(|delay| &mut delay.percentage).chain(abort)
        }) {
            *percentage = percentage.filter(|percentage| *percentage != 100.0);
        }
        if let Some(StickySpec { header: Some(header), .. }) =
            self.rate_limit.as_mut().and_then(|limit| limit.per.as_mut())
        {
            header.make_ascii_lowercase();
        }
        for mirror in self.mirror.iter_mut().flat_map(|mirrors| &mut mirrors.items) {
            mirror.percentage = mirror.percentage.filter(|percentage| *percentage != 100.0);
        }
    }
}
