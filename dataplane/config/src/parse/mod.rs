//! From files to documents.

mod object;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_core::name::ObjectName;

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::{Document, DocumentSet, Origin};
use crate::limits;
use crate::place::Locations;
use crate::text;

/// A file as a source read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, as shown to people. A name that ends in `.json` is read as JSON, every other as YAML.
    pub path: Arc<Path>,
    /// Its content.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file with this content.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.into().into(), text: text.into() }
    }
}

/// What became of files.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The documents that are right.
    pub documents: DocumentSet,
    /// How many documents there are, right or wrong. What of a file cannot be read counts as one.
    pub found: usize,
    /// Everything that is wrong, in reading order. With an error among them the documents must not be applied.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether something is wrong that prevents the documents from being applied.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// What became of one file.
#[derive(Debug, Default)]
struct OfFile {
    documents: Vec<Arc<Document>>,
    /// As [`Parsed::found`].
    found: usize,
    diagnostics: Vec<Diagnostic>,
}

/// Remembers what was read, so that a change of one file costs that of one file. It holds the files of the last call and
/// nothing more.
#[derive(Debug, Default)]
pub struct ParseCache {
    files: Vec<(Arc<SourceFile>, Arc<OfFile>)>,
    /// What the last call came to, if there was nothing wrong with any of it.
    last: Option<DocumentSet>,
}

impl ParseCache {
    /// Like [`parse`], but of a file that the last call had as well (the same, not one that says the same) everything is
    /// known.
    pub fn parse(&mut self, files: &[Arc<SourceFile>]) -> Parsed {
        // What comes before the first difference and after the last is where it was.
        let is_same = |pair: &(&(Arc<SourceFile>, Arc<OfFile>), &Arc<SourceFile>)| Arc::ptr_eq(&pair.0.0, pair.1);
        let start = self.files.iter().zip(files).take_while(is_same).count();
        let ends = self.files[start..].iter().rev().zip(files[start..].iter().rev());
        let end = ends.take_while(is_same).count();
        let between = start..self.files.len() - end;
        let address = |file: &Arc<SourceFile>| Arc::as_ptr(file).addr();
        let known = self.files[between.clone()].iter().map(|(file, part)| (address(file), Arc::clone(part)));
        let mut known: HashMap<_, _> = known.collect();
        let mut new = Vec::new();
        let parts = files[start..files.len() - end].iter().map(|file| {
            let part = known.remove(&address(file)).unwrap_or_else(|| {
                let part = Arc::new(parse_file(file));
                new.push(Arc::clone(&part));
                part
            });
            (Arc::clone(file), part)
        });
        let parts: Vec<_> = parts.collect();
        // Held until here, so that no address can be that of another file.
        self.files.splice(between, parts);
        let gone: Vec<_> = known.into_values().collect();
        let updated = self.last.take().and_then(|last| updated(&last, &gone, &new));
        let parsed = updated.unwrap_or_else(|| assemble(self.files.iter().map(|(_, part)| part.as_ref())));
        self.last = parsed.diagnostics.is_empty().then(|| parsed.documents.clone());
        parsed
    }
}

/// What is wrong with nothing, without some files and with others; `None` if that is wrong with anything.
fn updated(last: &DocumentSet, gone: &[Arc<OfFile>], new: &[Arc<OfFile>]) -> Option<Parsed> {
    if new.iter().any(|part| !part.diagnostics.is_empty()) {
        return None;
    }
    let gone: Vec<_> = gone.iter().flat_map(|part| &part.documents).collect();
    let new = new.iter().flat_map(|part| &part.documents).map(Arc::clone).collect();
    let documents = last.updated(&gone, new).filter(|documents| documents.len() <= limits::DOCUMENTS)?;
    Some(Parsed { found: documents.len(), documents, diagnostics: Vec::new() })
}

/// Reads all files and reports everything that is wrong with any of them.
pub fn parse(files: &[impl Borrow<SourceFile>]) -> Parsed {
    assemble(files.iter().map(|file| parse_file(file.borrow())).collect::<Vec<_>>().iter())
}

fn parse_file(file: &SourceFile) -> OfFile {
    let (values, problems) = text::read(&file.path, &file.text);
    // A field that is there twice is a problem of a document that is read; other problems end the reading.
    let is_unreadable = problems.iter().any(|problem| problem.field.is_none());
    let mut of_file = OfFile { found: usize::from(is_unreadable), ..OfFile::default() };
    of_file.diagnostics.extend(problems.into_iter().map(|problem| Diagnostic {
        file: Some(file.path.to_path_buf()),
        line: problem.position.map(|position| position.line),
        column: problem.position.map(|position| position.column),
        field: problem.field,
        ..Diagnostic::error(problem.message)
    }));
    let mut values = values.into_iter();
    while let Some((value, locations)) = values.next() {
        if of_file.diagnostics.len() >= limits::DIAGNOSTICS {
            // Nobody reads more, and it is not read on either: what is there is wrong as a whole already.
            of_file.found += 1 + values.len();
            break;
        }
        object::read(value, Some(&file.path), &locations, &mut of_file);
    }
    of_file
}

/// Puts the parts of a configuration together; each name may be there once.
fn assemble<'a>(parts: impl Iterator<Item = &'a OfFile>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut documents = Vec::new();
    for part in parts {
        parsed.diagnostics.extend(part.diagnostics.iter().cloned());
        parsed.found += part.found;
        documents.extend(part.documents.iter().cloned());
    }
    let count = documents.len();
    let (set, twice) = DocumentSet::new(documents);
    let first = |document: &Arc<Document>| set.document(&document.name).map(|there| duplicate(document, there));
    parsed.diagnostics.extend(twice.iter().filter_map(first));
    parsed.documents = set;
    if count > limits::DOCUMENTS {
        let message = format!("there are {count} documents; at most {} are read", limits::DOCUMENTS);
        parsed.diagnostics.push(Diagnostic::error(message));
    }
    parsed.diagnostics = in_reading_order(&parsed.diagnostics);
    parsed
}

fn duplicate(document: &Document, there: &Document) -> Diagnostic {
    let place = match (&there.origin.file, there.origin.line) {
        (Some(file), Some(line)) => format!("{}:{line}", file.display()),
        (Some(file), None) => file.display().to_string(),
        _ => "another place".to_owned(),
    };
    document.scope().error(&[], format!("is also in {place}"))
}

/// The first in reading order: whoever must read more than a bounded number has another problem.
pub(crate) fn in_reading_order<'d>(all: impl IntoIterator<Item = &'d Diagnostic>) -> Vec<Diagnostic> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|one, other| one.reading_order(other));
    let (told, cut) = all.split_at(all.len().min(limits::DIAGNOSTICS));
    let mut told: Vec<Diagnostic> = told.iter().copied().cloned().collect();
    if !cut.is_empty() {
        // What prevents the configuration must not be cut off with the rest.
        let is_wrong = cut.iter().any(|diagnostic| diagnostic.is_error());
        let severity = if is_wrong { Severity::Error } else { Severity::Warning };
        told.push(Diagnostic { severity, ..Diagnostic::error(format!("and {} more", cut.len())) });
    }
    told
}

/// Reads documents that were kept in canonical form. What is told about them are warnings.
///
/// # Errors
/// Everything that is wrong with any of them: the log is damaged, or was written by a version that knew more.
pub fn from_canonical<'a>(
    documents: impl IntoIterator<Item = (ObjectName, &'a str, Origin)>,
) -> Result<Parsed, Vec<Diagnostic>> {
    let mut parts = Vec::new();
    for (name, json, origin) in documents {
        let mut part = OfFile::default();
        match serde_json::from_str(json) {
            Ok(value) => object::read(value, origin.file.as_ref(), &Locations::starting(origin.line), &mut part),
            Err(error) => part.diagnostics.push(kept_wrongly(&name, &origin, format!("not valid JSON: {error}"))),
        }
        if let Some(other) = part.documents.iter().find(|document| document.name != name) {
            let message = format!("is kept under this name, but it is {}", other.name);
            part.diagnostics.push(kept_wrongly(&name, &origin, message));
        }
        parts.push(part);
    }
    let parsed = assemble(parts.iter());
    if parsed.has_errors() { Err(parsed.diagnostics) } else { Ok(parsed) }
}

fn kept_wrongly(name: &ObjectName, origin: &Origin, message: String) -> Diagnostic {
    Diagnostic {
        file: origin.file.as_deref().map(Path::to_path_buf),
        line: origin.line,
        object: Some(name.clone()),
        ..Diagnostic::error(message)
    }
}
