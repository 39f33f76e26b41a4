//! What Weir reads before hyper and h2 do: the first bytes of a connection, and the frames of one in HTTP/2.
#![no_main]

#[path = "../../../dataplane/proxy/src/detect.rs"]
#[allow(dead_code, unreachable_pub, reason = "a module of the proxy, by itself")]
mod detect;
#[path = "../../../dataplane/proxy/src/downstream/http2/flood.rs"]
#[allow(dead_code, reason = "a module of the proxy, by itself")]
mod flood;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [cut, bytes @ ..] = data else { return };
    judged_once(bytes);
    counted_the_same(bytes, usize::from(*cut) + 1);
});

/// What has been judged stays so, however many more bytes come; but for a request line that goes on as none of HTTP.
fn judged_once(bytes: &[u8]) {
    use detect::Protocol::{Http1, Other};
    let mut judged = None;
    for end in 0..=bytes.len().min(256) {
        let now = detect::judge(&bytes[..end]);
        let is_same = judged.is_none() || judged == now || (judged, now) == (Some(Http1), Some(Other));
        assert!(is_same, "{judged:?} became {now:?} at {end} of {bytes:?}");
        judged = now;
    }
}

/// Frames are the same ones however the bytes are cut.
fn counted_the_same(bytes: &[u8], cut: usize) {
    let (mut whole, mut pieces) = (flood::Frames::after(24), flood::Frames::after(24));
    let is_flood = whole.on_read(bytes, 0);
    let was_flood = bytes.chunks(cut).fold(false, |was, piece| pieces.on_read(piece, 0) || was);
    // Among pieces it may show earlier, before what moves something forward has come; never not at all.
    assert!(!is_flood || was_flood);
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
}
