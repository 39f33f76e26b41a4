//! Looking again when something moved.

use std::{fs::File, io, time::Duration};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::{
    io::unix::AsyncFd,
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{PodLinks, PodOptions, scan::scan_from};
use crate::{KernelError, error::file, wait};

/// Notification groups of `rtnetlink.h`: links, IPv4 addresses, IPv6 addresses, namespace ids.
const GROUPS: [u32; 4] = [1, 5, 9, 28];

/// A new pod announces itself with a dozen messages in a few milliseconds; one look serves all.
const GATHER: Duration = Duration::from_millis(20);

/// After a look that failed, for example because a namespace went meanwhile.
const RETRY: Duration = Duration::from_millis(200);

/// Pictures of the bridge's ports, each different from the one before.
pub struct PodWatch {
    options: PodOptions,
    home: File,
    notifications: AsyncFd<Socket>,
    last: Option<PodLinks>,
}

impl PodWatch {
    /// Watches the network namespace of the calling thread. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Without the privilege to hear of other namespaces.
    pub fn start(options: PodOptions) -> Result<Self, KernelError> {
        let path = "/proc/thread-self/ns/net";
        let home = File::open(path).map_err(file("opening", path))?;
        let notifications = listen()
            .map_err(|source| KernelError::Netlink { what: "listening for changes of links".to_owned(), source })?;
        Ok(Self { options, home, notifications, last: None })
    }

    /// The next picture; the first call gives the present one. Cancelling loses none.
    ///
    /// A look that fails is tried again, as long as the bridge is there at all or comes back.
    ///
    /// # Errors
    /// When the runtime's I/O driver is gone.
    pub async fn next(&mut self) -> Result<PodLinks, KernelError> {
        loop {
            let mut again = Instant::now() + self.options.resync;
            match self.look().await {
                Ok(links) if self.last.as_ref() != Some(&links) => {
                    self.last = Some(links.clone());
                    return Ok(links);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "looking for pods failed; trying again");
                    again = Instant::now() + RETRY;
                }
            }
            // Nothing to do about the deadline: it is the periodic full look.
            if let Ok(result) = timeout_at(again, self.notification()).await {
                result.map_err(file("waiting for", "changes of links"))?;
                sleep(GATHER).await;
            }
            self.drain();
        }
    }

    async fn notification(&self) -> io::Result<()> {
        // Cleared before `drain` reads, so that what comes in between wakes again.
        self.notifications.readable().await?.clear_ready();
        Ok(())
    }

    /// Reads all that is there. The content does not matter, and neither does an overflow: what
    /// follows is a full look.
    fn drain(&mut self) {
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            buffer.clear();
            match self.notifications.get_ref().recv(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// On a thread of its own, because it changes its namespace; never on the runtime's.
    async fn look(&self) -> Result<PodLinks, KernelError> {
        let started = |source| file("starting a thread for", &self.options.namespaces)(source);
        let home = self.home.try_clone().map_err(started)?;
        let options = self.options.clone();
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("weir-pods".to_owned())
            .spawn(move || drop(sender.send(scan_from(&home, &options))))
            .map_err(|source| file("starting a thread for", &self.options.namespaces)(source))?;
        let ended = |_| file("looking into", &self.options.namespaces)(io::ErrorKind::BrokenPipe.into());
        receiver.await.map_err(ended)?
    }
}

fn listen() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    // Also of the namespaces that have an id here: a pod's address is set in the pod's.
    socket.set_listen_all_namespaces(true)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    wait::readable(socket)
}
