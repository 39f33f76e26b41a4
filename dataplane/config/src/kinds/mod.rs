//! The kinds of documents, one module each.

pub(crate) mod authorization_policy;
mod condition;
mod destination;
mod duration;
pub(crate) mod endpoint_slice;
mod envelope;
pub(crate) mod gateway_api;
mod host;
pub(crate) mod metadata;
pub(crate) mod namespace;
pub(crate) mod peer_authentication;
pub(crate) mod plugin;
pub(crate) mod pod;
pub(crate) mod protocol;
mod retry;
pub(crate) mod route_rule;
pub(crate) mod rules;
pub(crate) mod selector;
pub(crate) mod service;
mod services;
pub(crate) mod traffic_policy;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::check::Checker;
use metadata::Metadata;

/// A kind as it is written.
pub(crate) trait Kind: DeserializeOwned + Serialize + Default {
    /// `kind` of its documents.
    const KIND: &'static str;
    /// `apiVersion` of its documents; the first is the one that is kept.
    const API_VERSIONS: &'static [&'static str];
    /// Whether its documents belong to a namespace.
    const IS_NAMESPACED: bool = true;
    /// Whether it matters when a document was created.
    const HAS_AGE: bool = false;

    /// The metadata.
    fn metadata(&mut self) -> &mut Metadata;

    /// Checks everything that can be checked without other documents. `None` when something is wrong.
    fn check<'a>(&'a self, namespace: &str, checker: &mut Checker<'a>) -> Option<Content>;

    /// Writes what means the same in the same way.
    fn normalise(&mut self);
}

/// A document as valid.
#[derive(Debug)]
pub(crate) enum Content {
    Service(service::Service),
    EndpointSlice(Box<endpoint_slice::EndpointSlice>),
    Pod(Box<pod::Pod>),
    Namespace(namespace::Namespace),
    Rules(Box<rules::Rules>),
    TrafficPolicy(Box<traffic_policy::PolicyFor>),
    Gateway(Box<gateway_api::Gateway>),
    ReferenceGrant(Box<gateway_api::ReferenceGrant>),
    Plugin(Box<plugin::PluginFor>),
    Authorization(Box<authorization_policy::AuthorizationPolicy>),
    Authentication(Box<peer_authentication::PeerAuthentication>),
}

/// What Weir reads, for people who wrote something else.
pub(crate) const KINDS: [(&str, &[&str]); 13] = [
    (service::ServiceDocument::KIND, service::ServiceDocument::API_VERSIONS),
    (endpoint_slice::EndpointSliceDocument::KIND, endpoint_slice::EndpointSliceDocument::API_VERSIONS),
    (pod::PodDocument::KIND, pod::PodDocument::API_VERSIONS),
    (namespace::NamespaceDocument::KIND, namespace::NamespaceDocument::API_VERSIONS),
    (route_rule::RouteRuleDocument::KIND, route_rule::RouteRuleDocument::API_VERSIONS),
    (gateway_api::HttpRouteDocument::KIND, gateway_api::HttpRouteDocument::API_VERSIONS),
    (gateway_api::GrpcRouteDocument::KIND, gateway_api::GrpcRouteDocument::API_VERSIONS),
    (gateway_api::GatewayDocument::KIND, gateway_api::GatewayDocument::API_VERSIONS),
    (gateway_api::ReferenceGrantDocument::KIND, gateway_api::ReferenceGrantDocument::API_VERSIONS),
    (plugin::PluginDocument::KIND, plugin::PluginDocument::API_VERSIONS),
    (traffic_policy::TrafficPolicyDocument::KIND, traffic_policy::TrafficPolicyDocument::API_VERSIONS),
    (
        authorization_policy::AuthorizationPolicyDocument::KIND,
        authorization_policy::AuthorizationPolicyDocument::API_VERSIONS,
    ),
    (
        peer_authentication::PeerAuthenticationDocument::KIND,
        peer_authentication::PeerAuthenticationDocument::API_VERSIONS,
    ),
];
