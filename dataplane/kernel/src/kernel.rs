//! The node's kernel side as one object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use weir_ebpf_common::{ABI_VERSION, Config, Count, Reason, maps as names};

use crate::{
    Applied, Desired, Events, FailMode, KernelError, KernelSettings, Slot, apply,
    bpffs::Directory,
    error::file,
    events::Tracing,
    host::{self, Topology},
    links::{Ensured, Links, Target},
    maps::Maps,
    netlink::Netlink,
    notrack,
    object::{self, Programs},
    plan::{self, State, plan},
    raw::Raw,
    sys::AttachType,
};

/// The loaded programs, their maps, and what the node's network has for them.
///
/// Dropping it changes nothing: programs stay attached and maps keep their contents, so that the
/// node is protected until the next process takes over. [`Kernel::detach`] removes everything.
pub struct Kernel {
    settings: KernelSettings,
    directory: Directory,
    links: Links,
    programs: Programs,
    maps: Maps,
    topology: Topology,
    logger: Option<EbpfLogger<Tracing>>,
    last: Option<State>,
    // Owns the maps that only programs use.
    _object: Ebpf,
}

impl Kernel {
    /// Loads the programs in the network namespace of the calling thread.
    ///
    /// What an earlier process of this node left is taken over: maps with their contents, links
    /// with their programs replaced without a gap. What other ABI versions left stays until
    /// [`Kernel::remove_other_versions`].
    ///
    /// # Errors
    /// Without root, on kernels before 6.6, without the bridge or an uplink.
    pub fn load(settings: &KernelSettings) -> Result<Self, KernelError> {
        let mut netlink = Netlink::open()?;
        let topology = Topology::read(&mut netlink, settings)?;
        let directory = Directory::open(settings)?;
        let (mut object, programs) = object::load(&directory.maps(), settings.log_level)?;
        let logger = EbpfLogger::init_with_logger(&mut object, Tracing).ok();
        let mut kernel = Self {
            settings: settings.clone(),
            links: Links::new(directory.links()),
            maps: Maps::take(&mut object)?,
            directory,
            programs,
            topology,
            logger,
            last: None,
            _object: object,
        };
        kernel.write_config()?;
        kernel.write_steer_interfaces()?;
        host::ensure(&mut netlink, &kernel.topology)?;
        notrack::set(settings)?;
        kernel.attach_node()?;
        kernel.take_over_pods()?;
        Ok(kernel)
    }

    /// Removes what other ABI versions of this node left. To be called when this version has its
    /// pods and its listener: until then the other's programs do the work.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn remove_other_versions(&self) -> Result<(), KernelError> {
        self.directory.remove_other_versions()
    }

    /// Gives a listening socket to the programs. It must be transparent (`IP_TRANSPARENT`) and
    /// have [`MARK_PROXY`](crate::MARK_PROXY) as its `SO_MARK`; the slot empties by itself when
    /// the socket closes. Replacing one is atomic, and its connections stay with it. Of sockets
    /// that share a port (`SO_REUSEPORT`) one is enough: the kernel spreads over all.
    ///
    /// # Errors
    /// When the socket is not a listening TCP socket.
    pub fn set_listener(&mut self, slot: Slot, socket: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.maps
            .listen
            .set(slot.index(), &socket, 0)
            .map_err(|source| KernelError::Map { name: names::LISTEN, source })
    }

    /// Takes the listener out: from now on the fail mode applies to new flows.
    ///
    /// # Errors
    /// When the kernel refuses; an empty slot is no error.
    pub fn clear_listener(&mut self, slot: Slot) -> Result<(), KernelError> {
        use aya::maps::MapError;
        match self.maps.listen.clear_index(&slot.index()) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(call))
                if matches!(call.io_error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) =>
            {
                Ok(())
            }
            Err(source) => Err(KernelError::Map { name: names::LISTEN, source }),
        }
    }

    /// Brings maps and links from whatever they are to `desired`. Calling it again with the same
    /// changes nothing but repairs what others changed. Rules, routes and what is known of the
    /// bridge are [`Kernel::refresh`]'s.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] before anything was changed; others may leave a part done, which
    /// the next application completes.
    pub fn apply(&mut self, desired: &Desired) -> Result<Applied, KernelError> {
        let before = self.maps.state()?;
        let drifted = usize::from(self.last.as_ref().is_some_and(|last| *last != before));
        let desired = plan::with_addresses(desired, &self.topology.addresses);
        let plan = plan(&before, &desired, self.settings.fail_mode).map_err(KernelError::Invalid)?;
        let mut applied = apply::summary(&plan);
        apply::add(&mut self.maps, &plan)?;
        let wanted = desired.pods.keys().map(|index| index.0).collect();
        (applied.attached, applied.detached) = self.attach_pods(&wanted)?;
        apply::remove(&mut self.maps, &plan, &before)?;
        if plan.changes_policy() {
            let known: BTreeSet<u32> = desired.policies.values().map(|answer| answer.rule).collect();
            self.maps.forget_rules(|rule| known.contains(&rule))?;
        }
        self.last = Some(self.maps.state()?);
        applied.drifted = drifted;
        Ok(applied)
    }

    /// Reads the bridge, the uplinks and the node's addresses again, and restores rules, routes and
    /// the table against connection tracking. Returns how much had to be restored. To be called now
    /// and then, and when the pod watch says that the bridge changed; it asks the kernel a dozen
    /// questions and starts a program, so not for every change of services.
    ///
    /// # Errors
    /// When the bridge or an uplink is gone.
    pub fn refresh(&mut self) -> Result<usize, KernelError> {
        let mut netlink = Netlink::open()?;
        let topology = Topology::read(&mut netlink, &self.settings)?;
        let mut changed = host::ensure(&mut netlink, &topology)?;
        let moved = topology.bridge != self.topology.bridge || topology.uplinks != self.topology.uplinks;
        self.topology = topology;
        if moved {
            self.write_config()?;
            self.write_steer_interfaces()?;
            self.attach_node()?;
            changed += 1;
        }
        changed += usize::from(notrack::restore(&self.settings)?);
        Ok(changed)
    }

    /// Packets and bytes per reason since the maps were made, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Reason, Count)>, KernelError> {
        self.maps.counts()
    }

    /// The greatest number that stands for a source, a guard or a rule now, also of an earlier process: it must not come to mean
    /// another while it does.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn last_number(&self) -> Result<u32, KernelError> {
        self.maps.last_number()
    }

    /// Packets and bytes that rules have denied or told of, by the rules' numbers.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn rule_counters(&self) -> Result<BTreeMap<u32, Count>, KernelError> {
        self.maps.rule_counts()
    }

    /// The stream of drop records and log lines; the second call gives nothing. What happened
    /// while no process ran is in it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Without a runtime that has its I/O driver on.
    pub fn take_events(&mut self) -> io::Result<Option<Events>> {
        match (self.maps.events.take(), self.logger.take()) {
            (Some(records), Some(lines)) => Events::new(records, lines).map(Some),
            _ => Ok(None),
        }
    }

    /// Removes every link, pin, rule, route and table of this node. Connections that the proxy
    /// holds lose their way; flows that went straight on are not touched.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is tried all the same.
    pub fn detach(self) -> Result<(), KernelError> {
        let pins = self.directory.remove();
        let network = Netlink::open().and_then(|mut netlink| host::remove(&mut netlink));
        let table = notrack::remove();
        pins.and(network).and(table)
    }

    fn write_config(&mut self) -> Result<(), KernelError> {
        let before = self.maps.config()?;
        let mut flags = before.flags & !Config::FAIL_OPEN;
        if self.settings.fail_mode == FailMode::Open {
            flags |= Config::FAIL_OPEN;
        }
        self.maps.set_config(Config {
            abi: ABI_VERSION,
            flags,
            bridge_mac: self.topology.bridge_mac,
            zero: [0; 2],
            events_per_second: self.settings.events_per_second,
            generation: before.generation,
        })
    }

    fn write_steer_interfaces(&mut self) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { name: names::STEER_INTERFACES, source };
        let wanted: BTreeSet<u32> = self.topology.steering().map(|link| link.index).collect();
        for link in self.topology.steering() {
            let header = if link.is_ethernet { 14 } else { 0 };
            self.maps.steer_interfaces.insert(Raw(link.index), Raw(header), 0).map_err(failed)?;
        }
        let present: Vec<_> = self.maps.steer_interfaces.keys().collect::<Result<_, _>>().map_err(failed)?;
        for key in present.into_iter().filter(|key| !wanted.contains(&key.0)) {
            self.maps.steer_interfaces.remove(&key).map_err(failed)?;
        }
        Ok(())
    }

    /// Programs that are not a pod's: socket lookup, uplinks, connect hooks.
    fn attach_node(&self) -> Result<(), KernelError> {
        // The calling thread's namespace, which need not be the process's.
        let path = "/proc/thread-self/ns/net";
        let namespace = File::open(path).map_err(file("opening", path))?;
        self.links.ensure("pick", self.programs.pick.as_fd(), &Target::Namespace(namespace))?;
        let mut wanted = BTreeSet::new();
        for uplink in &self.topology.uplinks {
            let name = format!("uplink-{}", uplink.index);
            let target = Target::Interface(uplink.index, AttachType::TcxIngress);
            self.links.ensure(&name, self.programs.from_net.as_fd(), &target)?;
            wanted.insert(name);
        }
        for name in self.links.names()?.iter().filter(|name| name.starts_with("uplink-")) {
            if !wanted.contains(name) {
                self.links.remove(name)?;
            }
        }
        self.attach_connect()
    }

    fn attach_connect(&self) -> Result<(), KernelError> {
        for (name, program, kind) in [
            ("connect4", &self.programs.connect4, AttachType::Connect4),
            ("connect6", &self.programs.connect6, AttachType::Connect6),
        ] {
            match &self.settings.cgroup {
                Some(path) => {
                    let cgroup = File::open(path).map_err(file("opening the cgroup", path))?;
                    self.links.ensure(name, program.as_fd(), &Target::Cgroup(cgroup, kind))?;
                }
                None => drop(self.links.remove(name)?),
            }
        }
        Ok(())
    }

    /// Replaces the programs on the links of an earlier process, and collects pins whose link died.
    fn take_over_pods(&self) -> Result<(), KernelError> {
        for name in self.links.names()? {
            let Some((index, kind)) = parse_pod_link(&name) else { continue };
            let target = Target::Interface(index, kind);
            if self.links.is_alive(&name, &target) {
                self.links.ensure(&name, self.pod_program(kind), &target)?;
            } else {
                self.links.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Attaches to the wanted links, and nowhere else. Returns how many were attached and detached.
    fn attach_pods(&self, wanted: &BTreeSet<u32>) -> Result<(usize, usize), KernelError> {
        let (mut attached, mut detached) = (0, 0);
        let mut present = BTreeSet::new();
        for name in self.links.names()? {
            let Some((index, kind)) = parse_pod_link(&name) else { continue };
            let is_alive = self.links.is_alive(&name, &Target::Interface(index, kind));
            if wanted.contains(&index) && is_alive {
                present.insert(name);
            } else if self.links.remove(&name)? {
                detached += 1;
            }
        }
        for index in wanted {
            // The guard first: when the pod's own packets are judged, what reaches it is too.
            for kind in [AttachType::TcxEgress, AttachType::TcxIngress] {
                let name = pod_link(*index, kind);
                if present.contains(&name) {
                    continue;
                }
                match self.links.ensure(&name, self.pod_program(kind), &Target::Interface(*index, kind)) {
                    Ok(Ensured::Attached | Ensured::Replaced) => attached += 1,
                    // The pod went meanwhile; the caller learns of it by its own watch.
                    Err(KernelError::Link { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {
                        tracing::debug!(ifindex = index, "the link went before it was attached to");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((attached, detached))
    }

    fn pod_program(&self, kind: AttachType) -> BorrowedFd<'_> {
        match kind {
            AttachType::TcxEgress => self.programs.to_pod.as_fd(),
            _ => self.programs.from_pod.as_fd(),
        }
    }
}

fn pod_link(index: u32, kind: AttachType) -> String {
    let direction = if kind == AttachType::TcxEgress { "to" } else { "from" };
    format!("pod-{index}-{direction}")
}

fn parse_pod_link(name: &str) -> Option<(u32, AttachType)> {
    let (index, direction) = name.strip_prefix("pod-")?.split_once('-')?;
    let kind = match direction {
        "to" => AttachType::TcxEgress,
        "from" => AttachType::TcxIngress,
        _ => return None,
    };
    Some((index.parse().ok()?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_read_back() {
        for kind in [AttachType::TcxEgress, AttachType::TcxIngress] {
            assert_eq!(parse_pod_link(&pod_link(42, kind)), Some((42, kind)));
        }
        for name in ["pick", "pod-x-to", "pod-1-other", "uplink-1"] {
            assert_eq!(parse_pod_link(name), None, "{name}");
        }
    }
}
