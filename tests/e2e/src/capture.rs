//! What arrives at a pod's link, meant for it or not.

use std::io::{self, Read as _};
use std::net::IpAddr;

use socket2::{Domain, Protocol, Socket, Type};
use weir_lab::Layout;

/// `ETH_P_ALL` of `linux/if_ether.h` in network byte order: every frame.
pub(crate) const EVERYTHING: i32 = 0x0003u16.to_be() as i32;
const ETHERNET: usize = 14;

/// Listens at the pod's end of its link, from the moment it is made.
#[derive(Debug)]
pub struct Capture {
    socket: Socket,
    own: Vec<IpAddr>,
}

/// Begins to listen in a pod.
#[track_caller]
#[must_use]
pub fn capture(lab: &Layout, pod: &str) -> Capture {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERYTHING)))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let socket = lab.enter(pod, open).unwrap().unwrap();
    Capture { socket, own: lab.pod(pod).unwrap().ips() }
}

impl Capture {
    /// `source > destination` of IP packets that arrived and were for somebody else. Empties the queue.
    #[track_caller]
    pub fn strangers(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut frame = [0; 256];
        loop {
            match self.socket.read(&mut frame) {
                Ok(size) => found.extend(self.stranger(&frame[..size])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return found,
                Err(error) => panic!("capturing: {error}"),
            }
        }
    }

    fn stranger(&self, frame: &[u8]) -> Option<String> {
        let (source, destination) = addresses(frame)?;
        let concerns = |ip: &IpAddr| ip.is_multicast() || self.own.contains(ip) || is_link_local(ip);
        (!concerns(&source) && !concerns(&destination)).then(|| format!("{source} > {destination}"))
    }
}

pub(crate) fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    let packet = frame.get(ETHERNET..)?;
    let four = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let six = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match kind {
        0x0800 => Some((four(12)?, four(16)?)),
        0x86dd => Some((six(8)?, six(24)?)),
        _ => None,
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(six) if six.is_unicast_link_local() || six.is_unspecified())
}
