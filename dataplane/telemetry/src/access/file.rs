//! Where lines go.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::AccessRecord;
use super::format::Format;
use crate::Telemetry;

/// A buffer is handed over when it has so much.
const BUFFER_BYTES: usize = 32 << 10;
/// How many buffers may wait for the thread: 2 MiB.
const BUFFERS: usize = 64;
/// That lines are lost is told no more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// A file, appended to. When it has `max_bytes`, it is renamed to the same name with `.1` at its end (which
    /// replaces the one before), and begun anew; and when somebody else has moved it away, it is made again.
    File {
        /// Where it is.
        path: PathBuf,
        /// When another is begun.
        max_bytes: u64,
    },
}

/// The access log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}: {source}")]
pub struct OpenError {
    path: String,
    source: io::Error,
}

/// An open access log, and the thread that writes it.
#[derive(Debug)]
pub struct AccessLog {
    format: Arc<Format>,
    sender: SyncSender<Buffer>,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: u64,
    text: Vec<u8>,
}

impl AccessLog {
    /// Opens it. What is written and lost is counted in `telemetry`.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread cannot be started.
    pub fn open(destination: &Destination, format: Format, telemetry: &Telemetry) -> Result<Self, OpenError> {
        let counts = Arc::new(Counts::default());
        telemetry.register_collector(Box::new(Lines(Arc::clone(&counts))));
        let (sender, receiver) = sync_channel(BUFFERS);
        let opened = Output::open(destination).and_then(|output| {
            let counts = Arc::clone(&counts);
            let thread = std::thread::Builder::new().name("weir-access-log".to_owned());
            thread.spawn(move || write_all(output, &receiver, &counts))
        });
        let path = || match destination {
            Destination::Stdout => "stdout".to_owned(),
            Destination::Stderr => "stderr".to_owned(),
            Destination::File { path, .. } => path.display().to_string(),
        };
        let thread = opened.map_err(|source| OpenError { path: path(), source })?;
        Ok(Self { format: Arc::new(format), sender, counts, thread })
    }

    /// What a worker writes to.
    pub fn sink(&self) -> Sink {
        let (format, sender, counts) = (Arc::clone(&self.format), self.sender.clone(), Arc::clone(&self.counts));
        Sink { format, sender, counts, buffer: Buffer::default() }
    }

    /// Waits until everything is written. All sinks have to be gone, or it waits for them.
    pub fn close(self) {
        drop(self.sender);
        // A panic in it is printed by the panic hook.
        let _ = self.thread.join();
    }
}

/// What one worker writes to. Dropped, it hands over what it has.
#[derive(Debug)]
pub struct Sink {
    format: Arc<Format>,
    sender: SyncSender<Buffer>,
    counts: Arc<Counts>,
    buffer: Buffer,
}

impl Sink {
    /// Adds a line.
    pub fn write(&mut self, record: &AccessRecord<'_>) {
        self.format.write(record, &mut self.buffer.text);
        self.buffer.lines += 1;
        if self.buffer.text.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Hands over what there is. Never waits.
    pub fn flush(&mut self) {
        if self.buffer.lines == 0 {
            return;
        }
        let full = std::mem::take(&mut self.buffer);
        if let Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) = self.sender.try_send(full) {
            self.counts.lost.fetch_add(lost.lines, Ordering::Relaxed);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_all(mut output: Output, buffers: &Receiver<Buffer>, counts: &Counts) {
    let mut warned: Option<Instant> = None;
    for buffer in buffers {
        match output.write(&buffer.text) {
            Ok(()) => drop(counts.written.fetch_add(buffer.lines, Ordering::Relaxed)),
            Err(error) => {
                counts.lost.fetch_add(buffer.lines, Ordering::Relaxed);
                if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, lines = buffer.lines, "lines of the access log are lost");
                }
            }
        }
    }
}

enum Output {
    Stdout,
    Stderr,
    File { path: PathBuf, max_bytes: u64, file: File },
}

impl Output {
    fn open(destination: &Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::Stdout => Self::Stdout,
            Destination::Stderr => Self::Stderr,
            Destination::File { path, max_bytes } => {
                Self::File { path: path.clone(), max_bytes: *max_bytes, file: open(path)? }
            }
        })
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text).and_then(|()| stdout.flush())
            }
            Self::Stderr => io::stderr().lock().write_all(text),
            Self::File { path, max_bytes, file } => {
                if !is_at(file, path) {
                    *file = open(path)?;
                } else if file.metadata()?.len() >= *max_bytes {
                    std::fs::rename(&*path, rotated(path))?;
                    *file = open(path)?;
                }
                file.write_all(text)
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Of a pipe that nobody reads, this is an error instead of a wait for somebody who does.
    let file = OpenOptions::new().create(true).append(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

/// Whether the file with this path is the one that is open.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<Metadata>| metadata.ok().map(|one| (one.dev(), one.ino()));
    let open = identity(file.metadata());
    open.is_some() && open == identity(path.metadata())
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// `weir_access_log_lines_total`.
#[derive(Debug)]
struct Lines(Arc<Counts>);

impl Collector for Lines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines of the access log: written, or lost because there was no room or the file took none";
        let mut lines = encoder.encode_descriptor("weir_access_log_lines", help, None, MetricType::Counter)?;
        for (outcome, count) in [("written", &self.0.written), ("lost", &self.0.lost)] {
            let labels = [("outcome", outcome)];
            let count = count.load(Ordering::Relaxed);
            lines.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}
