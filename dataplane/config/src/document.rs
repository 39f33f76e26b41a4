//! Documents that are right each by itself, and the set of all of them: the content of a revision.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use weir_core::name::ObjectName;
use weir_core::revision::{DocumentHash, RevisionId};
use weir_core::sorted;

use crate::check::Scope;
use crate::diagnostic::Diagnostic;
use crate::kinds::Content;
use crate::place::{Locations, Segment};

/// Where a document was written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The file, as its source calls it; `None` when the document comes from the version log without one.
    pub file: Option<Arc<Path>>,
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
    /// The hash of its name and content.
    pub hash: DocumentHash,
    /// Where it was written.
    pub origin: Origin,
    pub(crate) content: Content,
    pub(crate) locations: Locations,
}

impl Document {
    /// For diagnostics about it.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { file: self.origin.file.as_ref(), object: Some(self.name.clone()), locations: &self.locations }
    }
}

/// All documents of a configuration, each name once.
#[derive(Clone, Debug, Default)]
pub struct DocumentSet(Arc<Contents>);

#[derive(Debug, Default)]
struct Contents {
    /// In order of kind, namespace and name.
    documents: Vec<Arc<Document>>,
    /// Computed when it is first asked for.
    id: OnceLock<RevisionId>,
}

impl DocumentSet {
    /// The set of these documents. Of several with one name it has the first; the others are returned.
    pub(crate) fn new(mut documents: Vec<Arc<Document>>) -> (Self, Vec<Arc<Document>>) {
        // Stable: of those with one name the first stays the first.
        documents.sort_by(|a, b| a.name.cmp(&b.name));
        let mut twice = Vec::new();
        documents.dedup_by(|later, first| {
            let is_twice = later.name == first.name;
            if is_twice {
                twice.push(Arc::clone(later));
            }
            is_twice
        });
        (Self::of(documents), twice)
    }

    /// This set without some of its documents and with others. `None` where a name would be there twice.
    pub(crate) fn updated(&self, gone: &[&Arc<Document>], mut added: Vec<Arc<Document>>) -> Option<Self> {
        let mut gone: Vec<usize> = gone.iter().filter_map(|document| self.place(&document.name).ok()).collect();
        gone.sort_unstable();
        added.sort_by(|a, b| a.name.cmp(&b.name));
        let is_repeated = added.windows(2).any(|pair| pair[0].name == pair[1].name);
        let place = |new: Arc<Document>| match self.place(&new.name) {
            Ok(there) if gone.binary_search(&there).is_err() => None,
            Ok(place) | Err(place) => Some((place, new)),
        };
        let added: Option<Vec<_>> = added.into_iter().map(place).collect();
        let documents = sorted::edited(self.documents(), &gone, added.filter(|_| !is_repeated)?);
        Some(Self::of(documents))
    }

    /// Where a document is, or would be.
    fn place(&self, name: &ObjectName) -> Result<usize, usize> {
        self.documents().binary_search_by(|document| document.name.cmp(name))
    }

    /// The set of these documents, which are in order.
    fn of(documents: Vec<Arc<Document>>) -> Self {
        Self(Arc::new(Contents { documents, id: OnceLock::new() }))
    }

    fn documents(&self) -> &[Arc<Document>] {
        &self.0.documents
    }

    /// All documents, in order of kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents().iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.documents().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents().is_empty()
    }

    /// The document of this name.
    pub fn document(&self, name: &ObjectName) -> Option<&Arc<Document>> {
        self.place(name).ok().map(|at| &self.documents()[at])
    }

    /// An error about a field of a document, with its place.
    pub fn error(&self, name: &ObjectName, field: &[&str], message: String) -> Diagnostic {
        let path: Vec<_> = field.iter().map(|key| Segment::Key(key)).collect();
        match self.document(name) {
            Some(document) => document.scope().error(&path, message),
            None => Diagnostic { object: Some(name.clone()), ..Diagnostic::error(message) },
        }
    }

    /// The documents from this name on, in order.
    pub(crate) fn from(&self, name: &ObjectName) -> impl Iterator<Item = &Arc<Document>> {
        self.documents()[self.place(name).unwrap_or_else(|place| place)..].iter()
    }

    /// What the two sets do not have in common: the documents of this one, and of the other. A document that was read
    /// again is another, even if it says the same.
    pub fn differences<'s>(&'s self, other: &'s Self) -> (Vec<&'s Arc<Document>>, Vec<&'s Arc<Document>>) {
        let (mut only_here, mut only_there) = (Vec::new(), Vec::new());
        let (mut here, mut there) = (self.iter().peekable(), other.iter().peekable());
        while let (Some(one), Some(another)) = (here.peek(), there.peek()) {
            if Arc::ptr_eq(one, another) {
                here.next();
                there.next();
                continue;
            }
            let order = one.name.cmp(&another.name);
            only_here.extend(here.next_if(|_| order.is_le()));
            only_there.extend(there.next_if(|_| order.is_ge()));
        }
        only_here.extend(here);
        only_there.extend(there);
        (only_here, only_there)
    }

    /// How many documents there are of each kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, usize)> {
        let mut rest = self.documents();
        std::iter::from_fn(move || {
            let kind = &*rest.first()?.name.kind;
            let (of_kind, others) = rest.split_at(rest.partition_point(|document| *document.name.kind == *kind));
            rest = others;
            Some((kind, of_kind.len()))
        })
    }

    /// The id of this content.
    pub fn id(&self) -> RevisionId {
        *self.0.id.get_or_init(|| RevisionId::of(self.iter().map(|document| document.hash)))
    }
}
