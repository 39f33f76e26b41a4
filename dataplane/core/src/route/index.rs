//! Finds the entry that wins for a request without looking at each of them.
//!
//! Every entry with a condition that is equality with a text (an exact path, a path prefix, an exact header, cookie or
//! query parameter) is filed under one of those, the one that it shares with the fewest others. A request is looked up
//! with what it has of each, and only what is found so, and entries without such a condition, are compared as a whole.
//! The cost is that of a few lookups, whatever the number of entries, as long as the texts differ.
//!
//! Conditions are known by their hash alone. Two that have the same share a file, which costs a comparison and nothing
//! else, and an entry takes a few bytes here instead of a copy of its texts.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use http::HeaderName;

use super::matcher::{Condition, Field, PathMatch, TextMatch};
use super::request::Request;
use super::table::Entry;

/// Configurations are not hostile to the node that runs them: a fixed seed will do, and every node does the same.
type Names<T> = HashSet<T, FixedState>;

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// Entries by what a request must have to meet them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    filed: ByHash<Places>,
    has_paths: bool,
    /// Lengths of the prefixes that entries are filed under, each once, ascending.
    lengths: Vec<usize>,
    /// Names of what entries are filed under.
    headers: Names<HeaderName>,
    cookies: Names<Box<str>>,
    parameters: Names<Box<str>>,
    /// Entries that are filed under nothing.
    others: Vec<u32>,
}

/// Places in the table, ascending. Nearly all conditions are those of one entry.
#[derive(Clone, Debug)]
enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl Places {
    fn push(&mut self, place: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, place]),
            Self::Many(places) => places.push(place),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }
}

/// The hasher of what is a hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are numbers");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A condition that an entry can be filed under.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Anchor<'e> {
    Path(&'e str),
    Prefix(&'e str),
    Header(&'e HeaderName, &'e str),
    Cookie(&'e str, &'e str),
    Parameter(&'e str, &'e str),
}

impl<'e> Anchor<'e> {
    fn of(entry: &'e Entry) -> impl Iterator<Item = Self> {
        let path = match &entry.matcher.path {
            Some(PathMatch::Exact(path)) => Some(Self::Path(path)),
            Some(PathMatch::Prefix(prefix)) if !prefix.is_empty() => Some(Self::Prefix(prefix)),
            _ => None,
        };
        let fields = entry.matcher.conditions.iter().filter_map(|Condition { field, text }| match (field, text) {
            (Field::Header(name), TextMatch::Exact(text)) => Some(Self::Header(name, text)),
            (Field::Cookie(name), TextMatch::Exact(text)) => Some(Self::Cookie(name, text)),
            (Field::Query(name), TextMatch::Exact(text)) => Some(Self::Parameter(name, text)),
            _ => None,
        });
        path.into_iter().chain(fields)
    }

    fn hash(self) -> u64 {
        FixedState::default().hash_one(self)
    }
}

impl Index {
    /// From how many entries on an index is faster than looking at each.
    pub(super) const WORTHWHILE: usize = 8;

    /// An index of these entries, which are in order of precedence.
    pub(super) fn new(entries: &[Arc<Entry>]) -> Self {
        let mut shared: ByHash<u32> = HashMap::with_capacity_and_hasher(entries.len(), BuildHasherDefault::default());
        for anchor in entries.iter().flat_map(|entry| Anchor::of(entry)) {
            *shared.entry(anchor.hash()).or_default() += 1;
        }
        let mut index = Self::default();
        index.filed.reserve(entries.len());
        for (place, entry) in (0..).zip(entries) {
            let anchors = Anchor::of(entry).map(|anchor| (anchor, anchor.hash()));
            match anchors.min_by_key(|(_, hash)| shared.get(hash).copied()) {
                Some((anchor, hash)) => index.file(anchor, hash, place),
                None => index.others.push(place),
            }
        }
        index.lengths.sort_unstable();
        index.filed.shrink_to_fit();
        index
    }

    fn file(&mut self, anchor: Anchor<'_>, hash: u64, place: u32) {
        self.filed.entry(hash).and_modify(|places| places.push(place)).or_insert(Places::One(place));
        match anchor {
            Anchor::Path(_) => self.has_paths = true,
            Anchor::Prefix(prefix) if self.lengths.contains(&prefix.len()) => {}
            Anchor::Prefix(prefix) => self.lengths.push(prefix.len()),
            Anchor::Header(name, _) if self.headers.contains(name) => {}
            Anchor::Header(name, _) => drop(self.headers.insert(name.clone())),
            Anchor::Cookie(name, _) if self.cookies.contains(name) => {}
            Anchor::Cookie(name, _) => drop(self.cookies.insert(name.into())),
            Anchor::Parameter(name, _) if self.parameters.contains(name) => {}
            Anchor::Parameter(name, _) => drop(self.parameters.insert(name.into())),
        }
    }

    /// Whether the index of one list of entries is that of the other: it knows nothing of them but their conditions.
    pub(super) fn is_same(entries: &[Arc<Entry>], others: &[Arc<Entry>]) -> bool {
        let is_alike = |(one, other)| Arc::ptr_eq(one, other) || Anchor::of(one).eq(Anchor::of(other));
        entries.len() == others.len() && entries.iter().zip(others).all(is_alike)
    }

    /// The first of the entries that the request meets.
    pub(super) fn find<'t>(&self, entries: &'t [Arc<Entry>], request: &Request<'_>) -> Option<&'t Arc<Entry>> {
        let mut search = Search { filed: &self.filed, entries, request, best: entries.len() };
        self.by_path(&mut search);
        self.by_header(&mut search);
        if !self.cookies.is_empty() {
            for (name, value) in request.cookies().filter(|(name, _)| self.cookies.contains(*name)) {
                search.look(Anchor::Cookie(name, value));
            }
        }
        if !self.parameters.is_empty() && request.query.is_some() {
            for (name, value) in request.query_parameters().filter(|(name, _)| self.parameters.contains(&**name)) {
                search.look(Anchor::Parameter(&name, &value));
            }
        }
        search.look_at(&self.others);
        entries.get(search.best)
    }

    fn by_path(&self, search: &mut Search<'_, '_>) {
        let path = search.request.path;
        if self.has_paths {
            search.look(Anchor::Path(path));
        }
        for length in self.lengths.iter().take_while(|length| **length <= path.len()) {
            let is_whole = path.as_bytes().get(*length).is_none_or(|next| *next == b'/');
            if let Some(prefix) = path.get(..*length).filter(|_| is_whole) {
                search.look(Anchor::Prefix(prefix));
            }
        }
    }

    fn by_header(&self, search: &mut Search<'_, '_>) {
        let headers = search.request.headers;
        // Whichever is less: the headers that entries ask for, or those that the request has.
        if self.headers.len() <= headers.keys_len() {
            for name in &self.headers {
                for value in headers.get_all(name).iter().filter_map(|value| str::from_utf8(value.as_bytes()).ok()) {
                    search.look(Anchor::Header(name, value));
                }
            }
        } else {
            for (name, value) in headers.iter().filter(|(name, _)| self.headers.contains(*name)) {
                if let Ok(value) = str::from_utf8(value.as_bytes()) {
                    search.look(Anchor::Header(name, value));
                }
            }
        }
    }
}

/// The best entry so far.
struct Search<'t, 'r> {
    filed: &'t ByHash<Places>,
    entries: &'t [Arc<Entry>],
    request: &'r Request<'r>,
    best: usize,
}

impl Search<'_, '_> {
    /// Looks at what is filed under a condition.
    fn look(&mut self, anchor: Anchor<'_>) {
        if let Some(places) = self.filed.get(&anchor.hash()) {
            self.look_at(places.as_slice());
        }
    }

    /// Looks at entries, until one is met or a better one is known.
    fn look_at(&mut self, places: &[u32]) {
        let places = places.iter().map(|place| *place as usize);
        for place in places.take_while(|place| *place < self.best) {
            if self.entries[place].matcher.mismatch(self.request).is_none() {
                self.best = place;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
