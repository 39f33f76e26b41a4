//! Every place crossed with every setting of the node that changes how packets pass it, in both families, over TCP and
//! UDP. One lab is tuned again and again. Before the node starts, the same probes are sent on the bare lab: what fails
//! there would say nothing about Weir.

use std::net::{IpAddr, SocketAddr};

use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain, server_program};
use weir_lab::{DnatRule, Protocol, Server, ServerSpec, Tuning};

use super::places::{FAR, NAMES, echo, far_server, parsed, service, two_nodes};

/// Virtual addresses of a service of the other node that a rule concerns.
const AWAY: [&str; 2] = ["10.96.0.31", "fd96::31"];
/// Where echoes of datagrams listen.
const ECHO: u16 = 5353;
/// Where the node's own server listens.
const OWN: u16 = 9090;

/// What serves a probe where no program of Weir is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alone {
    /// The addresses themselves.
    Served,
    /// Kube-proxy, where there is one.
    KubeProxy,
    /// Nobody.
    Nobody,
}

/// Something that is asked from somewhere, and who shall answer whom.
struct Probe {
    from: &'static str,
    /// A URL, or an address that gets a datagram.
    to: Result<String, SocketAddr>,
    /// `<who answers> from <whom it sees>`.
    expected: String,
    alone: Alone,
    /// Whom the server sees where kube-proxy serves: the client.
    client: IpAddr,
    is_proxied: bool,
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

    fn name(&self) -> String {
        let to = self.to.as_ref().map_or_else(|to| format!("udp://{to}"), String::clone);
        format!("{} to {to}", self.from)
    }

    /// What is expected where only kube-proxy is, or not even that; nothing where it must fail.
    fn expected_alone(&self, has_kube_proxy: bool) -> Option<String> {
        match self.alone {
            Alone::Served => Some(self.expected.clone()),
            Alone::KubeProxy if has_kube_proxy => {
                let who = self.expected.split(" from ").next().unwrap_or_default();
                Some(format!("{who} from {}", self.client))
            }
            Alone::KubeProxy | Alone::Nobody => None,
        }
    }
}

/// One family's view of the lab.
struct Family {
    index: usize,
    client: IpAddr,
    v1: IpAddr,
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
            node: own(lab.node().ip4, lab.node().ip6),
            uplink: of(&lab.uplink),
            remote: own(remote.ip4, remote.ip6),
            behind: of(&remote.behind),
        }
    })
}

impl Family {
    fn vip(&self, of: [&str; 2]) -> IpAddr {
        parsed(of)[self.index]
    }

    /// All places, as the table of the matrix has them.
    fn probes(&self) -> Vec<Probe> {
        use Alone::{KubeProxy, Nobody, Served};
        let Self { client, v1, node, uplink, remote, behind, .. } = *self;
        let [far, away, names] = [FAR, AWAY, NAMES].map(|of| self.vip(of));
        let [recognition, plain] = [RECOGNITION, PLAIN].map(|of| self.vip(of));
        let http = [
            ("client", v1, 8080, "200 v1", client, Served),
            ("client", behind, 8080, "200 far", client, Served),
            ("client", node, OWN, "200 own", client, Served),
            ("client", uplink, OWN, "200 own", client, Served),
            ("client", recognition, 80, "200 v1", node, KubeProxy),
            ("client", plain, 80, "200 plain", client, KubeProxy),
            ("client", far, 80, "200 far", client, KubeProxy),
            ("client", away, 80, "200 far", uplink, KubeProxy),
            ("node", v1, 8080, "200 v1", node, Served),
            ("remote", v1, 8080, "200 v1", remote, Served),
            ("remote", recognition, 80, "200 v1", node, KubeProxy),
        ];
        let datagrams = [
            (v1, ECHO, client, Served),
            (behind, ECHO, client, Served),
            (node, ECHO, client, Served),
            (names, 53, client, Nobody),
        ];
        let mut probes = Vec::new();
        for (from, ip, port, who, seen, alone) in http {
            probes.push(Probe {
                from,
                to: Ok(format!("http://{}/", SocketAddr::new(ip, port))),
                expected: format!("{who} from {seen}"),
                alone,
                client: if from == "remote" { remote } else { client },
                is_proxied: [recognition, away].contains(&ip),
            });
        }
        for (ip, port, seen, alone) in datagrams {
            let (to, expected) = (Err(SocketAddr::new(ip, port)), format!("hello from {seen}"));
            probes.push(Probe { from: "client", to, expected, alone, client, is_proxied: false });
        }
        probes
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
fn prepare(terrain: &Terrain) -> (Story, [Server; 2]) {
    let story = Story::prepare(terrain);
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

/// What kube-proxy would make of the services. Its imitation has no UDP, so that the kernel's balancing is seen.
fn translations(story: &Story) -> Vec<DnatRule> {
    let all = families(story);
    let mut rules = Vec::new();
    for family in &all {
        let plain = story.lab.pod("plain").unwrap().ips()[family.index];
        for (of, endpoint) in [(RECOGNITION, family.v1), (PLAIN, plain), (FAR, family.behind), (AWAY, family.behind)] {
            rules.push(DnatRule {
                vip: SocketAddr::new(family.vip(of), 80),
                protocol: Protocol::Tcp,
                endpoints: vec![SocketAddr::new(endpoint, 8080)],
            });
        }
    }
    rules
}

/// All that deviates, told at once.
fn run(has_kube_proxy: bool) {
    let (mut story, servers) = prepare(&two_nodes());
    let families = families(&story);
    if has_kube_proxy {
        story.lab.set_kube_proxy(&translations(&story)).unwrap();
    }
    let probes: Vec<Probe> = families.iter().flat_map(Family::probes).collect();
    let mut wrong = Vec::new();
    for row in Row::all() {
        row.set(&story, &families);
        // Between ports of one bridge kube-proxy translates only what netfilter sees.
        let is_translated = has_kube_proxy && row.tuning.bridge_nf_call == Some(true);
        for probe in &probes {
            let Some(expected) = probe.expected_alone(is_translated) else { continue };
            let got = probe.ask(&story);
            if got != expected {
                wrong.push(format!("without Weir, {row:?}, {}: {got}, not {expected}", probe.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "the lab itself is broken:\n{}", wrong.join("\n"));
    story.start();
    for row in Row::all() {
        row.set(&story, &families);
        let accepted = story.admin.connections("accepted");
        for probe in &probes {
            let got = probe.ask(&story);
            if got != probe.expected {
                wrong.push(format!("{row:?}, {}: {got}, not {}", probe.name(), probe.expected));
            }
        }
        let proxied = probes.iter().filter(|probe| probe.is_proxied).count() as u64;
        let came = story.admin.connections("accepted") - accepted;
        if came != proxied {
            wrong.push(format!("{row:?}: {came} connections came to the proxy, not {proxied}"));
        }
    }
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
    drop(servers);
}

#[test]
fn every_place_under_every_setting() {
    run(false);
}

#[test]
fn every_place_under_every_setting_beside_kube_proxy() {
    run(true);
}
