//! From files to documents.

mod object;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
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
    pub path: PathBuf,
    /// Its content.
    pub text: String,
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

/// Remembers what files contained, so that a change of one file parses one file. It holds the files of the last call
/// and nothing more.
#[derive(Debug, Default)]
pub struct ParseCache {
    files: HashMap<PathBuf, ([u8; 32], Arc<OfFile>)>,
}

impl ParseCache {
    /// Like [`parse`], but what has not changed since the last call is not parsed again.
    pub fn parse(&mut self, files: &[SourceFile]) -> Parsed {
        let mut before = std::mem::take(&mut self.files);
        let parts = files.iter().map(|file| {
            let hash: [u8; 32] = Sha256::digest(&file.text).into();
            let known = before.remove(&file.path).filter(|(known, _)| *known == hash);
            let part = known.map_or_else(|| Arc::new(parse_file(file)), |(_, part)| part);
            self.files.insert(file.path.clone(), (hash, Arc::clone(&part)));
            part
        });
        assemble(parts.collect::<Vec<_>>().iter().map(Arc::as_ref))
    }
}

/// Reads all files and reports everything that is wrong with any of them.
pub fn parse(files: &[SourceFile]) -> Parsed {
    assemble(files.iter().map(parse_file).collect::<Vec<_>>().iter())
}

fn parse_file(file: &SourceFile) -> OfFile {
    let (values, problems) = text::read(&file.path, &file.text);
    // A field that is there twice is a problem of a document that is read; other problems end the reading.
    let is_unreadable = problems.iter().any(|problem| problem.field.is_none());
    let mut of_file = OfFile { found: usize::from(is_unreadable), ..OfFile::default() };
    of_file.diagnostics.extend(problems.into_iter().map(|problem| Diagnostic {
        file: Some(file.path.clone()),
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
    let mut count = 0;
    for part in parts {
        parsed.diagnostics.extend(part.diagnostics.iter().cloned());
        parsed.found += part.found;
        for document in &part.documents {
            count += 1;
            if let Err(there) = parsed.documents.add(Arc::clone(document)) {
                parsed.diagnostics.push(duplicate(document, &there));
            }
        }
    }
    if count > limits::DOCUMENTS {
        let message = format!("there are {count} documents; at most {} are read", limits::DOCUMENTS);
        parsed.diagnostics.push(Diagnostic::error(message));
    }
    in_reading_order(&mut parsed.diagnostics);
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

/// Sorts, and bounds the number: whoever must read more than this many has another problem.
pub(crate) fn in_reading_order(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(Diagnostic::reading_order);
    if diagnostics.len() > limits::DIAGNOSTICS {
        let more = diagnostics.len() - limits::DIAGNOSTICS;
        let cut = diagnostics.split_off(limits::DIAGNOSTICS);
        // What prevents the configuration must not be cut off with the rest.
        let severity = if cut.iter().any(Diagnostic::is_error) { Severity::Error } else { Severity::Warning };
        diagnostics.push(Diagnostic { severity, ..Diagnostic::error(format!("and {more} more")) });
    }
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
            Ok(value) => object::read(value, origin.file.as_deref(), &Locations::starting(origin.line), &mut part),
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
        file: origin.file.clone(),
        line: origin.line,
        object: Some(name.clone()),
        ..Diagnostic::error(message)
    }
}
