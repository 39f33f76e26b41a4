//! An imitation of kube-proxy: virtual addresses are translated to endpoints by nft in the
//! node's namespace. It is there to be lived with, not to be good: Weir has to work beside
//! the real one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::layout::{Layout, Place};
use crate::spec::{DnatRule, Protocol};
use crate::{LabError, sysctl, tool};

const TABLE: &str = "weir_lab_kube_proxy";

impl Layout {
    /// Replaces the translated virtual addresses; connections that exist keep their endpoint.
    /// No rules remove the table.
    ///
    /// # Errors
    /// When `nft` or `br_netfilter` is missing or a rule mixes address families.
    pub fn set_kube_proxy(&self, rules: &[DnatRule]) -> Result<(), LabError> {
        for rule in rules {
            rule.check()?;
        }
        if !rules.is_empty() && !sysctl::has_br_netfilter() {
            return Err(LabError::NoBrNetfilter { why: "translating virtual addresses between pods of one bridge" });
        }
        let mut nft = self.command(Place::Node, tool::require("nft")?)?;
        nft.args(["-f", "-"]);
        tool::succeed(nft, &ruleset(rules)).map(drop)
    }
}

/// One transaction. Adding the table first makes its deletion valid where it is not there.
fn ruleset(rules: &[DnatRule]) -> String {
    let mut out = format!("table inet {TABLE} {{}}\ndelete table inet {TABLE}\n");
    if rules.is_empty() {
        return out;
    }
    let translations: String = rules.iter().map(translate).collect();
    let endpoints: BTreeSet<IpAddr> = rules.iter().flat_map(|r| &r.endpoints).map(SocketAddr::ip).collect();
    // A pod that reaches itself would answer to itself past the node: kube-proxy masquerades.
    let hairpin = endpoints.iter().fold(String::new(), |mut out, ip| {
        let family = family(*ip);
        let _ = writeln!(out, "ct status dnat {family} saddr {ip} {family} daddr {ip} masquerade");
        out
    });
    let _ = write!(
        out,
        "table inet {TABLE} {{\n\
         chain services {{\n{translations}}}\n\
         chain prerouting {{ type nat hook prerouting priority dstnat;\njump services\n}}\n\
         chain output {{ type nat hook output priority -100;\njump services\n}}\n\
         chain postrouting {{ type nat hook postrouting priority srcnat;\n{hairpin}}}\n}}\n"
    );
    out
}

fn translate(rule: &DnatRule) -> String {
    let family = family(rule.vip.ip());
    let protocol = match rule.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let (ip, port) = (rule.vip.ip(), rule.vip.port());
    let from = format!("{family} daddr {ip} {protocol} dport {port}");
    match rule.endpoints.as_slice() {
        // kube-proxy rejects connections to a service without endpoints.
        [] => format!("{from} drop\n"),
        [one] => format!("{from} dnat {family} to {one}\n"),
        many => {
            let map: Vec<_> =
                many.iter().enumerate().map(|(i, e)| format!("{i} : {} . {}", e.ip(), e.port())).collect();
            let (count, map) = (many.len(), map.join(", "));
            format!("{from} dnat {family} to numgen random mod {count} map {{ {map} }}\n")
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip" } else { "ip6" }
}
