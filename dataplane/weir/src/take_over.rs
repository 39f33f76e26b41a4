//! How a node process takes over from the one that runs: a conversation over a socket in the state folder.
//!
//! ```text
//! new  {"takeOver":1}                                  I want to take over; this is the protocol's version
//! old  {"lent":{"admin":"127.0.0.1:15021"}}            the version log is yours, and the API's listening socket
//!      or {"refused":"why"}
//! new  "ready"                                         the programs are mine, the last revision is in force
//! old  "farewell"                                      from now on I touch nothing that is shared
//! ```
//!
//! Each message is a line of JSON. Until the farewell the old process is the node: when the connection ends before, for
//! whatever reason, it takes back what it lent. Nothing here knows what is done with what is lent; that is `node.rs`'s.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, Ready};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout_at};

/// The socket's name in the state folder.
const FILE: &str = "take-over.sock";
/// The version of this conversation.
const VERSION: u32 = 1;
/// A message is far shorter.
const MAX_MESSAGE: usize = 4 << 10;
/// The other process writes its log to the disk before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Loading the programs takes a tenth of a second; a small machine under load takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Message {
    TakeOver(u32),
    Lent { admin: String },
    Refused(String),
    Ready,
    Farewell,
}

impl Message {
    fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// The message, once its line is complete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        match bytes.strip_suffix(b"\n") {
            Some(line) => Ok(Some(serde_json::from_slice(line)?)),
            None if bytes.len() >= MAX_MESSAGE => Err(io::Error::other("a message without end")),
            None => Ok(None),
        }
    }
}

/// A path to the socket that is short whatever the state folder is called (`sun_path` has 108 bytes, unix(7)), valid as
/// long as the folder is held open.
fn socket_path(state: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(state)?;
    let path = format!("/proc/self/fd/{}/{FILE}", folder.as_raw_fd());
    Ok((folder, path.into()))
}

/// What the process that runs lent to this one. Dropping it gives everything back.
#[derive(Debug)]
pub(crate) struct Lent {
    stream: Blocking,
    /// The address of the API and its listening socket.
    admin: Option<(String, OwnedFd)>,
}

impl Lent {
    /// Asks the process that runs; `None` when none does.
    ///
    /// # Errors
    /// When it refuses, or does not answer in time.
    pub(crate) fn ask(state: &Path) -> anyhow::Result<Option<Self>> {
        let connected = socket_path(state).and_then(|(_folder, path)| Blocking::connect(path));
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("{}", state.join(FILE).display())),
        };
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(&Message::TakeOver(VERSION).line()?)?;
        match receive(&stream).context("the process that runs does not answer")? {
            (Message::Lent { admin }, socket) => Ok(Some(Self { stream, admin: socket.map(|socket| (admin, socket)) })),
            (Message::Refused(why), _) => bail!("the process that runs refuses: {why}"),
            (other, _) => bail!("the process that runs answers {other:?}, which makes no sense"),
        }
    }

    /// The listening socket of the API, if it listens at this address.
    pub(crate) fn admin(&mut self, address: &str) -> Option<OwnedFd> {
        self.admin.take_if(|(theirs, _)| theirs == address).map(|(_, socket)| socket)
    }

    /// This process can do everything from now on. When this returns, the other touches nothing shared any more.
    ///
    /// # Errors
    /// When the other is gone, or has given up waiting: it may be the node again.
    pub(crate) fn ready(mut self) -> anyhow::Result<()> {
        let gone = "the process that runs has gone, or did not wait; it is the node, if it still runs";
        self.stream.write_all(&Message::Ready.line()?).context(gone)?;
        match receive(&self.stream).context(gone)?.0 {
            Message::Farewell => Ok(()),
            other => bail!("the process that runs answers {other:?}, which makes no sense"),
        }
    }
}

fn receive(stream: &Blocking) -> io::Result<(Message, Option<OwnedFd>)> {
    let (mut bytes, mut socket) = (Vec::new(), None);
    loop {
        let mut part = [0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut part)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
                socket = sockets.next();
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..got.bytes]);
        if let Some(message) = Message::parse(&bytes)? {
            return Ok((message, socket));
        }
    }
}

/// Where a process that wants to take over asks. The socket's file goes with it, unless somebody took over.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    folder: File,
    is_given_up: bool,
}

impl Door {
    /// Listens in the state folder, for this user alone. Only who has the version log open may call this: a file that
    /// is there was left by a process that is no more.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let (folder, path) = socket_path(state)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, folder, is_given_up: false })
    }

    /// Waits for a process that wants to take over, and says so in a way that is understood.
    pub(crate) async fn asked(&self) -> io::Result<Asked> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let mut asked = Asked { stream };
            let why = match asked.receive(Instant::now() + ANSWER_WITHIN).await {
                Ok(Message::TakeOver(VERSION)) => return Ok(asked),
                Ok(Message::TakeOver(other)) => format!("it speaks version {VERSION} of this protocol, not {other}"),
                Ok(other) => format!("{other:?} makes no sense here"),
                Err(error) => error.to_string(),
            };
            tracing::warn!(why, "somebody asked to take over in a way that is not understood");
            let _ = asked.send(&Message::Refused(why), None).await;
        }
    }

    /// Leaves the file to who took over.
    pub(crate) fn give_up(mut self) {
        self.is_given_up = true;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.is_given_up {
            let _ = std::fs::remove_file(format!("/proc/self/fd/{}/{FILE}", self.folder.as_raw_fd()));
        }
    }
}

/// A process that wants to take over.
#[derive(Debug)]
pub(crate) struct Asked {
    stream: UnixStream,
}

impl Asked {
    /// Says why not.
    pub(crate) async fn refuse(mut self, why: &str) {
        let _ = self.send(&Message::Refused(why.to_owned()), None).await;
    }

    /// Lends the log and the API's listening socket.
    pub(crate) async fn lend(&mut self, admin: &str, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&Message::Lent { admin: admin.to_owned() }, Some(listener)).await
    }

    /// Waits until the other process is ready, or fails.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        match self.receive(Instant::now() + READY_WITHIN).await? {
            Message::Ready => Ok(()),
            other => Err(io::Error::other(format!("{other:?} makes no sense here"))),
        }
    }

    /// Says that everything is the other's now.
    pub(crate) async fn farewell(mut self) -> io::Result<()> {
        self.send(&Message::Farewell, None).await
    }

    async fn send(&mut self, message: &Message, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let line = message.line()?;
        let sockets = socket.map(|socket| [socket]);
        let sending = self.stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(sockets) = &sockets {
                ancillary.push(SendAncillaryMessage::ScmRights(sockets));
            }
            Ok(sendmsg(self.stream.as_fd(), &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?)
        });
        // A message fits an empty socket buffer, so it is never sent in parts.
        let sent = timeout_at(Instant::now() + ANSWER_WITHIN, sending).await??;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    async fn receive(&mut self, until: Instant) -> io::Result<Message> {
        let mut bytes = Vec::with_capacity(MAX_MESSAGE);
        loop {
            let _: Ready = timeout_at(until, self.stream.ready(Interest::READABLE)).await??;
            match self.stream.try_read_buf(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    if let Some(message) = Message::parse(&bytes)? {
                        return Ok(message);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
