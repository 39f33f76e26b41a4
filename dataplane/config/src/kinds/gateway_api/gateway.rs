//! `Gateway`: ports of the node that clients from outside connect to, and who may attach routes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::gateway::{CertificateName, Hostname};
use weir_core::route::Created;

use super::hostnames::hostname;
use super::spec::default_text;
use super::texts::unknown;
use crate::check::Checker;
use crate::kinds::destination::port;
use crate::kinds::envelope::Envelope;
use crate::kinds::metadata::{Metadata, is_subdomain};
use crate::kinds::{Content, Kind};
use crate::limits;
use crate::place::Segment;
use crate::shape::nullable;

/// The class of the gateways that are Weir's.
const CLASS: &str = "weir";

/// A `Gateway` as it is written.
pub(crate) type GatewayDocument = Envelope<GatewaySpec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with gatewayClassName, listeners, addresses"
)]
pub(crate) struct GatewaySpec {
    gateway_class_name: Option<String>,
    #[serde(deserialize_with = "nullable")]
    listeners: Vec<ListenerSpec>,
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<AddressSpec>,
    infrastructure: Option<Value>,
    allowed_listeners: Option<Value>,
    tls: Option<Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with name, hostname, port, protocol, tls, allowedRoutes"
)]
struct ListenerSpec {
    name: Option<String>,
    hostname: Option<String>,
    port: Option<i64>,
    protocol: Option<String>,
    tls: Option<ListenerTlsSpec>,
    allowed_routes: Option<AllowedSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with mode, certificateRefs, options"
)]
struct ListenerTlsSpec {
    mode: Option<String>,
    #[serde(deserialize_with = "nullable")]
    certificate_refs: Vec<CertificateSpec>,
    #[serde(deserialize_with = "nullable")]
    options: BTreeMap<String, String>,
    frontend_validation: Option<Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with group, kind, name, namespace")]
struct CertificateSpec {
    group: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with type and value")]
struct AddressSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with namespaces and kinds")]
struct AllowedSpec {
    namespaces: Option<NamespacesSpec>,
    #[serde(deserialize_with = "nullable")]
    kinds: Vec<KindSpec>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with from and selector")]
struct NamespacesSpec {
    from: Option<String>,
    selector: Option<SelectorSpec>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with matchLabels and matchExpressions"
)]
struct SelectorSpec {
    #[serde(deserialize_with = "nullable")]
    match_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    match_expressions: Vec<ExpressionSpec>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with key, operator, values")]
struct ExpressionSpec {
    key: Option<String>,
    operator: Option<String>,
    #[serde(deserialize_with = "nullable")]
    values: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with group and kind")]
struct KindSpec {
    group: Option<String>,
    kind: Option<String>,
}

/// A gateway as valid.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Whether it is of Weir's class: of others nothing is served.
    pub(crate) is_own: bool,
    pub(crate) created: Option<Created>,
    /// The addresses that it listens at; none for all of the node's.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those that can be served.
    pub(crate) listeners: Vec<Listener>,
}

/// A listener as valid.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Box<str>,
    pub(crate) hostname: Hostname,
    pub(crate) port: u16,
    /// What it shows clients in TLS; `None` where they speak none.
    pub(crate) certificates: Option<Vec<Certificate>>,
    pub(crate) from: From,
    /// The kinds of routes that it takes.
    pub(crate) kinds: BTreeSet<&'static str>,
    /// Where in the list it is written.
    position: usize,
}

impl Listener {
    /// Where in its document it is written.
    pub(crate) fn path(&self) -> [Segment<'static>; 3] {
        [Segment::Key("spec"), Segment::Key("listeners"), Segment::Index(self.position)]
    }
}

/// A certificate that a listener names.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) name: CertificateName,
    /// Where in the list it is written.
    pub(crate) position: usize,
}

/// The namespaces whose routes a listener takes.
#[derive(Debug)]
pub(crate) enum From {
    Same,
    All,
    None,
    /// Those whose labels meet all of these.
    Selected(Vec<Requirement>),
}

/// A condition on a label of a namespace.
#[derive(Debug)]
pub(crate) struct Requirement {
    key: Box<str>,
    /// The values that are meant; `None` for any that is there.
    values: Option<Vec<Box<str>>>,
    /// Whether it is met where the label is not so.
    is_negated: bool,
}

impl Requirement {
    /// Whether a namespace with these labels is meant. A label that is not there has none of the values.
    pub(crate) fn is_met_by(&self, label: impl Fn(&str) -> Option<String>) -> bool {
        let is_so = label(&self.key)
            .is_some_and(|value| self.values.as_ref().is_none_or(|values| values.iter().any(|one| **one == *value)));
        is_so != self.is_negated
    }
}

impl Kind for GatewayDocument {
    const KIND: &'static str = "Gateway";
    const API_VERSIONS: &'static [&'static str] =
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];
    const HAS_AGE: bool = true;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        let created = checker.field("metadata", |checker| {
            self.metadata.check(checker);
            self.metadata.created(checker)
        });
        checker.field("spec", |checker| {
            let is_own = self.spec.is_own(checker);
            let addresses = checker.field("addresses", |checker| self.spec.addresses(checker));
            let listeners = checker.field("listeners", |checker| self.spec.listeners(namespace, checker));
            let unused = [
                ("infrastructure", &self.spec.infrastructure),
                ("allowedListeners", &self.spec.allowed_listeners),
            ];
            for (field, _) in unused.into_iter().filter(|(_, value)| value.is_some()) {
                checker
                    .field(field, |checker| checker.warning("is not read by this version of Weir, and has no effect"));
            }
            if self.spec.tls.is_some() {
                let message = "certificates of clients and for backends are not checked or shown by this version of Weir: \
                               the listeners of HTTPS are left out";
                checker.field("tls", |checker| checker.warning(message));
            }
            Some(Content::Gateway(Box::new(Gateway { is_own, created, addresses, listeners })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        self.spec.addresses.iter_mut().for_each(|address| default_text(&mut address.form, "IPAddress"));
        for listener in &mut self.spec.listeners {
            listener.hostname = listener.hostname.take().filter(|hostname| !hostname.is_empty());
            if let Some(namespaces) = listener.allowed_routes.as_mut().and_then(|allowed| allowed.namespaces.as_mut()) {
                default_text(&mut namespaces.from, "Same");
            }
        }
    }
}

impl GatewaySpec {
    fn is_own<'a>(&'a self, checker: &mut Checker<'a>) -> bool {
        match self.gateway_class_name.as_deref() {
            None => {
                checker.missing("gatewayClassName", format!("a gateway needs a class; Weir's is `{CLASS}`"));
                false
            }
            Some(CLASS) => true,
            Some(other) => {
                let message =
                    format!("`{other}` is not Weir's class, which is `{CLASS}`: the gateway is left to others");
                checker.field("gatewayClassName", |checker| checker.warning(message));
                false
            }
        }
    }

    fn addresses<'a>(&'a self, checker: &mut Checker<'a>) -> Vec<IpAddr> {
        if self.addresses.len() > limits::GATEWAY_ADDRESSES {
            let (most, here) = (limits::GATEWAY_ADDRESSES, self.addresses.len());
            checker.error(format!("at most {most} addresses, here are {here}"));
        }
        let mut valid = Vec::new();
        for (position, address) in self.addresses.iter().enumerate().take(limits::GATEWAY_ADDRESSES) {
            checker.element(position, |checker| {
                let form = address.form.as_deref().unwrap_or("IPAddress");
                if form != "IPAddress" {
                    return checker.error_at("type", unknown("type", form, &["IPAddress"]));
                }
                match address.value.as_deref().map(str::parse::<IpAddr>) {
                    Some(Ok(ip)) if valid.contains(&ip) => checker.error_at("value", "is there twice"),
                    Some(Ok(ip)) => valid.push(ip),
                    Some(Err(_)) => checker.error_at("value", "is no address of IPv4 or IPv6"),
                    // As the API has it: any.
                    None => {}
                }
            });
        }
        valid
    }

    fn listeners<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Vec<Listener> {
        if self.listeners.is_empty() {
            checker.error("a gateway needs at least one listener");
        }
        if self.listeners.len() > limits::LISTENERS {
            checker.error(format!("at most {} listeners, here are {}", limits::LISTENERS, self.listeners.len()));
        }
        let mut names = BTreeSet::new();
        let mut valid: Vec<Listener> = Vec::new();
        for (position, spec) in self.listeners.iter().enumerate().take(limits::LISTENERS) {
            checker.element(position, |checker| {
                if spec.name.as_ref().is_some_and(|name| !names.insert(name)) {
                    checker.error_at("name", "another listener of this gateway has this name");
                }
                let Some(listener) = spec.check(position, namespace, checker) else { return };
                // Whoever asks that clients show who they are must not get a listener that lets in everybody.
                if listener.certificates.is_some() && self.tls.is_some() {
                    return;
                }
                if valid.iter().any(|other| (other.port, &other.hostname) == (listener.port, &listener.hostname)) {
                    checker.error("another listener of this gateway has this port and host name");
                }
                valid.push(listener);
            });
        }
        valid
    }
}

impl ListenerSpec {
    /// The listener; `None` for one that is wrong, or cannot be served.
    fn check<'a>(&'a self, position: usize, namespace: &str, checker: &mut Checker<'a>) -> Option<Listener> {
        match self.name.as_deref() {
            None => checker.missing("name", "a listener needs a name"),
            Some(name) if !is_subdomain(name) => checker
                .error_at("name", format!("\"{name}\" is not a name: lower-case letters, digits, \"-\" and \".\"")),
            Some(_) => {}
        }
        let port = match self.port {
            None => {
                checker.missing("port", "a listener needs a port");
                None
            }
            number => port(number, checker),
        };
        let hostname = match self.hostname.as_deref() {
            None | Some("") => Some(Hostname::Any),
            Some(text) => checker.field("hostname", |checker| hostname(text, checker)),
        };
        let certificates = match self.protocol.as_deref() {
            None => {
                checker.missing("protocol", "a listener needs a protocol, such as `HTTP`");
                None
            }
            Some("HTTP") => {
                if self.tls.is_some() {
                    checker.error_at("tls", "a listener of HTTP has no TLS");
                }
                Some(None)
            }
            Some("HTTPS") => match &self.tls {
                Some(tls) => checker.field("tls", |checker| tls.check(namespace, checker)).map(Some),
                None => {
                    checker.missing("tls", "a listener of HTTPS needs certificates");
                    None
                }
            },
            Some(protocol @ ("TLS" | "TCP" | "UDP")) => {
                let message = format!("this version of Weir serves no listener of {protocol}; it is left out");
                checker.field("protocol", |checker| checker.warning(message));
                None
            }
            Some(other) => {
                checker.error_at("protocol", unknown("protocol", other, &["HTTP", "HTTPS", "TLS", "TCP", "UDP"]));
                None
            }
        };
        let (from, kinds) = checker.field("allowedRoutes", |checker| {
            let allowed = self.allowed_routes.as_ref();
            let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
            let from = checker.field("namespaces", |checker| from(namespaces, checker));
            let kinds = allowed.map_or(&[][..], |allowed| &allowed.kinds);
            (from, checker.field("kinds", |checker| self::kinds(kinds, checker)))
        });
        let name = self.name.as_deref()?.into();
        let certificates = certificates?;
        Some(Listener { name, hostname: hostname?, port: port?, certificates, from, kinds, position })
    }
}

impl ListenerTlsSpec {
    /// The certificates of a listener of HTTPS; `None` for one that cannot be served.
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Vec<Certificate>> {
        match self.mode.as_deref() {
            None | Some("Terminate") => {}
            Some("Passthrough") => checker.error_at("mode", "what is passed through is not HTTPS, but `TLS`"),
            Some(other) => checker.error_at("mode", unknown("mode", other, &["Terminate", "Passthrough"])),
        }
        if !self.options.is_empty() {
            checker.field("options", |checker| checker.warning("Weir knows none, and they have no effect"));
        }
        if self.frontend_validation.is_some() {
            let message = "certificates of clients are not checked by this version of Weir: the listener is left out";
            checker.field("frontendValidation", |checker| checker.warning(message));
        }
        let certificates = checker.field("certificateRefs", |checker| {
            if self.certificate_refs.is_empty() {
                checker.error("a listener of HTTPS needs a certificate");
            }
            if self.certificate_refs.len() > limits::CERTIFICATES {
                let (most, here) = (limits::CERTIFICATES, self.certificate_refs.len());
                checker.error(format!("at most {most} certificates, here are {here}"));
            }
            let mut valid = Vec::new();
            for (position, spec) in self.certificate_refs.iter().enumerate().take(limits::CERTIFICATES) {
                let name = checker.element(position, |checker| spec.check(namespace, checker));
                valid.extend(name.map(|name| Certificate { name, position }));
            }
            valid
        });
        self.frontend_validation.is_none().then_some(certificates)
    }
}

impl CertificateSpec {
    fn check<'a>(&'a self, own: &str, checker: &mut Checker<'a>) -> Option<CertificateName> {
        if !matches!(self.group.as_deref(), None | Some("" | "core")) {
            checker.error_at("group", "a certificate is a `Secret` of the core group, `\"\"`");
        }
        if !matches!(self.kind.as_deref(), None | Some("Secret")) {
            checker.error_at("kind", "a certificate is a `Secret`");
        }
        let namespace = self.namespace.as_deref().unwrap_or(own);
        if !is_subdomain(namespace) {
            checker.error_at("namespace", format!("\"{namespace}\" is no name of a namespace"));
            return None;
        }
        match self.name.as_deref() {
            None => {
                checker.missing("name", "must name a secret");
                None
            }
            Some(name) if !is_subdomain(name) => {
                checker.error_at("name", format!("\"{name}\" is no name of a secret"));
                None
            }
            Some(name) => Some(CertificateName { namespace: namespace.into(), name: name.into() }),
        }
    }
}

fn from<'a>(spec: Option<&'a NamespacesSpec>, checker: &mut Checker<'a>) -> From {
    match spec.and_then(|spec| spec.from.as_deref()).unwrap_or("Same") {
        "Same" => From::Same,
        "All" => From::All,
        "None" => From::None,
        "Selector" => match spec.and_then(|spec| spec.selector.as_ref()) {
            Some(selector) => From::Selected(checker.field("selector", |checker| requirements(selector, checker))),
            None => {
                checker.missing("selector", "`from: Selector` needs one");
                From::None
            }
        },
        other => {
            checker.error_at("from", unknown("value", other, &["Same", "All", "Selector", "None"]));
            From::None
        }
    }
}

fn requirements<'a>(spec: &'a SelectorSpec, checker: &mut Checker<'a>) -> Vec<Requirement> {
    let equal = |(key, value): (&String, &String)| Requirement {
        key: key.as_str().into(),
        values: Some(vec![value.as_str().into()]),
        is_negated: false,
    };
    let mut valid: Vec<_> = spec.match_labels.iter().map(equal).collect();
    checker.field("matchExpressions", |checker| {
        for (position, expression) in spec.match_expressions.iter().enumerate() {
            checker.element(position, |checker| valid.extend(requirement(expression, checker)));
        }
    });
    valid
}

fn requirement<'a>(spec: &'a ExpressionSpec, checker: &mut Checker<'a>) -> Option<Requirement> {
    const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
    if spec.key.is_none() {
        checker.missing("key", "must name a label");
    }
    let operator = spec.operator.as_deref().unwrap_or_default();
    if !OPERATORS.contains(&operator) {
        checker.error_at("operator", unknown("operator", operator, &OPERATORS));
        return None;
    }
    let has_values = matches!(operator, "In" | "NotIn");
    if has_values == spec.values.is_empty() {
        let needs = if has_values { "needs values" } else { "has no values" };
        checker.error_at("values", format!("`{operator}` {needs}"));
    }
    let values = has_values.then(|| spec.values.iter().map(|value| value.as_str().into()).collect());
    let is_negated = matches!(operator, "NotIn" | "DoesNotExist");
    Some(Requirement { key: spec.key.as_deref()?.into(), values, is_negated })
}

fn kinds<'a>(specs: &'a [KindSpec], checker: &mut Checker<'a>) -> BTreeSet<&'static str> {
    const KINDS: [&str; 2] = ["HTTPRoute", "GRPCRoute"];
    let mut valid = BTreeSet::new();
    for (position, spec) in specs.iter().enumerate() {
        checker.element(position, |checker| {
            let known = KINDS.into_iter().find(|known| spec.kind.as_deref() == Some(*known));
            match known.filter(|_| spec.group.as_deref().is_none_or(|group| group == super::GATEWAY_GROUP)) {
                Some(kind) => {
                    valid.insert(kind);
                }
                None => checker.warning(format!("only {} are routed here", KINDS.join(" and "))),
            }
        });
    }
    if specs.is_empty() { KINDS.into() } else { valid }
}
