//! Documents that are right each by itself, and the set of all of them: the content of a revision.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use weir_core::name::{ObjectName, ServiceName};
use weir_core::revision::RevisionId;

use crate::check::Scope;
use crate::kinds::Content;
use crate::kinds::endpoint_slice::SERVICE_LABEL;
use crate::kinds::rules::{Rules, To};
use crate::kinds::traffic_policy::Target;
use crate::place::{Locations, Segment, written};

/// Where a document was written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The file, as its source calls it; `None` when the document comes from the version log without one.
    pub file: Option<PathBuf>,
    /// Line of the document's first field, from 1.
    pub line: Option<u32>,
}

/// A document.
#[derive(Debug)]
pub struct Document {
    /// Kind, namespace and name.
    pub name: ObjectName,
    /// Its content as JSON with sorted keys; see the crate's documentation for what counts as equal.
    pub canonical: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    pub(crate) content: Content,
    pub(crate) locations: Locations,
}

impl Document {
    /// For diagnostics about it.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { file: self.origin.file.as_deref(), object: Some(self.name.clone()), locations: &self.locations }
    }
}

/// All documents of a configuration, each name once.
#[derive(Clone, Debug, Default)]
pub struct DocumentSet {
    documents: BTreeMap<ObjectName, Arc<Document>>,
}

impl DocumentSet {
    /// Adds a document, unless there is one of that name: that one is returned.
    pub(crate) fn add(&mut self, document: Arc<Document>) -> Result<(), Arc<Document>> {
        match self.documents.entry(document.name.clone()) {
            std::collections::btree_map::Entry::Occupied(there) => Err(Arc::clone(there.get())),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(document);
                Ok(())
            }
        }
    }

    /// All documents, in order of kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The document of this name.
    pub fn document(&self, name: &ObjectName) -> Option<&Arc<Document>> {
        self.documents.get(name)
    }

    /// The id of this content.
    pub fn id(&self) -> RevisionId {
        RevisionId::of(self.documents.iter().map(|(name, document)| (name, &*document.canonical)))
    }

    /// The documents that a document names, each with the field that names it. They need not be in the set, except for
    /// what is named by saying nothing: a rule without `services` refers to every service of its namespace that there is.
    pub fn references(&self, of: &ObjectName) -> Vec<(String, ObjectName)> {
        let Some(document) = self.documents.get(of) else {
            return Vec::new();
        };
        match &document.content {
            Content::Rules(rules) => self.of_rules(&of.namespace, rules),
            Content::EndpointSlice(slice) => {
                let label = [Segment::Key("metadata"), Segment::Key("labels"), Segment::Key(SERVICE_LABEL)];
                let service = slice.service.iter().map(|service| (written(&label), object(service)));
                let pods = slice.pods.iter().map(|(position, pod)| {
                    (format!("endpoints[{position}].targetRef"), ObjectName::new("Pod", &pod.namespace, &pod.name))
                });
                service.chain(pods).collect()
            }
            Content::Pod(_) => {
                let namespace = ObjectName::new("Namespace", "", &of.namespace);
                let known = self.documents.contains_key(&namespace);
                known.then(|| ("metadata.namespace".to_owned(), namespace)).into_iter().collect()
            }
            Content::TrafficPolicy(policy) => {
                let name = |one: &Target| format!("{}.name", written(&one.path()));
                policy.targets.iter().map(|one| (name(one), object(&one.service))).collect()
            }
            Content::Service(_) | Content::Namespace(_) => Vec::new(),
        }
    }

    fn of_rules(&self, namespace: &str, rules: &Rules) -> Vec<(String, ObjectName)> {
        let mut references = Vec::new();
        let syntax = rules.syntax;
        match &rules.applies_to {
            Some(services) => {
                references
                    .extend(services.iter().map(|one| (written(&syntax.applies_path(one)), object(&one.service))));
            }
            None => {
                let first = ObjectName::new("Service", namespace, "");
                let all = self.documents.range(first..).map(|(name, _)| name);
                let all = all.take_while(|name| *name.kind == *"Service" && *name.namespace == *namespace);
                references.extend(all.map(|name| ("spec.services".to_owned(), name.clone())));
            }
        }
        let mut refer = |path: Vec<Segment<'_>>, to: &To| {
            if to.is_service {
                references.push((format!("{}.{}", written(&path), syntax.name_key()), object(&to.service)));
            }
        };
        for rule in &rules.rules {
            for (position, destination) in rule.route.iter().flat_map(|route| route.destinations.iter().enumerate()) {
                refer(syntax.destination_path(rule, position), &destination.to);
            }
            if let Some(to) = rule.retry_destination() {
                refer(syntax.retry_path(rule), to);
            }
            for mirror in &rule.mirrors {
                refer(syntax.mirror_path(rule, mirror), &mirror.to);
            }
        }
        references
    }
}

fn object(service: &ServiceName) -> ObjectName {
    ObjectName { kind: "Service".into(), namespace: service.namespace.clone(), name: service.name.clone() }
}
