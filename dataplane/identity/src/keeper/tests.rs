use std::fs;

use super::*;
use crate::authority::Root;

const HOUR: Duration = Duration::from_secs(3_600);
const DOMAIN: &str = "edge.example";
const PASSPHRASE: &[u8] = b"correct horse battery";

fn opens() -> Passphrase {
    Passphrase::new(PASSPHRASE).unwrap()
}

fn principal(name: &str) -> Principal {
    Principal::new(DOMAIN, &"shop".into(), name)
}

/// Writes the authority of a node as `weir ca node` does.
fn write_authority(folder: &Path, root: &Root, life: Duration) {
    let (key, request) = NodeAuthority::request("one", &opens()).unwrap();
    fs::write(folder.join(NODE_KEY), key).unwrap();
    fs::write(folder.join(NODE_CERTIFICATE), root.sign("one", &request, SystemTime::now(), life).unwrap()).unwrap();
    fs::write(folder.join(ROOTS), root.certificate()).unwrap();
    fs::write(folder.join("passphrase"), PASSPHRASE).unwrap();
}

fn keeper(folder: &Path) -> Keeper {
    let (passphrase, folder) = (folder.join("passphrase"), folder.to_owned());
    Keeper::new(Origin::Authority { node: "one".into(), folder, passphrase, life: 24 * HOUR }, DOMAIN)
}

fn root() -> Root {
    Root::create(DOMAIN, SystemTime::now(), 10_000 * HOUR).unwrap()
}

fn ends(keeper: &Keeper, name: &str) -> Option<SystemTime> {
    keeper.states().into_iter().find(|state| state.principal == principal(name)).unwrap().not_after
}

#[test]
fn what_is_wanted_is_brought_and_renewed_at_half_of_its_life() {
    let dir = tempfile::tempdir().unwrap();
    write_authority(dir.path(), &root(), 1_000 * HOUR);
    let mut keeper = keeper(dir.path());
    let start = SystemTime::now();
    let wanted = BTreeSet::from([principal("a"), principal("b")]);
    let identities = keeper.follow(&wanted, start, || 0).unwrap();
    for name in ["a", "b"] {
        assert!(identities.acceptor(&principal(name)).is_some() && identities.svid(&principal(name)).is_some());
    }
    assert!(identities.connector(&principal("a"), &principal("b")).is_some());
    assert!(identities.acceptor(&principal("c")).is_none());
    assert!(keeper.follow(&wanted, start + 11 * HOUR, || 0).is_none(), "not yet");
    let first = ends(&keeper, "a").unwrap();
    assert!(keeper.follow(&wanted, start + 12 * HOUR, || 0).is_some());
    assert!(ends(&keeper, "a").unwrap() > first + 11 * HOUR);
    // The clock jumps, or the node has slept.
    assert!(keeper.follow(&wanted, start + 100 * HOUR, || 0).is_some());
    assert!(ends(&keeper, "a").unwrap() > start + 123 * HOUR);
    // Back again: what was made is not valid yet.
    assert!(keeper.follow(&wanted, start, || 0).is_some());
    assert!(ends(&keeper, "a").unwrap() < start + 25 * HOUR);
    // Who has gone is forgotten.
    let identities = keeper.follow(&BTreeSet::from([principal("b")]), start, || 0).unwrap();
    assert!(identities.svid(&principal("a")).is_none() && keeper.states().len() == 1);
}

#[test]
fn what_cannot_be_renewed_stays_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = root();
    write_authority(dir.path(), &root, 20 * HOUR);
    let mut keeper = keeper(dir.path());
    let start = SystemTime::now();
    let wanted = BTreeSet::from([principal("a")]);
    keeper.follow(&wanted, start, || 0).unwrap();
    let first = ends(&keeper, "a").unwrap();
    assert!(first <= start + 20 * HOUR, "no longer than the authority");
    let late = start + 21 * HOUR;
    assert!(keeper.follow(&wanted, late, || 0).is_none());
    let failure = keeper.states()[0].failure.clone().unwrap();
    assert_eq!((&*failure, ends(&keeper, "a")), ("the authority of node one has expired", Some(first)));
    // Its files are written anew: that is seen, and helps as soon as it is tried again.
    write_authority(dir.path(), &root, 100 * HOUR);
    assert!(keeper.follow(&wanted, late + RETRY, || 0).is_some());
    assert_eq!(keeper.states()[0].failure, None);
    // They are broken: what is in use stays in use.
    let broken = ends(&keeper, "a");
    fs::write(dir.path().join(NODE_KEY), "nothing").unwrap();
    assert!(keeper.follow(&wanted, late + RETRY, || 0).is_none());
    assert!(keeper.failure().unwrap().contains("this is no sealed key"), "{:?}", keeper.failure());
    assert_eq!(ends(&keeper, "a"), broken);
    fs::remove_file(dir.path().join(ROOTS)).unwrap();
    assert!(keeper.follow(&wanted, late + RETRY, || 0).is_none());
    assert!(keeper.failure().unwrap().contains("roots.crt: No such file"));
}

#[test]
fn the_authority_of_another_node_is_none() {
    let dir = tempfile::tempdir().unwrap();
    write_authority(dir.path(), &root(), HOUR);
    let (folder, passphrase) = (dir.path().to_owned(), dir.path().join("passphrase"));
    let mut keeper = Keeper::new(Origin::Authority { node: "two".into(), folder, passphrase, life: HOUR }, DOMAIN);
    assert!(keeper.follow(&BTreeSet::from([principal("a")]), SystemTime::now(), || 0).is_none());
    assert!(keeper.failure().unwrap().ends_with("is the authority of node one, this is two"), "{:?}", keeper.failure());
}

#[test]
fn another_root_makes_other_tunnels_and_another_authority_other_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (root(), root());
    write_authority(dir.path(), &old, 100 * HOUR);
    let mut keeper = keeper(dir.path());
    let (start, wanted) = (SystemTime::now(), BTreeSet::from([principal("a")]));
    let first = keeper.follow(&wanted, start, || 0).unwrap();
    fs::write(dir.path().join(ROOTS), format!("{}{}", old.certificate(), new.certificate())).unwrap();
    let both = keeper.follow(&wanted, start, || 0).unwrap();
    assert_ne!(first.trust(), both.trust());
    let svid = |identities: &Identities| Arc::as_ptr(identities.svid(&principal("a")).unwrap());
    assert_eq!(svid(&first), svid(&both), "it is still good");
    write_authority(dir.path(), &new, 100 * HOUR);
    let last = keeper.follow(&wanted, start, || 0).unwrap();
    assert_ne!(svid(&both), svid(&last));
}

#[test]
fn what_others_write_is_followed_by_swapped_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = root();
    let (key, request) = NodeAuthority::request("one", &opens()).unwrap();
    let certificate = root.sign("one", &request, SystemTime::now(), 100 * HOUR).unwrap();
    let authority = NodeAuthority::read(&certificate, &key, &opens()).unwrap();
    fs::write(dir.path().join(BUNDLE), root.certificate()).unwrap();
    let folder = dir.path().join("shop/a");
    let write = |version: &str, name: &str| {
        let at = folder.join(version);
        fs::create_dir_all(&at).unwrap();
        let (chain, key) = authority.issue_pem(&principal(name), SystemTime::now(), HOUR).unwrap();
        fs::write(at.join(CHAIN_FILE), chain).unwrap();
        fs::write(at.join(KEY_FILE), key).unwrap();
        std::os::unix::fs::symlink(version, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
    };
    let mut keeper = Keeper::new(Origin::Files { folder: dir.path().to_owned() }, DOMAIN);
    let (now, wanted) = (SystemTime::now(), BTreeSet::from([principal("a")]));
    assert!(keeper.follow(&wanted, now, || 0).unwrap().svid(&principal("a")).is_none());
    assert!(keeper.states()[0].failure.as_ref().unwrap().contains("shop/a/tls.crt: No such file"));
    write("v1", "a");
    for file in [CHAIN_FILE, KEY_FILE] {
        std::os::unix::fs::symlink(format!("..data/{file}"), folder.join(file)).unwrap();
    }
    let first = keeper.follow(&wanted, now, || 0).unwrap();
    assert!(keeper.follow(&wanted, now, || 0).is_none());
    write("v2", "a");
    let second = keeper.follow(&wanted, now, || 0).unwrap();
    let svid = |identities: &Identities| Arc::as_ptr(identities.svid(&principal("a")).unwrap());
    assert_ne!(svid(&first), svid(&second));
    // Somebody else's is not shown in its place.
    write("v3", "b");
    assert!(keeper.follow(&wanted, now, || 0).is_none());
    let state = &keeper.states()[0];
    assert!(state.failure.as_ref().unwrap().contains("is the certificate of edge.example/ns/shop/sa/b, not of"));
    assert!(state.not_after.is_some());
}
