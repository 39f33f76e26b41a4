//! From a value to a kind's type, with every wrong field reported instead of only the first: what is wrong is taken
//! out of the value, and the rest is tried again.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment as Tracked;

use crate::limits;
use crate::place::Segment;
use crate::wording;

/// One step of a path that outlives the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    pub(crate) fn segment(&self) -> Segment<'_> {
        match self {
            Self::Key(key) => Segment::Key(key),
            Self::Index(index) => Segment::Index(*index),
        }
    }
}

/// What had to be taken out of a value, as paths in the value as it was written.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    paths: Vec<Vec<Step>>,
}

impl Removed {
    /// The path in the value as written of a path in what is left, where elements of lists may have moved up.
    pub(crate) fn original<'a>(&self, path: &[Segment<'a>]) -> Vec<Segment<'a>> {
        let mut original: Vec<Segment<'a>> = Vec::with_capacity(path.len());
        for segment in path {
            let segment = match segment {
                Segment::Index(index) if !self.paths.is_empty() => Segment::Index(self.moved(&original, *index)),
                other => *other,
            };
            original.push(segment);
        }
        original
    }

    /// Whether something directly within the value at this path (as written) was taken out.
    pub(crate) fn has_child(&self, path: &[Segment<'_>]) -> bool {
        self.paths.iter().any(|removed| removed.len() == path.len() + 1 && starts_with(removed, path))
    }

    fn moved(&self, list: &[Segment<'_>], index: usize) -> usize {
        let in_list = |path: &&Vec<Step>| path.len() == list.len() + 1 && starts_with(path, list);
        let gone = self.paths.iter().filter(in_list).filter_map(|path| match path.last() {
            Some(Step::Index(index)) => Some(*index),
            _ => None,
        });
        let mut gone: Vec<usize> = gone.collect();
        gone.sort_unstable();
        gone.into_iter().fold(index, |index, gone| if gone <= index { index + 1 } else { index })
    }

    /// Whether the value at this path (as written), or one around it, was taken out.
    pub(crate) fn contains(&self, path: &[Segment<'_>]) -> bool {
        self.paths.iter().any(|removed| {
            removed.len() <= path.len() && removed.iter().zip(path).all(|(step, segment)| step.segment() == *segment)
        })
    }
}

fn starts_with(path: &[Step], start: &[Segment<'_>]) -> bool {
    path.len() >= start.len() && path.iter().zip(start).all(|(step, segment)| step.segment() == *segment)
}

/// What came of a value.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    /// What is right.
    pub(crate) value: T,
    /// What was not.
    pub(crate) removed: Removed,
    /// Why, each with its path as written.
    pub(crate) wrong: Vec<(Vec<Step>, String)>,
}

pub(crate) fn decode<T: DeserializeOwned + Default>(mut value: Value) -> Decoded<T> {
    // Nearly always right; keeping track of paths would take as long again.
    if let Ok(value) = T::deserialize(&value) {
        return Decoded { value, removed: Removed::default(), wrong: Vec::new() };
    }
    let mut removed = Removed::default();
    let mut wrong = Vec::new();
    while wrong.len() < limits::PROBLEMS_PER_DOCUMENT {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(value) => return Decoded { value, removed, wrong },
            Err(error) => error,
        };
        let mut path = steps(error.path());
        let message = wording::for_people(&error.inner().to_string());
        let segments: Vec<_> = path.iter().map(Step::segment).collect();
        let original: Vec<Step> = removed.original(&segments).into_iter().map(owned).collect();
        wrong.push((original, message));
        // Where the very place cannot be taken out, what is around it is.
        while !path.is_empty() && !remove(&mut value, &path) {
            path.pop();
        }
        if path.is_empty() {
            break;
        }
        let segments: Vec<_> = path.iter().map(Step::segment).collect();
        let original = removed.original(&segments).into_iter().map(owned).collect();
        removed.paths.push(original);
    }
    // Nothing of it can be used, so nothing of it may be called missing.
    removed.paths.push(Vec::new());
    Decoded { value: T::default(), removed, wrong }
}

fn owned(segment: Segment<'_>) -> Step {
    match segment {
        Segment::Key(key) => Step::Key(key.to_owned()),
        Segment::Index(index) => Step::Index(index),
    }
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    let known = path.iter().map_while(|segment| match segment {
        Tracked::Map { key } => Some(Step::Key(key.clone())),
        Tracked::Seq { index } => Some(Step::Index(*index)),
        Tracked::Enum { .. } | Tracked::Unknown => None,
    });
    known.collect()
}

/// Takes the value at a path out of what surrounds it.
fn remove(value: &mut Value, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let mut here = value;
    for step in parents {
        let next = match (step, here) {
            (Step::Key(key), Value::Object(object)) => object.get_mut(key),
            (Step::Index(index), Value::Array(list)) => list.get_mut(*index),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return false,
        }
    }
    match (last, here) {
        (Step::Key(key), Value::Object(object)) => object.remove(key).is_some(),
        (Step::Index(index), Value::Array(list)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}
