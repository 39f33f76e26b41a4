//! Every place crossed with every setting of the node that changes how packets pass it, in both families, over TCP and
//! UDP. One lab is tuned again and again. Before the node starts, the same probes are sent on the bare lab: what fails
//! there would say nothing about Weir.

use std::net::{IpAddr, SocketAddr};

use weir_e2e::{PLAIN, RECOGNITION, Story, server_program};
use weir_lab::server::Mode;
use weir_lab::{DnatRule, PodSpec, Server, ServerSpec, ServicePort, Tuning};

use super::places::{FAR, NAMES, echo, far_server, parsed, service, two_nodes};
use super::{translation, translations};

/// Virtual addresses of a service of the other node that a rule concerns.
const AWAY: [&str; 2] = ["10.96.0.31", "fd96::31"];
/// Virtual addresses of a service whose pod is not on the bridge; a rule concerns it.
const BESIDE: [&str; 2] = ["10.96.0.32", "fd96::32"];
/// Where echoes of datagrams listen.
const ECHO: u16 = 5353;
/// Where the node's own server listens.
const OWN: u16 = 9090;

/// Who brings a probe to its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Nobody needs to: it is the server's own address.
    Straight,
    /// The proxy, or kube-proxy on a node without Weir.
    Proxy,
    /// The kernel when the client connects, or kube-proxy on a node without Weir.
    Balanced,
    /// As before, but kube-proxy does not know the service.
    BalancedAlone,
    /// Kube-proxy alone: the client is not Weir's concern.
    KubeProxy,
}

/// Something that is asked from somewhere, and who shall answer whom.
struct Probe {
    from: &'static str,
    /// A URL, or an address that gets a datagram.
    to: Result<String, SocketAddr>,
    way: Way,
    /// Who answers.
    who: &'static str,
    /// Whom the server sees with Weir.
    seen: IpAddr,
    client: IpAddr,
    /// Whether both ends are ports of the bridge: there kube-proxy translates only what netfilter is shown.
    stays_on_bridge: bool,
}

impl Probe {
    fn ask(&self, story: &Story) -> String {
        match &self.to {
            Ok(url) => {
                let answer = story.curl(self.from, &["--max-time", "3", url]);
                let seen = answer.json()["peer"].as_str().and_then(|peer| peer.parse::<SocketAddr>().ok());
                match seen {
                    Some(peer) => format!("{} from {}", answer.brief(), peer.ip()),
                    None => answer.brief(),
                }
            }
            Err(to) => {
                // The shell connects its socket, as resolvers do.
                let (ip, port) = (to.ip(), to.port());
                let script = format!("exec 3<>/dev/udp/{ip}/{port} && printf hello >&3 && timeout 3 head -n 1 <&3");
                let words = ["bash", "-c", &format!("{{ {script}; }} 2>&1 || true")];
                story.told(self.from, &words).trim().to_owned()
            }
        }
    }

    /// Answer and the address that the server shall see; nothing where nobody may answer.
    fn expected(&self, has_weir: bool, has_kube_proxy: bool, row: Row) -> Option<String> {
        let is_translated = has_kube_proxy && (!self.stays_on_bridge || row.tuning.bridge_nf_call == Some(true));
        let seen = match self.way {
            Way::Straight => self.seen,
            Way::Proxy | Way::Balanced | Way::BalancedAlone if has_weir => self.seen,
            Way::Proxy | Way::Balanced | Way::KubeProxy if is_translated => self.client,
            _ => return None,
        };
        Some(format!("{} from {seen}", self.who))
    }

    /// What is wrong with the answer.
    fn check(&self, story: &Story, has_weir: bool, has_kube_proxy: bool, row: Row) -> Option<String> {
        let expected = self.expected(has_weir, has_kube_proxy, row)?;
        let got = self.ask(story);
        let to = self.to.as_ref().map_or_else(|to| format!("udp://{to}"), String::clone);
        (got != expected).then(|| format!("{row:?}, {} to {to}: {got}, not {expected}", self.from))
    }
}

/// One family's view of the lab.
struct Family {
    index: usize,
    client: IpAddr,
    v1: IpAddr,
    outside: IpAddr,
    routed: IpAddr,
    /// The node's own address on the link of the routed pod.
    hop: IpAddr,
    node: IpAddr,
    uplink: IpAddr,
    remote: IpAddr,
    behind: IpAddr,
}

fn families(story: &Story) -> [Family; 2] {
    let lab = &story.lab;
    let remote = lab.remote().unwrap();
    [0, 1].map(|index| {
        let of = |ips: &[IpAddr]| ips[index];
        let own = |four: std::net::Ipv4Addr, six: Option<std::net::Ipv6Addr>| {
            if index == 0 { IpAddr::from(four) } else { six.unwrap().into() }
        };
        Family {
            index,
            client: of(&lab.pod("client").unwrap().ips()),
            v1: of(&lab.pod("v1").unwrap().ips()),
            outside: of(&lab.pod("outside").unwrap().ips()),
            routed: of(&lab.pod("routed").unwrap().ips()),
            hop: source_towards(story, of(&lab.pod("routed").unwrap().ips())),
            node: own(lab.node().ip4, lab.node().ip6),
            uplink: of(&lab.uplink),
            remote: own(remote.ip4, remote.ip6),
            behind: of(&remote.behind),
        }
    })
}

/// Which of its addresses the node uses towards another.
fn source_towards(story: &Story, ip: IpAddr) -> IpAddr {
    let route = story.told("node", &["ip", "route", "get", &ip.to_string()]);
    let (_, rest) = route.split_once(" src ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

impl Family {
    fn vip(&self, of: [&str; 2]) -> IpAddr {
        parsed(of)[self.index]
    }

    /// All places, as the table of the matrix has them.
    fn probes(&self) -> Vec<Probe> {
        use Way::{Balanced, BalancedAlone, KubeProxy, Proxy, Straight};
        let Self { client, v1, node, uplink, remote, behind, outside, routed, hop, .. } = *self;
        let [far, away, names, beside] = [FAR, AWAY, NAMES, BESIDE].map(|of| self.vip(of));
        let [recognition, plain] = [RECOGNITION, PLAIN].map(|of| self.vip(of));
        let http = [
            ("client", v1, 8080, "200 v1", client, Straight),
            ("client", routed, 8080, "200 routed", client, Straight),
            ("client", behind, 8080, "200 far", client, Straight),
            ("client", node, OWN, "200 own", client, Straight),
            ("client", uplink, OWN, "200 own", client, Straight),
            ("client", recognition, 80, "200 v1", node, Proxy),
            ("client", plain, 80, "200 plain", client, Balanced),
            ("client", beside, 80, "200 routed", hop, Proxy),
            ("client", far, 80, "200 far", client, Balanced),
            ("client", away, 80, "200 far", uplink, Proxy),
            ("node", v1, 8080, "200 v1", node, Straight),
            ("remote", v1, 8080, "200 v1", remote, Straight),
            ("remote", recognition, 80, "200 v1", node, Proxy),
            ("outside", v1, 8080, "200 v1", outside, Straight),
            ("outside", recognition, 80, "200 v1", outside, KubeProxy),
            ("routed", v1, 8080, "200 v1", routed, Straight),
            ("routed", recognition, 80, "200 v1", routed, KubeProxy),
            ("routed", away, 80, "200 far", routed, KubeProxy),
        ];
        let datagrams =
            [(v1, ECHO, Straight), (behind, ECHO, Straight), (node, ECHO, Straight), (names, 53, BalancedAlone)];
        let on_bridge =
            |from: &str, who: &str| ["client", "outside"].contains(&from) && !["200 far", "200 routed"].contains(&who);
        let own = |from: &str| match from {
            "remote" => remote,
            "outside" => outside,
            "routed" => routed,
            _ => client,
        };
        let http = http.map(|(from, ip, port, who, seen, way)| {
            let to = Ok(format!("http://{}/", SocketAddr::new(ip, port)));
            Probe { from, to, way, who, seen, client: own(from), stays_on_bridge: on_bridge(from, who) }
        });
        let datagrams = datagrams.map(|(ip, port, way)| {
            let to = Err(SocketAddr::new(ip, port));
            Probe { from: "client", to, way, who: "hello", seen: client, client, stays_on_bridge: true }
        });
        http.into_iter().chain(datagrams).collect()
    }
}

/// A row of the matrix.
#[derive(Debug, Clone, Copy)]
struct Row {
    tuning: Tuning,
    /// Without, the node knows no way to any virtual address.
    has_default_route: bool,
}

impl Row {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for has_default_route in [true, false] {
            for bridge_nf_call in [false, true] {
                for rp_filter in [0, 1, 2] {
                    for src_valid_mark in [false, true] {
                        let tuning = Tuning {
                            rp_filter: Some(rp_filter),
                            src_valid_mark: Some(src_valid_mark),
                            bridge_nf_call: Some(bridge_nf_call),
                        };
                        all.push(Self { tuning, has_default_route });
                    }
                }
            }
        }
        all
    }

    fn set(&self, story: &Story, families: &[Family]) {
        story.lab.tune(self.tuning).unwrap();
        for family in families {
            let (behind, via) = (family.behind.to_string(), family.remote.to_string());
            let version = if family.index == 0 { "-4" } else { "-6" };
            story.told("node", &["ip", version, "route", "replace", &behind, "via", &via]);
            let default = ["ip", version, "route", "replace", "default", "via", &via];
            let none = ["ip", version, "route", "flush", "default"];
            story.told("node", if self.has_default_route { &default } else { &none });
        }
    }
}

/// The lab with everything that the probes ask, and the node not yet started.
fn prepare() -> (Story, [Server; 2]) {
    let mut terrain = two_nodes();
    terrain.spec.pods.push(PodSpec::new("routed").routed());
    terrain.servers.push(("routed".to_owned(), Mode::Http, "routed".to_owned()));
    terrain.services.push(weir_e2e::service("beside", BESIDE, ServicePort::http(80, 8080), &["routed"]));
    let story = Story::prepare(&terrain.rule("beside", "{services: [beside], timeouts: {request: 9s}}"));
    let behind = story.lab.remote().unwrap().behind.clone();
    let v1 = story.lab.pod("v1").unwrap().ips();
    story.write("far.yaml", &service("far", FAR, (80, 8080, "TCP"), &behind));
    story.write("away.yaml", &service("away", AWAY, (80, 8080, "TCP"), &behind));
    story.write("away-rule.yaml", &weir_e2e::rule("away", "{services: [away], timeouts: {request: 9s}}"));
    story.write("names.yaml", &service("names", NAMES, (53, ECHO, "UDP"), &v1));
    let own = ServerSpec::http(&server_program(), "own", OWN).version("own");
    let servers = [far_server(&story), story.lab.serve("node", &own).unwrap()];
    for family in families(&story) {
        for (place, ip) in [("v1", family.v1), ("remote", family.behind), ("node", family.node)] {
            echo(&story, place, SocketAddr::new(ip, ECHO));
        }
        let (net, via) = (["10.96.0.0/16", "fd96::/64"][family.index], family.uplink.to_string());
        story.told("remote", &["ip", "route", "replace", net, "via", &via]);
    }
    (story, servers)
}

/// What kube-proxy would make of the services. Its imitation has no UDP here, so that the kernel's balancing is seen.
fn all_translations(story: &Story, families: &[Family]) -> Vec<DnatRule> {
    let mut rules = translations(story);
    for family in families {
        for (vips, ip) in [(FAR, family.behind), (AWAY, family.behind), (BESIDE, family.routed)] {
            rules.push(translation(vips[family.index], ip));
        }
    }
    rules
}

/// The same probes in the same rows, without Weir and with it. Tells all deviations at once.
fn run(has_kube_proxy: bool) {
    let (mut story, _servers) = prepare();
    let families = families(&story);
    if has_kube_proxy {
        story.lab.set_kube_proxy(&all_translations(&story, &families)).unwrap();
    }
    let probes: Vec<Probe> = families.iter().flat_map(Family::probes).collect();
    let all = |story: &Story, has_weir: bool, row: Row| -> Vec<String> {
        row.set(story, &families);
        probes.iter().filter_map(|probe| probe.check(story, has_weir, has_kube_proxy, row)).collect()
    };
    let wrong: Vec<String> = Row::all().into_iter().flat_map(|row| all(&story, false, row)).collect();
    assert!(wrong.is_empty(), "the lab itself is broken:\n{}", wrong.join("\n"));
    story.start();
    let proxied = probes.iter().filter(|probe| probe.way == Way::Proxy).count() as u64;
    let mut wrong = Vec::new();
    for row in Row::all() {
        let before = story.admin.connections("accepted");
        wrong.extend(all(&story, true, row));
        let came = story.admin.connections("accepted") - before;
        if came != proxied {
            wrong.push(format!("{row:?}: {came} connections came to the proxy, not {proxied}"));
        }
    }
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_place_under_every_setting() {
    run(false);
}

#[test]
fn every_place_under_every_setting_beside_kube_proxy() {
    run(true);
}
