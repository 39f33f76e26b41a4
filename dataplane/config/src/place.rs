//! Paths of fields, and where in a file they are.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::index;
use crate::text::without_mark;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// Into a field of an object.
    Key(&'a str),
    /// Into an element of a list, from 0.
    Index(usize),
}

/// A path as people write it: `spec.match[1].headers.x-user-tag`.
pub(crate) fn written(path: &[Segment<'_>]) -> String {
    let mut text = String::new();
    for segment in path {
        // Writing to a String does not fail.
        let _ = match segment {
            Segment::Index(index) => write!(text, "[{index}]"),
            Segment::Key(key) if key.is_empty() || key.contains(['.', '[', ' ']) => write!(text, "[\"{key}\"]"),
            Segment::Key(key) if text.is_empty() => write!(text, "{key}"),
            Segment::Key(key) => write!(text, ".{key}"),
        };
    }
    text
}

/// A place in a file; both from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Stands for a path. Two paths with the same hash would only make a diagnostic point to a wrong line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathHash(u64);

impl PathHash {
    pub(crate) fn then(self, segment: Segment<'_>) -> Self {
        Self(match segment {
            Segment::Key(key) => xxh3_64_with_seed(key.as_bytes(), self.0),
            Segment::Index(index) => xxh3_64_with_seed(&index.to_be_bytes(), !self.0),
        })
    }
}

/// Where the fields of a document are. 16 bytes a field, or the text that they are in, so that it can be kept with the
/// document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locations {
    base: PathHash,
    start: Option<Position>,
    fields: Fields,
}

/// Sorted by hash.
type Known = Arc<[(PathHash, Position)]>;

#[derive(Clone, Debug)]
enum Fields {
    Known(Known),
    /// In the document at this position of a text.
    InText(Arc<Unread>, usize),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Known(Arc::default())
    }
}

/// A text whose fields are looked up the first time that somebody wants to know where one is.
#[derive(Debug)]
pub(crate) struct Unread {
    /// That of the file, with whoever else has it.
    text: Arc<str>,
    documents: OnceLock<Vec<Locations>>,
}

impl Unread {
    pub(crate) fn new(text: &Arc<str>) -> Self {
        Self { text: Arc::clone(text), documents: OnceLock::new() }
    }

    /// The fields of a document; none where the walk does not come so far.
    fn document(&self, position: usize) -> &[(PathHash, Position)] {
        let documents = self.documents.get_or_init(|| index(without_mark(&self.text)).documents);
        match documents.get(position).map(|locations| &locations.fields) {
            Some(Fields::Known(known)) => known,
            _ => &[],
        }
    }
}

impl Locations {
    pub(crate) fn new(start: Position, mut fields: Vec<(PathHash, Position)>) -> Self {
        fields.sort_unstable_by_key(|(hash, _)| *hash);
        Self { base: PathHash::default(), start: Some(start), fields: Fields::Known(fields.into()) }
    }

    /// Those of the document at a position of a text.
    pub(crate) fn in_text(start: Position, text: Arc<Unread>, position: usize) -> Self {
        Self { base: PathHash::default(), start: Some(start), fields: Fields::InText(text, position) }
    }

    /// Nothing but where the document begins.
    pub(crate) fn starting(line: Option<u32>) -> Self {
        let start = line.map(|line| Position { line, column: 1 });
        Self { start, ..Self::default() }
    }

    /// The place of the field, or of the nearest one around it that is written.
    pub(crate) fn find(&self, path: &[Segment<'_>]) -> Option<Position> {
        let mut hash = self.base;
        let mut nearest = self.start;
        for segment in path {
            hash = hash.then(*segment);
            match self.at(hash) {
                Some(position) => nearest = Some(position),
                None => break,
            }
        }
        nearest
    }

    /// The places within the value at this path.
    pub(crate) fn within(&self, path: &[Segment<'_>]) -> Self {
        let base = path.iter().fold(self.base, |hash, segment| hash.then(*segment));
        Self { base, start: self.at(base).or(self.start), fields: self.fields.clone() }
    }

    fn at(&self, hash: PathHash) -> Option<Position> {
        let fields = match &self.fields {
            Fields::Known(known) => known,
            Fields::InText(text, position) => text.document(*position),
        };
        let found = fields.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        Some(fields[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::Segment::{Index, Key};
    use super::*;

    #[test]
    fn paths_as_written() {
        let cases: [(&[Segment<'_>], &str); 4] = [
            (&[], ""),
            (&[Key("spec"), Key("match"), Index(1), Key("headers")], "spec.match[1].headers"),
            (&[Key("labels"), Key("kubernetes.io/name")], "labels[\"kubernetes.io/name\"]"),
            (&[Key("a"), Key("")], "a[\"\"]"),
        ];
        for (path, expected) in cases {
            assert_eq!(written(path), expected);
        }
    }

    #[test]
    fn what_is_not_written_is_found_at_what_surrounds_it() {
        let position = |line| Position { line, column: 1 };
        let spec = PathHash::default().then(Key("spec"));
        let item = spec.then(Index(0));
        let locations = Locations::new(position(1), vec![(item, position(3)), (spec, position(2))]);
        let cases: [(&[Segment<'_>], u32); 4] =
            [(&[], 1), (&[Key("spec")], 2), (&[Key("spec"), Index(0), Key("x")], 3), (&[Key("x"), Key("spec")], 1)];
        for (path, line) in cases {
            assert_eq!(locations.find(path), Some(position(line)), "{path:?}");
        }
        assert_eq!(locations.within(&[Key("spec")]).find(&[Index(0)]), Some(position(3)));
    }
}
