//! Finds the entry that wins for a request without looking at each of them.
//!
//! Every entry with a condition that is equality with a text (an exact path, a path prefix, an exact header, cookie or
//! query parameter) is filed under one of those, the one that it shares with the fewest others. A request is looked up
//! with what it has of each, and only what is found so, and entries without such a condition, are compared as a whole.
//! The cost is that of a few lookups, whatever the number of entries, as long as the texts differ.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use http::HeaderName;

use super::matcher::{Condition, Field, PathMatch, TextMatch};
use super::request::Request;
use super::table::Entry;

/// Places in the table, ascending.
type Places = Vec<u32>;

/// Configurations are not hostile to the node that runs them: a fixed seed will do, and every node does the same.
type Map<K, V> = HashMap<K, V, FixedState>;

type ByText = Map<Box<str>, Places>;

/// Entries by what a request must have to meet them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    paths: ByText,
    prefixes: ByText,
    /// Lengths of the prefixes, each once, ascending.
    lengths: Vec<usize>,
    headers: Map<HeaderName, ByText>,
    cookies: Map<Box<str>, ByText>,
    parameters: Map<Box<str>, ByText>,
    /// Entries that are filed under nothing.
    others: Places,
}

/// A condition that an entry can be filed under.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Anchor<'e> {
    Path(&'e str),
    Prefix(&'e str),
    Field(&'e Field, &'e str),
}

impl<'e> Anchor<'e> {
    fn of(entry: &'e Entry) -> impl Iterator<Item = Self> {
        let path = match &entry.matcher.path {
            Some(PathMatch::Exact(path)) => Some(Self::Path(path)),
            Some(PathMatch::Prefix(prefix)) if !prefix.is_empty() => Some(Self::Prefix(prefix)),
            _ => None,
        };
        let fields = entry.matcher.conditions.iter().filter_map(|Condition { field, text }| match text {
            TextMatch::Exact(text) => Some(Self::Field(field, text)),
            _ => None,
        });
        path.into_iter().chain(fields)
    }
}

impl Index {
    /// From how many entries on an index is faster than looking at each.
    pub(super) const WORTHWHILE: usize = 8;

    /// An index of these entries, which are in order of precedence.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut shared: Map<Anchor<'_>, u32> = Map::default();
        for anchor in entries.iter().flat_map(Anchor::of) {
            *shared.entry(anchor).or_default() += 1;
        }
        let mut index = Self::default();
        for (place, entry) in (0..).zip(entries) {
            let rarest = Anchor::of(entry).min_by_key(|anchor| shared.get(anchor).copied());
            index.places(rarest).push(place);
        }
        index.lengths = index.prefixes.keys().map(|prefix| prefix.len()).collect();
        index.lengths.sort_unstable();
        index.lengths.dedup();
        index
    }

    /// Where an entry with this condition is filed.
    fn places(&mut self, anchor: Option<Anchor<'_>>) -> &mut Places {
        let (texts, text) = match anchor {
            None => return &mut self.others,
            Some(Anchor::Path(path)) => (&mut self.paths, path),
            Some(Anchor::Prefix(prefix)) => (&mut self.prefixes, prefix),
            Some(Anchor::Field(Field::Header(name), text)) => (self.headers.entry(name.clone()).or_default(), text),
            Some(Anchor::Field(Field::Cookie(name), text)) => (self.cookies.entry(name.clone()).or_default(), text),
            Some(Anchor::Field(Field::Query(name), text)) => (self.parameters.entry(name.clone()).or_default(), text),
        };
        texts.entry(text.into()).or_default()
    }

    /// The first of the entries that the request meets.
    pub(super) fn find<'t>(&self, entries: &'t [Entry], request: &Request<'_>) -> Option<&'t Entry> {
        let mut search = Search { entries, request, best: entries.len() };
        self.by_path(&mut search);
        self.by_header(&mut search);
        if !self.cookies.is_empty() {
            for (name, value) in request.cookies() {
                search.look(self.cookies.get(name).and_then(|texts| texts.get(value)));
            }
        }
        if !self.parameters.is_empty() && request.query.is_some() {
            for (name, value) in request.query_parameters() {
                search.look(self.parameters.get(&*name).and_then(|texts| texts.get(&*value)));
            }
        }
        search.look(Some(&self.others));
        entries.get(search.best)
    }

    fn by_path(&self, search: &mut Search<'_, '_>) {
        let path = search.request.path;
        if !self.paths.is_empty() {
            search.look(self.paths.get(path));
        }
        for length in self.lengths.iter().take_while(|length| **length <= path.len()) {
            let is_whole = path.as_bytes().get(*length).is_none_or(|next| *next == b'/');
            if let Some(prefix) = path.get(..*length).filter(|_| is_whole) {
                search.look(self.prefixes.get(prefix));
            }
        }
    }

    fn by_header(&self, search: &mut Search<'_, '_>) {
        let headers = search.request.headers;
        // Whichever is less: the headers that entries ask for, or those that the request has.
        if self.headers.len() <= headers.keys_len() {
            for (name, texts) in &self.headers {
                for value in headers.get_all(name) {
                    search.look(str::from_utf8(value.as_bytes()).ok().and_then(|value| texts.get(value)));
                }
            }
        } else {
            for (name, value) in headers {
                let texts = self.headers.get(name);
                let value = texts.and_then(|texts| str::from_utf8(value.as_bytes()).ok().map(|value| (texts, value)));
                search.look(value.and_then(|(texts, value)| texts.get(value)));
            }
        }
    }
}

/// The best entry so far.
struct Search<'t, 'r> {
    entries: &'t [Entry],
    request: &'r Request<'r>,
    best: usize,
}

impl Search<'_, '_> {
    /// Looks at entries, until one is met or a better one is known.
    fn look(&mut self, places: Option<&Places>) {
        let places = places.into_iter().flatten().map(|place| *place as usize);
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
