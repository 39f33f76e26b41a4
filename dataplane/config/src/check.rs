//! Collects what is wrong with a document beyond its structure, with the path that is being looked at.

use std::path::Path;
use std::sync::Arc;

use weir_core::name::ObjectName;

use crate::decode::Removed;
use crate::diagnostic::{Diagnostic, Severity};
use crate::limits;
use crate::place::{Locations, Segment, written};

/// The document that diagnostics are about.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) file: Option<&'a Arc<Path>>,
    pub(crate) object: Option<ObjectName>,
    pub(crate) locations: &'a Locations,
}

impl Scope<'_> {
    pub(crate) fn diagnostic(&self, severity: Severity, path: &[Segment<'_>], message: String) -> Diagnostic {
        let position = self.locations.find(path);
        Diagnostic {
            severity,
            file: self.file.map(|file| file.to_path_buf()),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            object: self.object.clone(),
            field: (!path.is_empty()).then(|| written(path)),
            message,
        }
    }

    pub(crate) fn error(&self, path: &[Segment<'_>], message: String) -> Diagnostic {
        self.diagnostic(Severity::Error, path, message)
    }

    pub(crate) fn warning(&self, path: &[Segment<'_>], message: String) -> Diagnostic {
        self.diagnostic(Severity::Warning, path, message)
    }
}

/// Where a check is, and what it found.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    scope: &'a Scope<'a>,
    removed: &'a Removed,
    path: Vec<Segment<'a>>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(scope: &'a Scope<'a>, removed: &'a Removed) -> Self {
        Self { scope, removed, path: Vec::new(), diagnostics: Vec::new() }
    }

    /// Looks at a field.
    pub(crate) fn field<R>(&mut self, key: &'a str, check: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Segment::Key(key), check)
    }

    /// Looks at an element of a list.
    pub(crate) fn element<R>(&mut self, index: usize, check: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Segment::Index(index), check)
    }

    fn within<R>(&mut self, segment: Segment<'a>, check: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(segment);
        let result = check(self);
        self.path.pop();
        result
    }

    /// What is looked at is wrong.
    pub(crate) fn error(&mut self, message: impl Into<String>) {
        self.report(Severity::Error, message.into());
    }

    /// What is looked at is probably not what somebody wants.
    pub(crate) fn warning(&mut self, message: impl Into<String>) {
        self.report(Severity::Warning, message.into());
    }

    /// A field that must be there is not. Where something else in the same object was taken out because it is wrong,
    /// that was meant to be it more often than not, and has been reported.
    pub(crate) fn missing(&mut self, key: &'a str, message: impl Into<String>) {
        if !self.removed.has_child(&self.removed.original(&self.path)) {
            self.error_at(key, message);
        }
    }

    /// A field of what is looked at is wrong.
    pub(crate) fn error_at(&mut self, key: &'a str, message: impl Into<String>) {
        self.field(key, |checker| checker.error(message));
    }

    fn report(&mut self, severity: Severity, message: String) {
        let path = self.removed.original(&self.path);
        // What was taken out because it is wrong has been reported, and what is left around it is not to blame.
        let is_left_over = self.removed.contains(&path) || self.removed.has_child(&path);
        if is_left_over || self.diagnostics.len() >= limits::PROBLEMS_PER_DOCUMENT {
            return;
        }
        self.diagnostics.push(self.scope.diagnostic(severity, &path, message));
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}
