//! A small node in network namespaces: a bridge, three pods, and what is needed to talk.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};
use weir_kernel::{
    Answer, Desired, Ends, IfIndex, Kernel, KernelSettings, MARK_PROXY, PodEntry, Policy, Prefix, Reason, Verdict,
};

/// How long anything may take that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what is expected not to happen: longer than a SYN's first retransmit.
pub(crate) const REFUSAL: Duration = Duration::from_millis(1500);

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error} (are you root, with iproute2 and nft?)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs in a network namespace, on a thread of its own.
pub(crate) fn inside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = File::open(format!("/run/netns/{name}")).expect("the namespace exists");
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("entering a namespace needs root");
        work()
    })
}

/// A node with the pods a, b and c. Everything is removed when it is dropped.
pub(crate) struct Lab {
    id: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        weir_lab::remove_on_signals(remove_own);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lab = Self { id: format!("{}{number}", prefix()) };
        let node = lab.node();
        run(&format!(
            "ip netns add {node} && cd / && ip -n {node} link set lo up &&
             ip -n {node} link add cni0 type bridge && ip -n {node} link set cni0 up &&
             ip -n {node} addr add 10.77.0.1/24 dev cni0 && ip -n {node} addr add fd77::1/64 dev cni0 nodad &&
             nsenter --net=/run/netns/{node} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        ));
        for (index, pod) in ["a", "b", "c"].iter().enumerate() {
            lab.add_pod(pod, index as u8 + 11);
        }
        lab
    }

    pub(crate) fn add_pod(&self, pod: &str, host: u8) {
        let (node, ns) = (self.node(), self.pod(pod));
        run(&format!(
            "ip netns add {ns} &&
             ip -n {node} link add v{pod} type veth peer name eth0 netns {ns} &&
             ip -n {node} link set v{pod} master cni0 up && ip -n {ns} link set lo up &&
             ip -n {ns} link set eth0 up && ip -n {ns} addr add 10.77.0.{host}/24 dev eth0 &&
             ip -n {ns} addr add fd77::{host}/64 dev eth0 nodad &&
             ip -n {ns} route add default via 10.77.0.1 && ip -n {ns} -6 route add default via fd77::1"
        ));
    }

    pub(crate) fn node(&self) -> String {
        format!("{}-node", self.id)
    }

    pub(crate) fn pod(&self, pod: &str) -> String {
        format!("{}-{pod}", self.id)
    }

    pub(crate) fn ifindex(&self, link: &str) -> u32 {
        let line = run(&format!("ip -n {} -o link show {link}", self.node()));
        line.split(':').next().and_then(|n| n.trim().parse().ok()).expect("a link has an index")
    }

    pub(crate) fn settings(&self) -> KernelSettings {
        KernelSettings::new(self.id.clone(), "cni0")
    }

    /// All three pods, without services.
    pub(crate) fn desired(&self) -> Desired {
        let mut desired = Desired::default();
        for (number, pod) in (11u8..).zip(["a", "b", "c"]) {
            let entry = self.entry(number, pod);
            for address in &entry.addresses {
                let ends = Ends { source: u32::from(number), ..Ends::default() };
                desired.places.insert(only(*address), ends);
            }
            desired.pods.insert(IfIndex(self.ifindex(&format!("v{pod}"))), entry);
        }
        desired
    }

    /// Gives a pod a guard of its own number, that answers this to whatever it is not asked in particular.
    pub(crate) fn guard(&self, desired: &mut Desired, number: u8, answer: Verdict) {
        let guard = u32::from(number);
        for ends in desired.places.values_mut().filter(|ends| ends.source == guard) {
            ends.guard = guard;
        }
        let own = ip(&format!("10.77.0.{number}"));
        for pod in desired.pods.values_mut().filter(|pod| pod.addresses.contains(&own)) {
            pod.guard = guard;
        }
        desired.policies.insert(Policy { source: None, guard, port: None }, Answer { verdict: answer, rule: guard });
    }

    pub(crate) fn entry(&self, number: u8, pod: &str) -> PodEntry {
        PodEntry {
            addresses: [ip(&format!("10.77.0.{number}")), ip(&format!("fd77::{number}"))].into(),
            guard: 0,
            mtls: 0,
            netns_cookie: Some(self.cookie(pod)),
            fail_mode: None,
        }
    }

    pub(crate) fn cookie(&self, pod: &str) -> u64 {
        inside(&self.pod(pod), weir_kernel::pods::namespace_cookie).join().expect("no panic").expect("Linux 5.14")
    }

    /// Work in the node's namespace.
    pub(crate) fn on_node<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        inside(&self.node(), work).join().expect("no panic on the node")
    }

    pub(crate) fn load(&self, settings: &KernelSettings) -> Kernel {
        let settings = settings.clone();
        self.on_node(move || Kernel::load(&settings).expect("loads; the error names what to check"))
    }

    /// Work on the kernel, in the node's namespace.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        kernel: Kernel,
        work: impl FnOnce(&mut Kernel) -> T + Send + 'static,
    ) -> (Kernel, T) {
        self.on_node(move || {
            let mut kernel = kernel;
            let result = work(&mut kernel);
            (kernel, result)
        })
    }

    /// What a TCP server says to a client in a pod.
    pub(crate) fn ask(&self, pod: &str, to: &str, patience: Duration) -> io::Result<String> {
        let to: SocketAddr = to.parse().expect("an address");
        inside(&self.pod(pod), move || ask(to, patience)).join().expect("no panic")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.id);
    }
}

/// What every name of a lab begins with that this process makes.
fn prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

const PREFIX: &str = "weirk-";

/// Removes what this process has made.
fn remove_own() {
    let own = prefix();
    ids().iter().filter(|id| id.starts_with(&own)).for_each(|id| remove(id));
}

/// Removes what tests of killed processes left.
fn sweep() {
    let owner = |id: &str| id.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok();
    let is_dead = |id: &&String| owner(id).is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists());
    ids().iter().filter(is_dead).for_each(|id| remove(id));
}

/// The labs of which there is anything.
fn ids() -> std::collections::BTreeSet<String> {
    let folders = ["/run/netns".to_owned(), "/sys/fs/bpf/weir".to_owned(), cgroup_root()];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(PREFIX))
        .map(|name| name.split('-').take(3).collect::<Vec<_>>().join("-"))
        .collect()
}

fn remove(id: &str) {
    // Pins first: links in namespaces that are gone would stay as dead files.
    let _ = std::fs::remove_dir_all(format!("/sys/fs/bpf/weir/{id}"));
    let _ = std::fs::remove_dir("/sys/fs/bpf/weir");
    let list = Command::new("ip").args(["netns", "list"]).output();
    let names = list.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    for name in names.split_whitespace().filter(|name| name.starts_with(&format!("{id}-"))) {
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
    remove_cgroup(&std::path::Path::new(&cgroup_root()).join(id));
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn ask(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Greets every client with its name and both addresses, until the process ends or it is closed.
pub(crate) struct Greeter {
    listener: TcpListener,
}

impl Greeter {
    pub(crate) fn server(lab: &Lab, pod: &str, address: &str) -> Self {
        let bind: SocketAddr = address.parse().expect("an address");
        let name = format!("server-{pod}");
        let listener = inside(&lab.pod(pod), move || TcpListener::bind(bind).expect("a free port"));
        Self::start(listener.join().expect("no panic"), name)
    }

    /// A transparent listener in the node's namespace, as the proxy's is.
    pub(crate) fn proxy(lab: &Lab, address: &str) -> Self {
        let bind: SocketAddr = address.parse().expect("an address");
        let listener = lab.on_node(move || transparent(bind).expect("root"));
        Self::start(listener, "proxy".to_owned())
    }

    fn start(listener: TcpListener, name: String) -> Self {
        let accepting = listener.try_clone().expect("a descriptor is free");
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = accepting.accept() {
                let local = stream.local_addr().expect("connected");
                let _ = write!(stream, "{name} {local} {peer}");
            }
        });
        Self { listener }
    }

    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Closes the listening socket: `shutdown` wakes the thread, which drops its copy.
    pub(crate) fn close(self) {
        let socket = socket2::SockRef::from(&self.listener);
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

pub(crate) fn transparent(bind: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(bind);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_mark(MARK_PROXY)?;
    if bind.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        // IPV6_TRANSPARENT; IP_TRANSPARENT on the same socket sets the same flag.
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&bind.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

pub(crate) fn count(kernel: &Kernel, reason: Reason) -> u64 {
    let counters = kernel.counters().expect("readable");
    counters.iter().find(|(r, _)| *r == reason).map_or(0, |(_, count)| count.packets)
}

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A cgroup for the processes of pods, removed when it is dropped.
pub(crate) struct Cgroup {
    path: std::path::PathBuf,
}

impl Cgroup {
    pub(crate) fn new(lab: &Lab) -> Self {
        let path = std::path::Path::new(&cgroup_root()).join(&lab.id);
        std::fs::create_dir(&path).expect("root may make cgroups");
        Self { path }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// What a script prints that runs in this cgroup and in a pod's namespace; else its errors.
    pub(crate) fn bash(&self, pod: &str, script: &str) -> Result<String, String> {
        let command = format!(
            "echo $$ > {}/cgroup.procs && exec nsenter --net=/run/netns/{pod} timeout 30 bash -c '{script}'",
            self.path.display()
        );
        let output = Command::new("sh").args(["-c", &command]).output().expect("sh starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_cgroup(&self.path);
    }
}

fn cgroup_root() -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("readable");
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = lines.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| fields[1].to_owned());
    root.expect("a cgroup2 mount; mount one at /sys/fs/cgroup/unified")
}

fn remove_cgroup(path: &std::path::Path) {
    // Missing when the group is; what is killed may stay in it for a moment.
    let _ = std::fs::write(path.join("cgroup.kill"), "1");
    for _ in 0..100 {
        if !path.exists() || std::fs::remove_dir(path).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends back what it gets.
pub(crate) struct Echo;

impl Echo {
    pub(crate) fn start(lab: &Lab, pod: &str, address: &str) -> Self {
        let bind: SocketAddr = address.parse().expect("an address");
        let listener = inside(&lab.pod(pod), move || TcpListener::bind(bind).expect("a free port"));
        let listener = listener.join().expect("no panic");
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut copy = stream.try_clone().expect("a descriptor is free");
                thread::spawn(move || io::copy(&mut stream, &mut copy));
            }
        });
        Self
    }
}

/// Sends, and expects the same back.
pub(crate) fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.set_read_timeout(Some(PATIENCE)).expect("valid");
    stream.write_all(text).expect("writes");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("answers");
    assert_eq!(answer, text);
}

/// Takes a connection away without telling the other end (`TCP_REPAIR`), as when its machine died.
#[expect(unsafe_code, reason = "no crate here offers this socket option")]
pub(crate) fn vanish(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, whose size the kernel is told.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A block of one address.
pub(crate) fn only(ip: IpAddr) -> Prefix {
    Prefix { ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
}

/// What is asked when one pod connects to another, or to a port of it.
pub(crate) fn asked(from: u32, to: u32, port: Option<(weir_kernel::Protocol, u16)>) -> Policy {
    Policy { source: Some(from), guard: to, port }
}

/// An answer by no rule.
pub(crate) fn says(verdict: Verdict) -> Answer {
    Answer { verdict, rule: 0 }
}
