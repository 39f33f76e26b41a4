//! From a value to a document: which kind it is, and what that kind makes of it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_core::name::{DEFAULT_NAMESPACE, ObjectName};
use weir_core::revision::DocumentHash;

use super::OfFile;
use crate::canonical;
use crate::check::{Checker, Scope};
use crate::decode::{Step, decode};
use crate::diagnostic::Diagnostic;
use crate::document::{Document, Origin};
use crate::kinds::authorization_policy::AuthorizationPolicyDocument;
use crate::kinds::endpoint_slice::EndpointSliceDocument;
use crate::kinds::gateway_api::{GatewayDocument, GrpcRouteDocument, HttpRouteDocument, ReferenceGrantDocument};
use crate::kinds::namespace::NamespaceDocument;
use crate::kinds::peer_authentication::PeerAuthenticationDocument;
use crate::kinds::plugin::PluginDocument;
use crate::kinds::pod::PodDocument;
use crate::kinds::route_rule::RouteRuleDocument;
use crate::kinds::service::ServiceDocument;
use crate::kinds::traffic_policy::TrafficPolicyDocument;
use crate::kinds::{Content, KINDS, Kind};
use crate::place::{Locations, Segment};
use crate::wording;

/// Reads one value: a document, or a `List` of them.
pub(super) fn read(value: Value, file: Option<&Arc<Path>>, locations: &Locations, to: &mut OfFile) {
    let scope = Scope { file, object: None, locations };
    let Value::Object(mut fields) = value else {
        to.found += 1;
        to.diagnostics.push(scope.error(&[], "a document is an object with apiVersion, kind and metadata".to_owned()));
        return;
    };
    let is_list = fields.get("kind").is_some_and(|kind| kind == "List")
        && fields.get("apiVersion").is_some_and(|version| version == "v1");
    if !is_list {
        read_object(Value::Object(fields), &scope, to);
        return;
    }
    match fields.remove("items") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (position, item) in items.into_iter().enumerate() {
                let locations = locations.within(&[Segment::Key("items"), Segment::Index(position)]);
                // A list within a list is no document of its own: nothing writes it, and it could nest without end.
                read_object(item, &Scope { file, object: None, locations: &locations }, to);
            }
        }
        Some(_) => {
            to.found += 1;
            let path = [Segment::Key("items")];
            to.diagnostics.push(scope.error(&path, "must be a list of documents".to_owned()));
        }
    }
}

fn read_object(value: Value, scope: &Scope<'_>, to: &mut OfFile) {
    to.found += 1;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if version.is_empty() || kind.is_empty() {
        for key in ["apiVersion", "kind"].into_iter().filter(|key| text(key).is_empty()) {
            let message = format!("a document needs apiVersion and kind; {}", kinds());
            to.diagnostics.push(scope.error(&[Segment::Key(key)], message));
        }
        return;
    }
    match KINDS.iter().find(|(known, versions)| *known == kind && versions.contains(&version)) {
        Some((ServiceDocument::KIND, _)) => read_kind::<ServiceDocument>(value, scope, to),
        Some((EndpointSliceDocument::KIND, _)) => read_kind::<EndpointSliceDocument>(value, scope, to),
        Some((PodDocument::KIND, _)) => read_kind::<PodDocument>(value, scope, to),
        Some((NamespaceDocument::KIND, _)) => read_kind::<NamespaceDocument>(value, scope, to),
        Some((RouteRuleDocument::KIND, _)) => read_kind::<RouteRuleDocument>(value, scope, to),
        Some((HttpRouteDocument::KIND, _)) => read_kind::<HttpRouteDocument>(value, scope, to),
        Some((GrpcRouteDocument::KIND, _)) => read_kind::<GrpcRouteDocument>(value, scope, to),
        Some((GatewayDocument::KIND, _)) => read_kind::<GatewayDocument>(value, scope, to),
        Some((ReferenceGrantDocument::KIND, _)) => read_kind::<ReferenceGrantDocument>(value, scope, to),
        Some((TrafficPolicyDocument::KIND, _)) => read_kind::<TrafficPolicyDocument>(value, scope, to),
        Some((AuthorizationPolicyDocument::KIND, _)) => read_kind::<AuthorizationPolicyDocument>(value, scope, to),
        Some((PeerAuthenticationDocument::KIND, _)) => read_kind::<PeerAuthenticationDocument>(value, scope, to),
        Some((PluginDocument::KIND, _)) => read_kind::<PluginDocument>(value, scope, to),
        _ => to.diagnostics.push(unknown(version, kind, scope)),
    }
}

fn unknown(version: &str, kind: &str, scope: &Scope<'_>) -> Diagnostic {
    if let Some((_, versions)) = KINDS.iter().find(|(known, _)| *known == kind) {
        let message = format!("{kind} of `{version}` is not read; {kind} is read of {}", versions.join(" and "));
        return scope.error(&[Segment::Key("apiVersion")], message);
    }
    if kind == "Secret" {
        let message = "keys are not kept with the configuration, whose versions everybody who may ask can read: put \
                       `tls.crt` and `tls.key` in the folder of `proxy.gateways.certificates`";
        return scope.error(&[Segment::Key("kind")], message.to_owned());
    }
    let meant = wording::nearest(kind, KINDS.iter().map(|(known, _)| *known));
    let meant = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
    scope.error(&[Segment::Key("kind")], format!("`{kind}` of `{version}` is not read; {meant}{}", kinds()))
}

fn kinds() -> String {
    let known = KINDS.iter().map(|(kind, versions)| format!("{kind} ({})", versions.join(", ")));
    format!("Weir reads {}", known.collect::<Vec<_>>().join(", "))
}

fn read_kind<K: Kind>(value: Value, scope: &Scope<'_>, to: &mut OfFile) {
    let decoded = decode::<K>(value);
    let mut written = decoded.value;
    let metadata = written.metadata();
    let namespace = metadata.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned()).clone();
    let object = metadata
        .name
        .as_ref()
        .map(|name| ObjectName::new(K::KIND, if K::IS_NAMESPACED { &namespace } else { "" }, name));
    if !K::IS_NAMESPACED {
        metadata.namespace = None;
    }
    if !K::HAS_AGE {
        metadata.created = None;
    }
    let scope = Scope { object, ..scope.clone() };
    let mut diagnostics = Vec::new();
    for (path, message) in decoded.wrong {
        let path: Vec<_> = path.iter().map(Step::segment).collect();
        diagnostics.push(scope.error(&path, message));
    }
    let mut checker = Checker::new(&scope, &decoded.removed);
    let content = written.check(&namespace, &mut checker);
    diagnostics.extend(checker.into_diagnostics());
    let is_wrong = diagnostics.iter().any(Diagnostic::is_error);
    to.diagnostics.extend(diagnostics);
    if let (false, Some(content), Some(name)) = (is_wrong, content, scope.object.clone()) {
        to.documents.push(Arc::new(document::<K>(written, content, name, &scope)));
    }
}

fn document<K: Kind>(mut written: K, content: Content, name: ObjectName, scope: &Scope<'_>) -> Document {
    written.normalise();
    // Plain structs of texts, numbers, lists and maps with text keys: none of it can fail.
    let mut value = serde_json::to_value(&written).unwrap_or_default();
    value["apiVersion"] = json!(K::API_VERSIONS[0]);
    value["kind"] = json!(K::KIND);
    // Of the others no field is named later on.
    let keeps_places = matches!(
        content,
        Content::Rules(_)
            | Content::Service(_)
            | Content::EndpointSlice(_)
            | Content::TrafficPolicy(_)
            | Content::Gateway(_)
            | Content::Plugin(_)
            | Content::Authorization(_)
            | Content::Authentication(_)
    );
    let line = scope.locations.find(&[]).map(|position| position.line);
    let canonical: Arc<str> = canonical::text(&value).into();
    Document {
        hash: DocumentHash::of(&name, &canonical),
        name,
        canonical,
        origin: Origin { file: scope.file.cloned(), line },
        content,
        locations: if keeps_places { scope.locations.clone() } else { Locations::starting(line) },
    }
}
