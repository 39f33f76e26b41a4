//! Frames as pods may send them: the parser reads within bounds, whatever lengths the headers claim.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_ebpf_common::parse;

fuzz_target!(|data: &[u8]| {
    let [high, low, frame @ ..] = data else { return };
    let parsed = parse(frame, u16::from_be_bytes([*high, *low]), 14);
    let again = parse(frame, u16::from_be_bytes([*high, *low]), 14);
    assert_eq!(parsed, again);
});
