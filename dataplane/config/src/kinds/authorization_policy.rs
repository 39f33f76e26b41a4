//! `AuthorizationPolicy` (weir.dev/v1, and Istio's of that name for the same): who may reach which workloads.

use http::HeaderName;
use serde::{Deserialize, Serialize};
use weir_core::authorization::{Action, Block, Blocks, Condition, Operation, Peer, Ports, Texts};

use super::envelope::Envelope;
use super::metadata::{Metadata, is_label, is_subdomain};
use super::selector::{Selector, SelectorSpec};
use super::{Content, Kind};
use crate::check::Checker;
use crate::limits;
use crate::shape::nullable;

/// An `AuthorizationPolicy` as it is written.
pub(crate) type AuthorizationPolicyDocument = Envelope<Spec>;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with selector, action, rules")]
pub(crate) struct Spec {
    #[serde(deserialize_with = "nullable")]
    selector: SelectorSpec,
    action: Option<String>,
    #[serde(deserialize_with = "nullable")]
    rules: Vec<RuleSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with from, to, when")]
struct RuleSpec {
    #[serde(deserialize_with = "nullable")]
    from: Vec<FromSpec>,
    #[serde(deserialize_with = "nullable")]
    to: Vec<ToSpec>,
    #[serde(deserialize_with = "nullable")]
    when: Vec<WhenSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with source")]
struct FromSpec {
    source: Option<SourceSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with principals, namespaces, serviceAccounts, ipBlocks, and the same with not"
)]
struct SourceSpec {
    #[serde(deserialize_with = "nullable")]
    principals: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_principals: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    namespaces: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_namespaces: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    service_accounts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_service_accounts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    ip_blocks: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_ip_blocks: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with operation")]
struct ToSpec {
    operation: Option<OperationSpec>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with ports, hosts, methods, paths, and the same with not"
)]
struct OperationSpec {
    #[serde(deserialize_with = "nullable")]
    ports: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_ports: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    hosts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_hosts: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    methods: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_methods: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    paths: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_paths: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with key, values, notValues")]
struct WhenSpec {
    key: Option<String>,
    #[serde(deserialize_with = "nullable")]
    values: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    not_values: Vec<String>,
}

/// A policy as valid.
#[derive(Debug)]
pub(crate) struct AuthorizationPolicy {
    pub(crate) selector: Selector,
    pub(crate) action: Action,
    pub(crate) rules: Vec<Rule>,
}

/// A rule as valid.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) peers: Vec<Peer>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) conditions: Vec<Condition>,
}

impl Kind for AuthorizationPolicyDocument {
    const KIND: &'static str = "AuthorizationPolicy";
    const API_VERSIONS: &'static [&'static str] = &["weir.dev/v1", "security.istio.io/v1", "security.istio.io/v1beta1"];

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content> {
        checker.field("metadata", |checker| self.metadata.check(checker));
        checker.field("spec", |checker| {
            let action = match self.spec.action.as_deref().unwrap_or("ALLOW") {
                "ALLOW" => Action::Allow,
                "DENY" => Action::Deny,
                "AUDIT" => Action::Audit,
                other => {
                    checker.error_at("action", format!("must be one of ALLOW, DENY, AUDIT, is \"{other}\""));
                    return None;
                }
            };
            let rules = &self.spec.rules;
            let rules = checker.field("rules", |checker| {
                list(rules, limits::AUTHORIZATION_RULES, "rules", checker, |rule, checker| {
                    rule.check(namespace, action, checker)
                })
            });
            let selector = Selector::new(&self.spec.selector);
            Some(Content::Authorization(Box::new(AuthorizationPolicy { selector, action, rules })))
        })
    }

    fn normalise(&mut self) {
        self.metadata.keep_own_annotations();
        self.spec.action.get_or_insert_with(|| "ALLOW".to_owned());
    }
}

/// Looks at each element of a list, of which there may be so many.
fn list<'a, S, T>(
    written: &'a [S],
    most: usize,
    what: &str,
    checker: &mut Checker<'a>,
    mut check: impl FnMut(&'a S, &mut Checker<'a>) -> Option<T>,
) -> Vec<T> {
    if written.len() > most {
        checker.error(format!("at most {most} {what}, here are {}", written.len()));
    }
    let valid = written.iter().enumerate().take(most);
    valid.filter_map(|(position, one)| checker.element(position, |checker| check(one, checker))).collect()
}

impl RuleSpec {
    fn check<'a>(&'a self, namespace: &str, action: Action, checker: &mut Checker<'a>) -> Option<Rule> {
        let most = limits::AUTHORIZATION_VALUES;
        let peers = checker.field("from", |checker| {
            list(&self.from, most, "sources", checker, |from, checker| match &from.source {
                Some(source) => checker.field("source", |checker| source.check(namespace, checker)),
                None => {
                    checker.missing("source", "must say from where");
                    None
                }
            })
        });
        let operations = checker.field("to", |checker| {
            list(&self.to, most, "operations", checker, |to, checker| match &to.operation {
                Some(operation) => checker.field("operation", |checker| operation.check(checker)),
                None => {
                    checker.missing("operation", "must say what is asked for");
                    None
                }
            })
        });
        let conditions = checker.field("when", |checker| {
            list(&self.when, most, "conditions", checker, |when, checker| when.check(namespace, checker))
        });
        if action == Action::Deny && self.from.is_empty() && self.to.is_empty() && self.when.is_empty() {
            checker.warning("denies everything to the workloads that it is for");
        }
        Some(Rule { peers, operations, conditions })
    }
}

impl SourceSpec {
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Peer> {
        let all = [
            &self.principals,
            &self.not_principals,
            &self.namespaces,
            &self.not_namespaces,
            &self.service_accounts,
            &self.not_service_accounts,
            &self.ip_blocks,
            &self.not_ip_blocks,
        ];
        if all.iter().all(|values| values.is_empty()) {
            checker.missing("principals", "a source must say something; a rule without `from` is for every source");
            return None;
        }
        let is_account = !self.service_accounts.is_empty() || !self.not_service_accounts.is_empty();
        if is_account && !(self.principals.is_empty() && self.not_principals.is_empty()) {
            checker.error_at("serviceAccounts", "says the same as `principals`: only one of them can be there");
        }
        let mut accounts = |key, values: &'a [String]| {
            let one = |text: &'a str, _: &mut Checker<'a>| account(namespace, text).ok_or(NOT_AN_ACCOUNT);
            checked(key, values, checker, one)
        };
        let (mut is, mut is_not) = (
            accounts("serviceAccounts", &self.service_accounts),
            accounts("notServiceAccounts", &self.not_service_accounts),
        );
        is.extend(checked("principals", &self.principals, checker, principal));
        is_not.extend(checked("notPrincipals", &self.not_principals, checker, principal));
        let namespaces = (
            checked("namespaces", &self.namespaces, checker, text),
            checked("notNamespaces", &self.not_namespaces, checker, text),
        );
        let blocks = Blocks {
            is: checked("ipBlocks", &self.ip_blocks, checker, block),
            is_not: checked("notIpBlocks", &self.not_ip_blocks, checker, block),
        };
        Some(Peer { principals: Texts::new(is, is_not), namespaces: Texts::new(namespaces.0, namespaces.1), blocks })
    }
}

impl OperationSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Operation> {
        let texts = [
            &self.hosts,
            &self.not_hosts,
            &self.methods,
            &self.not_methods,
            &self.paths,
            &self.not_paths,
            &self.ports,
            &self.not_ports,
        ];
        if texts.iter().all(|values| values.is_empty()) {
            checker.missing("ports", "an operation must say something; a rule without `to` is for every one");
            return None;
        }
        let mut texts = |keys: (&'a str, &'a str), is: &'a [String], is_not: &'a [String], check: Check<'a, String>| {
            Texts::new(checked(keys.0, is, checker, check), checked(keys.1, is_not, checker, check))
        };
        let hosts = texts(("hosts", "notHosts"), &self.hosts, &self.not_hosts, |text, _| Ok(text.to_ascii_lowercase()));
        let methods = texts(("methods", "notMethods"), &self.methods, &self.not_methods, text);
        let paths = texts(("paths", "notPaths"), &self.paths, &self.not_paths, path);
        let ports = Ports {
            is: checked("ports", &self.ports, checker, port).into_iter().collect(),
            is_not: checked("notPorts", &self.not_ports, checker, port).into_iter().collect(),
        };
        Some(Operation { ports, hosts, methods, paths })
    }
}

impl WhenSpec {
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Condition> {
        let Some(key) = self.key.as_deref() else {
            checker.missing("key", "must say what the condition is on");
            return None;
        };
        if self.values.is_empty() && self.not_values.is_empty() {
            checker.missing("values", "must say what there must be, or in `notValues` what there must not be");
            return None;
        }
        let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = header {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                checker.error_at("key", format!("\"{name}\" is not the name of a header"));
                return None;
            };
            return Some(Condition::Header(name, self.texts(checker, text)));
        }
        let peer = match key {
            "source.principal" => Peer { principals: self.texts(checker, principal), ..Peer::default() },
            "source.namespace" => Peer { namespaces: self.texts(checker, text), ..Peer::default() },
            "source.serviceAccount" => {
                let one = |text: &'a str, _: &mut Checker<'a>| account(namespace, text).ok_or(NOT_AN_ACCOUNT);
                let is = checked("values", &self.values, checker, one);
                let principals = Texts::new(is, checked("notValues", &self.not_values, checker, one));
                Peer { principals, ..Peer::default() }
            }
            "source.ip" => {
                let blocks = Blocks {
                    is: checked("values", &self.values, checker, block),
                    is_not: checked("notValues", &self.not_values, checker, block),
                };
                Peer { blocks, ..Peer::default() }
            }
            "destination.port" => {
                return Some(Condition::Ports(Ports {
                    is: checked("values", &self.values, checker, port).into_iter().collect(),
                    is_not: checked("notValues", &self.not_values, checker, port).into_iter().collect(),
                }));
            }
            other => {
                let known = "request.headers[NAME], source.principal, source.namespace, source.serviceAccount, source.ip, \
                             destination.port";
                checker.error_at("key", format!("must be one of {known}, is \"{other}\""));
                return None;
            }
        };
        Some(Condition::Peer(peer))
    }

    fn texts<'a>(&'a self, checker: &mut Checker<'a>, check: Check<'a, String>) -> Texts {
        let is = checked("values", &self.values, checker, check);
        Texts::new(is, checked("notValues", &self.not_values, checker, check))
    }
}

type Check<'a, T> = fn(&'a str, &mut Checker<'a>) -> Result<T, &'static str>;

/// Looks at each value of a field. What is wrong is reported.
fn checked<'a, T>(
    key: &'a str,
    values: &'a [String],
    checker: &mut Checker<'a>,
    check: impl Fn(&'a str, &mut Checker<'a>) -> Result<T, &'static str>,
) -> Vec<T> {
    checker.field(key, |checker| {
        list(values, limits::AUTHORIZATION_VALUES, "values", checker, |value, checker| {
            let valid = if value.is_empty() { Err("must not be empty") } else { check(value, checker) };
            valid.map_err(|message| checker.error(format!("\"{value}\": {message}"))).ok()
        })
    })
}

fn text<'a>(text: &'a str, _: &mut Checker<'a>) -> Result<String, &'static str> {
    let inner = text.strip_prefix('*').unwrap_or(text);
    let is_pattern =
        !inner.strip_suffix('*').unwrap_or(inner).contains('*') && (text == "*" || text.matches('*').count() < 2);
    is_pattern.then(|| text.to_owned()).ok_or("a `*` can be at the beginning or at the end")
}

fn path<'a>(path: &'a str, checker: &mut Checker<'a>) -> Result<String, &'static str> {
    if path.contains(['{', '}']) {
        return Err("templates of paths are not supported: write a prefix (`/a/*`) or a suffix (`*/b`)");
    }
    text(path, checker)
}

fn port<'a>(text: &'a str, _: &mut Checker<'a>) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("is no port: a number from 1 to 65535")
}

fn block<'a>(text: &'a str, _: &mut Checker<'a>) -> Result<Block, &'static str> {
    text.parse().map_err(|_| "is neither an address nor a block of them like 10.0.0.0/8")
}

/// A principal is written without its scheme. With it, it would never be met, and that would not be seen.
fn principal<'a>(written: &'a str, checker: &mut Checker<'a>) -> Result<String, &'static str> {
    if written.starts_with("spiffe://") {
        return Err("is written without `spiffe://`: TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT");
    }
    text(written, checker)
}

const NOT_AN_ACCOUNT: &str = "must be SERVICE-ACCOUNT or NAMESPACE/SERVICE-ACCOUNT";

/// The principal of a service account, of this namespace where none is named; in any trust domain, for of others nobody is believed.
fn account(namespace: &str, written: &str) -> Option<String> {
    let (namespace, name) = written.split_once('/').unwrap_or((namespace, written));
    (is_label(namespace) && is_subdomain(name)).then(|| format!("*/ns/{namespace}/sa/{name}"))
}
