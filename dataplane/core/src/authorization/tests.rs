//! Tables of decisions.

use http::header::HOST;
use http::{HeaderMap, Method};

use super::*;
use crate::route::Source;

fn ruling(name: RuleName) -> Arc<Ruling> {
    Arc::new(Ruling { name, tally: Tally::default() })
}

fn texts(is: &[&str]) -> Texts {
    Texts::new(is.iter().copied(), [])
}

/// A policy with rules of these peers, operations and conditions.
fn policy(name: &str, action: Action, rules: Vec<(Vec<Peer>, Vec<Operation>, Vec<Condition>)>) -> Arc<Policy> {
    let name = ObjectName::new("AuthorizationPolicy", "default", name);
    let rules = rules.into_iter().enumerate().map(|(position, (peers, operations, conditions))| Rule {
        peers,
        operations,
        conditions,
        ruling: ruling(RuleName::Rule(name.clone(), position)),
    });
    Arc::new(Policy { action, rules: rules.collect(), name })
}

fn guard(mode: Mode, stance: Stance, policies: Vec<Arc<Policy>>) -> Guard {
    Guard::new(mode, stance, policies, ruling(RuleName::Unallowed("default".into())), "key".into())
}

fn from(account: &str) -> Peer {
    Peer { principals: texts(&[&format!("cluster.local/ns/default/sa/{account}")]), ..Peer::default() }
}

fn to_port(port: u16) -> Operation {
    Operation { ports: Ports { is: [port].into(), is_not: BTreeSet::new() }, ..Operation::default() }
}

fn to_path(path: &str) -> Operation {
    Operation { paths: texts(&[path]), ..Operation::default() }
}

/// What a guard says of a connection from an account, or from nobody that is known, and by which rule.
fn decided(guard: &Guard, account: &str, port: u16, path: Option<&str>) -> (Verdict, String) {
    let workload = Workload::new(&"default".into(), &"pod".into(), account);
    let address: IpAddr = [10, 0, 0, 1].into();
    let connection = Connection::new(address, Some(&workload).filter(|_| !account.is_empty()), port);
    let headers = HeaderMap::from_iter([
        (HOST, "Shop.example.com:8080".parse().unwrap()),
        ("x-tenant".parse().unwrap(), "blue".parse().unwrap()),
        ("x-tenant".parse().unwrap(), "red".parse().unwrap()),
    ]);
    let request = path.map(|path| Request {
        method: &Method::GET,
        path,
        query: None,
        headers: &headers,
        source: Source { address, workload: None },
        attributes: &[],
    });
    let said = match (&request, port) {
        (Some(request), _) => Said::Request(request),
        (None, 9) => Said::Opaque,
        (None, _) => Said::Nothing,
    };
    let decision = guard.decide(&connection, said);
    let ruling = decision.ruling.map(|ruling| ruling.name.to_string()).unwrap_or_default();
    (decision.verdict, ruling.replace("AuthorizationPolicy default/", ""))
}

#[test]
fn policies_decide_together() {
    let allow = |name: &str, rules| policy(name, Action::Allow, rules);
    let web_to_80 = || allow("a", vec![(vec![from("web")], vec![to_port(80)], vec![])]);
    let public = || allow("p", vec![(vec![], vec![to_path("/public/*")], vec![])]);
    let not_admin = || policy("d", Action::Deny, vec![(vec![], vec![to_path("/admin*")], vec![])]);
    let tell = || policy("t", Action::Audit, vec![(vec![from("web")], vec![], vec![])]);
    let unallowed = "no policy of namespace default allows it";
    let (enforce, audit) = (Mode::Enforce, Mode::Audit);
    for (mode, stance, policies, account, port, path, expected, why) in [
        (enforce, Stance::Allow, vec![], "web", 80, None, Verdict::Allow, ""),
        (enforce, Stance::Deny, vec![], "web", 80, None, Verdict::Deny, unallowed),
        (audit, Stance::Deny, vec![], "web", 80, None, Verdict::Audit, unallowed),
        (enforce, Stance::Deny, vec![web_to_80()], "web", 80, None, Verdict::Allow, "a rule 0"),
        (enforce, Stance::Deny, vec![web_to_80()], "web", 81, None, Verdict::Deny, unallowed),
        (enforce, Stance::Deny, vec![web_to_80()], "api", 80, None, Verdict::Deny, unallowed),
        (enforce, Stance::Deny, vec![web_to_80()], "", 80, None, Verdict::Deny, unallowed),
        // One that allows anything keeps the rest out, whatever the stance.
        (enforce, Stance::Allow, vec![web_to_80()], "api", 80, None, Verdict::Deny, unallowed),
        (enforce, Stance::Allow, vec![allow("n", vec![])], "web", 80, None, Verdict::Deny, unallowed),
        (
            enforce,
            Stance::Deny,
            vec![allow("e", vec![(vec![], vec![], vec![])])],
            "",
            80,
            None,
            Verdict::Allow,
            "e rule 0",
        ),
        // It takes a request to tell.
        (enforce, Stance::Deny, vec![public()], "api", 80, None, Verdict::Ask, "p rule 0"),
        (enforce, Stance::Deny, vec![public()], "api", 80, Some("/public/a"), Verdict::Allow, "p rule 0"),
        (enforce, Stance::Deny, vec![public()], "api", 80, Some("/private"), Verdict::Deny, unallowed),
        (enforce, Stance::Deny, vec![public()], "api", 80, Some("/public/../private"), Verdict::Deny, unallowed),
        (enforce, Stance::Deny, vec![web_to_80(), public()], "web", 80, None, Verdict::Allow, "a rule 0"),
        (enforce, Stance::Deny, vec![web_to_80(), public()], "web", 81, None, Verdict::Ask, "p rule 0"),
        // What denies comes first, and in every spelling.
        (enforce, Stance::Allow, vec![not_admin()], "web", 80, None, Verdict::Ask, "d rule 0"),
        (enforce, Stance::Allow, vec![not_admin()], "web", 80, Some("/"), Verdict::Allow, ""),
        (enforce, Stance::Allow, vec![not_admin()], "web", 80, Some("/admin"), Verdict::Deny, "d rule 0"),
        (enforce, Stance::Allow, vec![not_admin()], "web", 80, Some("/x/..%2fadmin"), Verdict::Deny, "d rule 0"),
        (audit, Stance::Allow, vec![not_admin()], "web", 80, Some("/admin"), Verdict::Audit, "d rule 0"),
        (enforce, Stance::Deny, vec![web_to_80(), not_admin()], "web", 80, Some("/admin"), Verdict::Deny, "d rule 0"),
        (enforce, Stance::Deny, vec![web_to_80(), not_admin()], "web", 80, None, Verdict::Ask, "d rule 0"),
        // Of what is no HTTP (port 9) a rule about requests allows nothing, and denies it.
        (enforce, Stance::Deny, vec![public()], "api", 9, None, Verdict::Deny, unallowed),
        (enforce, Stance::Allow, vec![not_admin()], "api", 9, None, Verdict::Deny, "d rule 0"),
        // What is told of goes on.
        (enforce, Stance::Allow, vec![tell()], "web", 80, None, Verdict::Audit, "t rule 0"),
        (enforce, Stance::Allow, vec![tell()], "api", 80, None, Verdict::Allow, ""),
        (enforce, Stance::Deny, vec![tell()], "web", 80, None, Verdict::Deny, unallowed),
    ] {
        let guard = guard(mode, stance, policies);
        assert_eq!(
            decided(&guard, account, port, path),
            (expected, why.to_owned()),
            "{guard:?} {account} {port} {path:?}"
        );
    }
}

#[test]
fn hosts_methods_headers_and_addresses_are_conditions() {
    let blocks = |is: &[&str], is_not: &[&str]| Blocks {
        is: is.iter().map(|block| block.parse().unwrap()).collect(),
        is_not: is_not.iter().map(|block| block.parse().unwrap()).collect(),
    };
    let hosts = |host: &str| Operation { hosts: texts(&[host]), ..Operation::default() };
    let methods = |method: &str| Operation { methods: texts(&[method]), ..Operation::default() };
    let header = |is: &[&str], is_not: &[&str]| {
        Condition::Header("x-tenant".parse().unwrap(), Texts::new(is.iter().copied(), is_not.iter().copied()))
    };
    let at = |blocks| Peer { blocks, ..Peer::default() };
    for (peers, operations, conditions, expected) in [
        (vec![], vec![hosts("shop.example.com")], vec![], true),
        (vec![], vec![hosts("shop.example.com:8080")], vec![], true),
        (vec![], vec![hosts("*.example.com")], vec![], true),
        (vec![], vec![hosts("shop.example.org")], vec![], false),
        (vec![], vec![hosts("shop.example.org"), methods("GET")], vec![], true),
        (vec![], vec![methods("POST")], vec![], false),
        (vec![], vec![], vec![header(&["red"], &[])], true),
        (vec![], vec![], vec![header(&["green"], &[])], false),
        (vec![], vec![], vec![header(&["red"], &["bl*"])], false),
        (vec![], vec![methods("GET")], vec![header(&["red"], &[]), header(&["blue"], &[])], true),
        (vec![at(blocks(&["10.0.0.0/8"], &[]))], vec![], vec![], true),
        (vec![at(blocks(&["10.0.0.0/8"], &["10.0.0.0/24"]))], vec![], vec![], false),
        (vec![at(blocks(&["192.168.0.0/16"], &[])), at(blocks(&[], &["10.1.0.0/16"]))], vec![], vec![], true),
        (vec![], vec![], vec![Condition::Peer(at(blocks(&["10.0.0.1"], &[])))], true),
        (vec![Peer { namespaces: texts(&["other"]), ..Peer::default() }], vec![], vec![], false),
        (vec![Peer { namespaces: Texts::new([], ["other"]), ..Peer::default() }], vec![], vec![], true),
    ] {
        let what = format!("{peers:?} {operations:?} {conditions:?}");
        let guard =
            guard(Mode::Enforce, Stance::Deny, vec![policy("a", Action::Allow, vec![(peers, operations, conditions)])]);
        let (verdict, _) = decided(&guard, "web", 80, Some("/"));
        assert_eq!(verdict == Verdict::Allow, expected, "{what}");
    }
}
