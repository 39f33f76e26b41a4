//! How many files a node may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. The soft one is 1,024 where nobody says otherwise, for the sake of programs
/// that use `select()` (<https://0pointer.net/blog/file-descriptor-limits.html>), of which this is none.
pub(crate) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files stays: there may be few connections");
    }
}
