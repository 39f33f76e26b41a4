//! One look at all ports of the bridge, and at the links of pods that are none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use nix::sched::{CloneFlags, setns};

use super::{PodLink, PodLinks, PodOptions};
use crate::{
    IfIndex, KernelError,
    error::file,
    netlink::{Link, Netlink},
};

/// Looks once, from the network namespace of the calling thread.
///
/// The links' other ends are told apart by the kernel's ids of namespaces, so that other nodes on
/// the same machine, whose links have the same indices, are never mistaken for this one's. A
/// thread of its own enters the pods' namespaces.
///
/// # Errors
/// Without the bridge, or without the privilege to enter namespaces. Also when file descriptors run out on the way: a pod
/// that could not be looked at is not a pod that has gone.
pub fn scan(options: &PodOptions) -> Result<PodLinks, KernelError> {
    let path = "/proc/thread-self/ns/net";
    let home = File::open(path).map_err(file("opening", path))?;
    scan_from(&home, options)
}

/// As [`scan`], from the namespace of `home`.
pub(super) fn scan_from(home: &File, options: &PodOptions) -> Result<PodLinks, KernelError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("weir-pods".to_owned())
            .spawn_scoped(scope, || Scanner { home, options }.scan())
            .map_err(file("starting a thread for", &options.namespaces))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Scanner<'a> {
    home: &'a File,
    options: &'a PodOptions,
}

impl Scanner<'_> {
    fn scan(&self) -> Result<PodLinks, KernelError> {
        enter(self.home).map_err(file("entering", "the node's network namespace"))?;
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let bridge = links.iter().find(|link| link.name == self.options.bridge);
        let bridge = bridge.ok_or_else(|| KernelError::NoLink(self.options.bridge.clone()))?;
        let ports = || links.iter().filter(|link| link.master == Some(bridge.index));
        let routed = netlink.host_routes()?;
        let beside = || links.iter().filter(|link| link.master.is_none() && routed.contains(&link.index));
        let needed: BTreeSet<i32> = ports().chain(beside()).filter_map(|link| link.peer.map(|(_, id)| id)).collect();
        let namespaces = self.namespaces(&mut netlink, &needed)?;
        let mut found = PodLinks { bridge_mac: bridge.mac, ..PodLinks::default() };
        for port in ports() {
            match self.look_into(port, &namespaces)? {
                Some(pod) => found.pods.push(pod),
                None => found.unresolved.push(port.name.clone()),
            }
        }
        for link in beside() {
            found.beside.extend(self.look_into(link, &namespaces)?);
        }
        found.pods.sort_by_key(|pod| pod.ifindex);
        Ok(found)
    }

    /// The named namespaces among those that are needed, by the id they have here.
    fn namespaces(
        &self,
        netlink: &mut Netlink,
        needed: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, (PathBuf, File)>, KernelError> {
        let directory = &self.options.namespaces;
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            // No namespace was ever named here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(file("listing", directory)(error)),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(file("listing", directory))?.path();
            // A namespace that goes while we look is as good as gone; so is a file that is none.
            let namespace = File::open(&path).map_err(file("opening", &path));
            let Some(namespace) = unless_exhausted(namespace)? else { continue };
            if let Some(Some(id)) = unless_exhausted(id_of(netlink, &namespace))?
                && needed.contains(&id)
            {
                found.entry(id).or_insert((path, namespace));
            }
        }
        Ok(found)
    }

    fn look_into(
        &self,
        port: &Link,
        namespaces: &BTreeMap<i32, (PathBuf, File)>,
    ) -> Result<Option<PodLink>, KernelError> {
        let Some((peer, id)) = port.peer else { return Ok(None) };
        let Some((path, namespace)) = namespaces.get(&id) else { return Ok(None) };
        match addresses(namespace, peer) {
            Ok((netns_cookie, addresses)) => Ok(Some(PodLink {
                ifindex: IfIndex(port.index),
                name: port.name.clone(),
                netns: path.clone(),
                netns_cookie,
                addresses,
            })),
            Err(error) if error.is_exhaustion() => Err(error),
            Err(error) => {
                let path = Path::display(path);
                tracing::debug!(%path, %error, "a pod's namespace could not be looked into");
                Ok(None)
            }
        }
    }
}

/// What there is, or nothing where it cannot be had for a reason of its own.
fn unless_exhausted<T>(result: Result<T, KernelError>) -> Result<Option<T>, KernelError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_exhaustion() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Enters a pod's namespace and stays there: each call enters another, and the thread ends after.
fn addresses(namespace: &File, peer: u32) -> Result<(u64, BTreeSet<IpAddr>), KernelError> {
    enter(namespace).map_err(file("entering", "a pod's network namespace"))?;
    let cookie = namespace_cookie().map_err(file("reading the cookie of", "a network namespace"))?;
    let all = Netlink::open()?.addresses()?;
    let own = all.into_iter().filter(|(index, ip)| *index == peer && is_routable(ip));
    Ok((cookie, own.map(|(_, ip)| ip).collect()))
}

fn is_routable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?)
}

/// Id of a namespace as seen from the socket's; none when nothing connects the two.
fn id_of(netlink: &mut Netlink, namespace: &File) -> Result<Option<i32>, KernelError> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd() as u32));
    let answers = netlink.ask("asking for a namespace's id", RouteNetlinkMessage::GetNsId(message))?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewNsId(message) => message.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        }),
        _ => None,
    }))
}

/// The kernel's number of the calling thread's network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
/// On older kernels.
#[expect(unsafe_code, reason = "no crate here offers this socket option")]
pub fn namespace_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option's value is a u64, whose size the kernel is told and does not exceed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
