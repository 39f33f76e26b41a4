//! Interception: what reaches the proxy, what does not, and what is left afterwards.

mod bytes;
mod flows;
mod life;
mod matrix;
mod places;
mod scope;

use std::net::{IpAddr, SocketAddr};

use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain};
use weir_lab::{DnatRule, Protocol};

/// A rule for every request to `vehicle-recognition`, so that its connections are intercepted.
const ALL: &str = "{services: [vehicle-recognition], timeouts: {request: 20s}}";

fn terrain() -> Terrain {
    Terrain::standard().rule("all", ALL)
}

/// What kube-proxy makes of the services of the standard terrain that these stories use, in both families.
fn translations(story: &Story) -> Vec<DnatRule> {
    let ips = |pod: &str| story.lab.pod(pod).unwrap().ips();
    let services = [(RECOGNITION, ips("v1")), (PLAIN, ips("plain"))];
    services.iter().flat_map(|(vips, ips)| vips.iter().zip(ips)).map(|(vip, ip)| translation(vip, *ip)).collect()
}

/// One translated virtual address, from port 80 to port 8080.
fn translation(vip: &str, ip: IpAddr) -> DnatRule {
    DnatRule {
        vip: SocketAddr::new(vip.parse().unwrap(), 80),
        protocol: Protocol::Tcp,
        endpoints: vec![SocketAddr::new(ip, 8080)],
    }
}
