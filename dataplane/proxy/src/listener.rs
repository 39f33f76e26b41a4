//! Listening sockets: one for each worker and address, all of an address in one `SO_REUSEPORT` group.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use weir_core::gateway::Bind;
use weir_core::name::ClusterName;

use crate::error::BindError;
use crate::socket::SocketOptions;

/// Connections that wait to be accepted; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Where the connections of a listener were meant to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// They were intercepted: the local address of each is what its client meant.
    Transparent,
    /// All of them are for one service.
    Service(ClusterName),
    /// They come from outside, to gateways.
    Gateway(Bind),
}

/// A listening socket of one worker.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) origin: Origin,
}

/// Makes the listeners of one address, one for each worker.
pub(crate) fn group(
    address: SocketAddr,
    origin: &Origin,
    options: &SocketOptions,
    workers: usize,
) -> Result<Vec<Listener>, BindError> {
    let mut address = address;
    let mut group = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = listen(address, *origin == Origin::Transparent, options)
            .map_err(|(step, source)| BindError::Listen { address, step, source })?;
        // The first takes the port, the others join it.
        address = socket.local_addr().map_err(|source| BindError::Listen { address, step: "address", source })?;
        group.push(Listener { socket, origin: origin.clone() });
    }
    Ok(group)
}

/// The address of a transparent listener. It only has to exist: the kernel hands connections over by socket, not by
/// address, and on loopback nobody else reaches it.
pub(crate) fn transparent_address(domain: Domain) -> SocketAddr {
    if domain == Domain::IPV6 { (Ipv6Addr::LOCALHOST, 0).into() } else { (Ipv4Addr::LOCALHOST, 0).into() }
}

fn listen(
    address: SocketAddr,
    transparent: bool,
    options: &SocketOptions,
) -> Result<TcpListener, (&'static str, io::Error)> {
    let at = |step| move |error| (step, error);
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(at("socket"))?;
    socket.set_nonblocking(true).map_err(at("nonblocking"))?;
    socket.set_reuse_address(true).map_err(at("SO_REUSEADDR"))?;
    socket.set_reuse_port(true).map_err(at("SO_REUSEPORT"))?;
    options.apply(&socket)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true).map_err(at("IPV6_V6ONLY"))?;
    }
    if transparent {
        let set = if domain == Domain::IPV6 { Socket::set_ip_transparent_v6 } else { Socket::set_ip_transparent_v4 };
        set(&socket, true).map_err(at("IP_TRANSPARENT"))?;
    }
    socket.bind(&address.into()).map_err(at("bind"))?;
    socket.listen(BACKLOG).map_err(at("listen"))?;
    Ok(socket.into())
}

/// The addresses on which the proxy itself listens, which it must never connect to.
#[derive(Debug, Default)]
pub(crate) struct OwnAddresses {
    lasting: Vec<SocketAddr>,
    of_gateways: ArcSwap<Vec<SocketAddr>>,
}

impl OwnAddresses {
    pub(crate) fn new(lasting: Vec<SocketAddr>) -> Self {
        Self { lasting, of_gateways: ArcSwap::default() }
    }

    /// The addresses that gateways listen at, from now on.
    pub(crate) fn set_gateways(&self, addresses: Vec<SocketAddr>) {
        self.of_gateways.store(Arc::new(addresses));
    }

    /// Whether a connection to this address would come back here. For a listener on all addresses every loopback
    /// address counts; that the others of this host are meant cannot be seen from the address alone.
    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        self.lasting.iter().chain(&**self.of_gateways.load()).any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip() || (own.ip().is_unspecified() && address.ip().is_loopback()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn options() -> SocketOptions {
        SocketOptions::new(&Settings { mark: 0, ..Settings::default() })
    }

    fn service() -> Origin {
        Origin::Service(ClusterName { service: weir_core::name::ServiceName::new("a", "b"), port: 80 })
    }

    #[test]
    fn a_group_shares_one_port() {
        let group = group("127.0.0.1:0".parse().unwrap(), &service(), &options(), 3).unwrap();
        let ports: Vec<u16> = group.iter().map(|one| one.socket.local_addr().unwrap().port()).collect();
        assert!(ports.len() == 3 && ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn accepted_connections_are_set_as_their_listener_is() {
        let settings = Settings::default();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let group = group(address.parse().unwrap(), &service(), &options(), 1).unwrap();
            let _client = std::net::TcpStream::connect(group[0].socket.local_addr().unwrap()).unwrap();
            group[0].socket.set_nonblocking(false).unwrap();
            let accepted = Socket::from(group[0].socket.accept().unwrap().0);
            assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), settings.upstream.probe_after);
            assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(settings.upstream.user_timeout));
        }
    }

    #[test]
    fn own_addresses_are_recognised() {
        let own = OwnAddresses::new(vec!["0.0.0.0:80".parse().unwrap()]);
        own.set_gateways(vec!["10.0.0.1:81".parse().unwrap()]);
        for (address, expected) in [
            ("127.0.0.1:80", true),
            ("10.0.0.1:81", true),
            ("10.0.0.2:81", false),
            ("10.0.0.1:80", false),
            ("127.0.0.1:81", false),
        ] {
            assert_eq!(own.contains(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn an_address_of_another_host_is_an_error_that_says_where() {
        let error = group("192.0.2.1:80".parse().unwrap(), &service(), &options(), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:80"), "{error}");
    }
}
