//! How the sources are: what of them cannot be read, for the status, the readiness and the metrics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use weir_config::Diagnostic;
use weir_sources::{State, Status};

/// What is known of each source. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<BTreeMap<String, SourceView>>>);

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceView {
    /// Its name: `folder`.
    pub name: String,
    /// Where it reads: the folder's path.
    pub location: PathBuf,
    /// `starting` (not read yet), `current` (what was delivered last is what is there), `missing` (it is not there) or
    /// `failed` (it cannot be read as a whole). In the last two cases what is in force stays.
    pub state: &'static str,
    /// Why it cannot be read.
    pub problems: Arc<[Diagnostic]>,
    /// What will not work as expected although it can be read.
    pub warnings: Arc<[Diagnostic]>,
    /// How many problems there have been since the process began. One that goes and comes back counts again.
    pub errors_total: u64,
}

impl Sources {
    /// Takes in how a source is now.
    pub fn set(&self, name: &str, location: &Path, status: &Status) {
        let mut sources = self.lock();
        let before = sources.get(name);
        let is_new = |problem: &&Diagnostic| before.is_none_or(|before| !before.problems.contains(problem));
        let new = status.problems.iter().filter(is_new).count() as u64;
        let view = SourceView {
            name: name.to_owned(),
            location: location.to_owned(),
            state: match status.state {
                State::Starting => "starting",
                State::Missing => "missing",
                State::Failed => "failed",
                State::Current => "current",
            },
            problems: Arc::clone(&status.problems),
            warnings: Arc::clone(&status.warnings),
            errors_total: before.map_or(0, |before| before.errors_total) + new,
        };
        sources.insert(name.to_owned(), view);
    }

    /// Every source, in order of their names.
    pub fn all(&self) -> Vec<SourceView> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SourceView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceView {
    /// Whether it cannot be read, so that what is in force may be older than what is there.
    pub fn is_broken(&self) -> bool {
        !self.problems.is_empty()
    }

    /// One line about what is wrong; none when it can be read.
    pub(crate) fn trouble(&self) -> Option<String> {
        let first = self.problems.first()?;
        let more = match self.problems.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("source {} cannot be read: {first}{more}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, problems: &[&str]) -> Status {
        let problems = problems.iter().map(|problem| Diagnostic::error(*problem)).collect();
        Status { state, problems, warnings: [].into() }
    }

    #[test]
    fn problems_are_counted_when_they_come() {
        let sources = Sources::default();
        let steps: [(State, &[&str], u64, Option<&str>); 6] = [
            (State::Starting, &[], 0, None),
            (State::Failed, &["a"], 1, Some("source folder cannot be read: a")),
            (State::Failed, &["a", "b"], 2, Some("source folder cannot be read: a (and 1 more)")),
            (State::Failed, &["b"], 2, Some("source folder cannot be read: b")),
            (State::Current, &[], 2, None),
            (State::Missing, &["b"], 3, Some("source folder cannot be read: b")),
        ];
        for (state, problems, total, trouble) in steps {
            sources.set("folder", Path::new("/rules"), &status(state, problems));
            let views = sources.all();
            assert_eq!(views.len(), 1);
            let view = &views[0];
            assert_eq!((view.errors_total, view.trouble().as_deref()), (total, trouble), "{state:?} {problems:?}");
            assert_eq!(view.is_broken(), trouble.is_some());
        }
    }
}
