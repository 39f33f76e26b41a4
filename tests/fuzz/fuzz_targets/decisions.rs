//! What the programs decide with whatever is in their maps: what is denied goes nowhere, what needs the proxy goes to it or, where
//! that is said, past it, and of what nobody says anything nothing is let in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_ebpf_common::{
    AddressKind, FirstPacket, Path, Policies, Policy, PolicyKey, SOURCE_ANY, ServiceRecord, Tuple, Verdict,
    decide_first, find_mtls, find_policy, may_go_on, with_mtls,
};

/// Entries as they come: source, guard, port, protocol, verdict, a byte of each.
struct Map<'a>(&'a [u8]);

impl Policies for Map<'_> {
    fn find(&self, key: &PolicyKey) -> Option<Policy> {
        let found = self.0.chunks_exact(5).find(|entry| {
            let source = if entry[0] == 255 { SOURCE_ANY } else { u32::from(entry[0]) };
            let wanted = (key.source, key.guard, key.port, key.protocol);
            (source, u32::from(entry[1]), u16::from(entry[2]), entry[3]) == wanted
        })?;
        Some(Policy { verdict: Verdict::from_number(u32::from(found[4])), rule: u32::from(found[4]) })
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, entries)) = data.split_first_chunk::<8>() else { return };
    let map = Map(entries);
    let tuple = Tuple { dst_port: u16::from(head[0]), protocol: head[1], ..Tuple::default() };
    let (source, guard, mtls) = (u32::from(head[2]), u32::from(head[3]), u32::from(head[4]));
    let policy = find_policy(&map, source, guard, &tuple);
    let says = |source, port, protocol| {
        map.find(&PolicyKey { source, guard, port, protocol, zero: 0 }).map(|policy| policy.verdict)
    };
    let (port, protocol) = (tuple.dst_port, tuple.protocol);
    let order =
        [says(source, port, protocol), says(source, 0, 0), says(SOURCE_ANY, port, protocol), says(SOURCE_ANY, 0, 0)];
    let expected =
        if guard == 0 { Verdict::Direct } else { order.into_iter().flatten().next().unwrap_or(Verdict::Deny) };
    assert_eq!(policy.verdict, expected);

    let reached = find_mtls(&map, mtls, &tuple);
    let whole = with_mtls(policy, reached);
    assert!(policy.verdict != Verdict::Deny || whole.verdict == Verdict::Deny, "nothing opens what is denied");
    assert!(reached != Verdict::Proxy || !may_go_on(&whole), "nothing goes past the proxy that needs a tunnel");

    let first = FirstPacket {
        destination: if head[5] & 1 == 0 { AddressKind::Other } else { AddressKind::Node },
        service: (head[5] & 2 != 0).then(|| ServiceRecord { action: u32::from(head[6]), ..ServiceRecord::default() }),
        policy: whole.verdict,
        is_steerable: head[5] & 4 != 0,
    };
    let (has_proxy, is_open) = (head[5] & 8 != 0, head[5] & 16 != 0);
    let decision = decide_first(&first, || has_proxy, is_open);
    let is_other = first.destination == AddressKind::Other;
    match whole.verdict {
        Verdict::Deny => assert_eq!(decision.path, Path::Drop),
        Verdict::Proxy if is_other && first.is_steerable && has_proxy => assert_eq!(decision.path, Path::Proxy),
        Verdict::Proxy if is_other && !(first.is_steerable && is_open) => assert_eq!(decision.path, Path::Drop),
        _ => {}
    }
    assert!(decision.path != Path::Proxy || has_proxy && first.is_steerable && is_other);
});
