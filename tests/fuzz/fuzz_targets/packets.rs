//! Frames as pods may send them: the parser reads within bounds, whatever lengths the headers claim, and what it says
//! depends on nothing behind what it has read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_ebpf_common::{Kind, parse};

/// Where the network header of a frame begins.
const NETWORK: usize = 14;

fuzz_target!(|data: &[u8]| {
    let [choice, cut, frame @ ..] = data else { return };
    let ether_type = [0x0800, 0x86dd, 0x0806, 0x8100, u16::from(*choice)][usize::from(*choice) % 5];
    let parsed = parse(frame, ether_type, NETWORK);
    if let Kind::Syn | Kind::SynAck | Kind::Reset | Kind::Established | Kind::Datagram = parsed.kind {
        let at = parsed.transport as usize;
        // Ports are kept as they are on the wire.
        let ports = [parsed.tuple.src_port.to_ne_bytes(), parsed.tuple.dst_port.to_ne_bytes()].concat();
        assert_eq!(frame.get(at..at + 4), Some(&ports[..]), "the ports are not those of the transport header");
    }
    let shorter = &frame[..frame.len().min(usize::from(*cut))];
    let of_shorter = parse(shorter, ether_type, NETWORK);
    if of_shorter.kind != Kind::Unparsed {
        assert_eq!(of_shorter, parsed, "the same headers, read differently");
    }
});
