//! Certificates, requests for them, bundles and lists of what was revoked: nothing that is read ends in a panic, and nobody is
//! believed for whom the root does not stand.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use weir_identity::{NodeAuthority, Passphrase, Root, Svid, Trust};

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    root: Root,
    trust: Trust,
    passphrase: Passphrase,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = Root::create("edge.example", SystemTime::now(), DAY).expect("a root");
    let trust = Trust::read("edge.example", root.certificate().as_bytes(), b"").expect("a bundle");
    World { root, trust, passphrase: Passphrase::new(b"correct horse battery").expect("long enough") }
});

fuzz_target!(|data: &[u8]| {
    let now = SystemTime::now();
    let (one, other) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let _ = Svid::read(one, other);
    let _ = Trust::read("edge.example", one, other);
    // Nobody has the key of this root.
    assert!(WORLD.trust.peer(one, now).is_err());
    if let Ok(mut text) = String::from_utf8(one.to_vec()) {
        if let Ok(signed) = WORLD.root.sign("one", &text, now, Duration::from_secs(60)) {
            assert!(Trust::read("edge.example", signed.as_bytes(), b"").is_ok());
        }
        let _ = WORLD.root.revoke(std::slice::from_ref(&text), now, DAY);
        // Opening a sealed key takes long on purpose; what is no such key is told at once.
        text.truncate(4_096);
        if !text.contains("ENCRYPTED") {
            assert!(NodeAuthority::read(&text, &text, &WORLD.passphrase).is_err());
        }
    }
});
