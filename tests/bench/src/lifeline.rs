//! Standard input as a lifeline: a part of the benchmark ends when whoever started it closes the other end, or is gone.

use std::{io, os::fd::AsFd as _};

use tokio::{io::AsyncReadExt as _, net::unix::pipe::Receiver};

/// The read end, which must be a pipe.
pub(crate) struct Lifeline(Receiver);

impl Lifeline {
    /// Takes standard input; nothing else may read from it.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        // Not tokio's `stdin`: its thread would sit in a read that only the other end can finish.
        Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?).map(Self)
    }

    /// Returns when the other end is closed.
    pub(crate) async fn closed(&mut self) {
        let mut ignored = [0; 64];
        while matches!(self.0.read(&mut ignored).await, Ok(read) if read > 0) {}
    }
}
