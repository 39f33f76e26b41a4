//! Walks the events of a YAML text once: finds where every field is, and refuses what would be dangerous to build
//! values from. Aliases are measured here and never followed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser};

use crate::limits;
use crate::place::{Locations, PathHash, Position, Segment, written};

/// Something wrong with a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) position: Option<Position>,
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

/// What a text holds.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// The documents that are complete. No more than these may be read.
    pub(crate) documents: Vec<Locations>,
    /// Keys that are there twice.
    pub(crate) duplicates: Vec<Problem>,
    /// Why the rest of the text cannot be read.
    pub(crate) fatal: Option<Problem>,
}

pub(crate) fn index(text: &str) -> Indexed {
    let mut walk = Walk::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => walk.step(event, position(span.start)),
            Err(error) => Err(Problem {
                position: Some(position(*error.marker())),
                field: None,
                message: format!("not valid YAML: {}", error.info()),
            }),
        };
        if let Err(problem) = step {
            walk.indexed.fatal = Some(problem);
            break;
        }
    }
    walk.indexed
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}

/// How large what an anchor names is.
#[derive(Clone, Copy)]
struct Extent {
    values: usize,
    depth: usize,
}

/// An object or a list that is not complete yet.
struct Frame<'t> {
    hash: PathHash,
    anchor: usize,
    values_before: usize,
    /// How deep what is in it nests, itself included.
    depth: usize,
    inside: Inside<'t>,
}

enum Inside<'t> {
    List { next: usize },
    Object { key: Option<Cow<'t, str>>, seen: Keys<'t> },
}

/// The keys of an object so far. Nearly all objects have few, for which looking at each is fastest.
#[derive(Default)]
struct Keys<'t> {
    first: Vec<Cow<'t, str>>,
    others: HashSet<Cow<'t, str>>,
}

impl<'t> Keys<'t> {
    const FEW: usize = 16;

    /// Whether the key is new.
    fn insert(&mut self, key: Cow<'t, str>) -> bool {
        if self.first.contains(&key) {
            return false;
        }
        if self.first.len() < Self::FEW {
            self.first.push(key);
            return true;
        }
        self.others.insert(key)
    }
}

#[derive(Default)]
struct Walk<'t> {
    indexed: Indexed,
    stack: Vec<Frame<'t>>,
    start: Option<Position>,
    fields: Vec<(PathHash, Position)>,
    anchors: HashMap<usize, Extent>,
    values: usize,
    aliased: usize,
}

impl<'t> Walk<'t> {
    fn step(&mut self, event: Event<'t>, at: Position) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(_) => {
                self.start = None;
                self.fields.clear();
                self.anchors.clear();
            }
            Event::DocumentEnd if self.indexed.documents.len() >= limits::DOCUMENTS => {
                return Err(self.problem(at, format!("at most {} documents are read", limits::DOCUMENTS)));
            }
            Event::DocumentEnd => {
                let start = self.start.unwrap_or_default();
                self.indexed.documents.push(Locations::new(start, std::mem::take(&mut self.fields)));
            }
            Event::Scalar(text, _, anchor, _) => self.scalar(text, anchor, at)?,
            Event::Alias(anchor) => self.alias(anchor, at)?,
            Event::SequenceStart(anchor, _) => self.open(anchor, Inside::List { next: 0 }, at)?,
            Event::MappingStart(anchor, _) => {
                self.open(anchor, Inside::Object { key: None, seen: Keys::default() }, at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'t, str>, anchor: usize, at: Position) -> Result<(), Problem> {
        if let Some(Frame { hash, inside: Inside::Object { key: key @ None, seen }, .. }) = self.stack.last_mut() {
            self.fields.push((hash.then(Segment::Key(&text)), at));
            let is_new = seen.insert(text.clone());
            *key = Some(text);
            if !is_new {
                let field = self.path();
                let message = "this key is there twice".to_owned();
                self.indexed.duplicates.push(Problem { position: Some(at), field: Some(field), message });
            }
            return Ok(());
        }
        self.value(at)?;
        self.anchored(anchor, Extent { values: 1, depth: 0 });
        self.finished(0);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Problem> {
        self.value(at)?;
        let Some(extent) = self.anchors.get(&anchor).copied() else {
            let is_open = self.stack.iter().any(|frame| frame.anchor == anchor);
            let message =
                if is_open { "an alias within what it names" } else { "no anchor of this document has this name" };
            return Err(self.problem(at, message.to_owned()));
        };
        self.values += extent.values;
        self.aliased += extent.values;
        if self.aliased > limits::ALIASED_VALUES {
            let message = format!("aliases add more than {} values to this file", limits::ALIASED_VALUES);
            return Err(self.problem(at, message));
        }
        self.check_depth(extent.depth, at)?;
        self.finished(extent.depth);
        Ok(())
    }

    fn open(&mut self, anchor: usize, inside: Inside<'t>, at: Position) -> Result<(), Problem> {
        let hash = self.value(at)?;
        self.check_depth(1, at)?;
        self.stack.push(Frame { hash, anchor, values_before: self.values, depth: 1, inside });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(frame) = self.stack.pop() {
            let values = self.values - frame.values_before + 1;
            self.anchored(frame.anchor, Extent { values, depth: frame.depth });
            self.finished(frame.depth);
        }
    }

    /// Notes how large a value is that has an anchor; 0 stands for none, which is what nearly all have.
    fn anchored(&mut self, anchor: usize, extent: Extent) {
        if anchor != 0 {
            self.anchors.insert(anchor, extent);
        }
    }

    /// A value begins: notes where, and gives its path.
    fn value(&mut self, at: Position) -> Result<PathHash, Problem> {
        self.values += 1;
        self.start.get_or_insert(at);
        match self.stack.last_mut() {
            None => Ok(PathHash::default()),
            Some(Frame { hash, inside: Inside::List { next }, .. }) => {
                let hash = hash.then(Segment::Index(*next));
                self.fields.push((hash, at));
                Ok(hash)
            }
            Some(Frame { hash, inside: Inside::Object { key: Some(key), .. }, .. }) => {
                Ok(hash.then(Segment::Key(key.as_ref())))
            }
            Some(Frame { inside: Inside::Object { key: None, .. }, .. }) => {
                Err(self.problem(at, "the key of a field must be text".to_owned()))
            }
        }
    }

    /// A value with this depth within is complete.
    fn finished(&mut self, depth: usize) {
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        frame.depth = frame.depth.max(depth + 1);
        match &mut frame.inside {
            Inside::List { next } => *next += 1,
            Inside::Object { key, .. } => *key = None,
        }
    }

    fn check_depth(&self, more: usize, at: Position) -> Result<(), Problem> {
        if self.stack.len() + more <= limits::DEPTH {
            return Ok(());
        }
        Err(self.problem(at, format!("nested deeper than {} levels", limits::DEPTH)))
    }

    fn problem(&self, at: Position, message: String) -> Problem {
        Problem { position: Some(at), field: None, message }
    }

    fn path(&self) -> String {
        let segments = self.stack.iter().filter_map(|frame| match &frame.inside {
            Inside::List { next } => Some(Segment::Index(*next)),
            Inside::Object { key, .. } => key.as_deref().map(Segment::Key),
        });
        written(&segments.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
