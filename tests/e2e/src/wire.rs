//! What goes over the link between two nodes.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};
use weir_lab::Layout;

use crate::capture::{EVERYTHING, addresses};

/// Frames of a link with all segments put together are not longer.
const FRAME_BYTES: usize = 128 * 1_024;

/// Listens at the remote node's end of the link, from the moment it is made.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    uplink: usize,
}

/// What went over it.
#[derive(Debug, Default)]
pub struct Wired {
    /// Whole frames.
    pub frames: Vec<Vec<u8>>,
}

/// Begins to listen.
#[track_caller]
#[must_use]
pub fn wire(lab: &Layout) -> Wire {
    let open = || -> io::Result<Wire> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERYTHING)))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(64 << 20)?;
        Ok(Wire { socket, uplink: if_nametoindex("eth0")? as usize })
    };
    lab.enter("remote", open).unwrap().unwrap()
}

impl Wire {
    /// What went over the link since it was asked last.
    #[track_caller]
    pub fn take(&mut self) -> Wired {
        let mut frames = Vec::new();
        let mut frame = vec![0; FRAME_BYTES];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                Ok((size, Some(from))) if from.ifindex() == self.uplink => frames.push(frame[..size].to_vec()),
                Ok(_) => {}
                Err(nix::errno::Errno::EAGAIN) => return Wired { frames },
                Err(error) => panic!("capturing: {error}"),
            }
        }
    }
}

impl Wired {
    /// How many frames have this text in them.
    #[must_use]
    pub fn with(&self, text: &str) -> usize {
        let text = text.as_bytes();
        self.frames.iter().filter(|frame| frame.windows(text.len()).any(|at| at == text)).count()
    }

    /// Ports of TCP segments, and addresses, as `source:port > destination:port`, of those that carry something.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        self.frames.iter().filter_map(|frame| segment(frame)).collect()
    }
}

fn segment(frame: &[u8]) -> Option<String> {
    let (source, destination) = addresses(frame)?;
    let (transport, protocol, length) = if source.is_ipv4() {
        let header = usize::from(frame.get(14)? & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
        (14 + header, *frame.get(23)?, total.saturating_sub(header))
    } else {
        let payload = usize::from(u16::from_be_bytes([*frame.get(18)?, *frame.get(19)?]));
        (54, *frame.get(20)?, payload)
    };
    let tcp = frame.get(transport..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    let carries = length > usize::from(tcp.get(12)? >> 4) * 4;
    (protocol == 6 && carries).then_some(())?;
    Some(format!("{source}:{} > {destination}:{}", port(0)?, port(2)?))
}
