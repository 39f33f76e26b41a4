use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::HandshakeKind;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::authority::{NodeAuthority, Root};
use crate::sealed::Passphrase;

const DAY: Duration = Duration::from_secs(86_400);
const DOMAIN: &str = "edge.example";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 42, 0, 7));

fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse battery").unwrap()
}

fn root() -> Root {
    Root::create(DOMAIN, SystemTime::now(), 10 * DAY).unwrap()
}

/// The authority of a node, and its certificate in PEM.
fn node(root: &Root, name: &str) -> (NodeAuthority, String) {
    let (key, request) = NodeAuthority::request(name, &passphrase()).unwrap();
    let certificate = root.sign(name, &request, SystemTime::now(), DAY).unwrap();
    (NodeAuthority::read(&certificate, &key, &passphrase()).unwrap(), certificate)
}

fn principal(name: &str) -> Principal {
    Principal::new(DOMAIN, &"shop".into(), name)
}

fn issue(node: &NodeAuthority, name: &str) -> Svid {
    node.issue(&principal(name), SystemTime::now(), DAY).unwrap()
}

fn trust(roots: &[&Root], revoked: &str) -> Arc<Trust> {
    let bundle: String = roots.iter().map(|root| root.certificate()).collect();
    Arc::new(Trust::read(DOMAIN, bundle.as_bytes(), revoked.as_bytes()).unwrap())
}

type End = io::Result<(TlsStream<tokio::io::DuplexStream>, Shown)>;

/// Both ends of a connection, as far as they come. A server's refusal shows at the client on its first read only.
async fn connect(acceptor: &TunnelAcceptor, connector: &TunnelConnector) -> (End, End) {
    let (near, far) = tokio::io::duplex(64 * 1_024);
    let server = async {
        let (mut stream, shown) = acceptor.accept(far).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok((stream, shown))
    };
    let client = async {
        let (mut stream, shown) = connector.connect(ADDRESS, near).await?;
        stream.read_u8().await?;
        Ok((stream, shown))
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(server, client) }).await.unwrap()
}

#[tokio::test]
async fn each_side_knows_the_other_and_who_vouches_for_it() {
    let root = root();
    let (one, other) = (node(&root, "one").0, node(&root, "two").0);
    let tls = Tls::new(trust(&[&root], "")).unwrap();
    let acceptor = tls.acceptor(&issue(&other, "server")).unwrap();
    let connector = tls.connector(&issue(&one, "client"), &principal("server")).unwrap();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (server, client) = connect(&acceptor, &connector).await;
        let ((server, client_seen), (client, server_seen)) = (server.unwrap(), client.unwrap());
        assert_eq!(client_seen.peer.principal, principal("client"));
        assert_eq!(client_seen.peer.node.as_deref(), Some("one"));
        assert_eq!(server_seen.peer.principal, principal("server"));
        assert_eq!(server_seen.peer.node.as_deref(), Some("two"));
        let (_, connection) = client.get_ref();
        assert_eq!(connection.handshake_kind(), Some(kind));
        assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(connection.alpn_protocol(), Some(HTTP2));
        let group = connection.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        drop(server);
    }
}

/// A certificate as somebody may make it who has a key that signs.
struct Forged {
    ids: Vec<&'static str>,
    life: (i64, i64),
    uses: Vec<ExtendedKeyUsagePurpose>,
    is_authority: bool,
}

impl Default for Forged {
    fn default() -> Self {
        Self {
            ids: vec!["spiffe://edge.example/ns/shop/sa/client"],
            life: (-60, 3_600),
            uses: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            is_authority: false,
        }
    }
}

impl Forged {
    fn params(&self) -> CertificateParams {
        let at = |seconds: i64| {
            let now = SystemTime::now();
            let by = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { now - by } else { now + by }
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (at(self.life.0).into(), at(self.life.1).into());
        params.subject_alt_names = self.ids.iter().map(|id| SanType::URI((*id).try_into().unwrap())).collect();
        params.extended_key_usages.clone_from(&self.uses);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// Signed by this key, followed by these.
    fn svid(&self, issuer: Option<&Issuer<'_, KeyPair>>, rest: &[CertificateDer<'static>]) -> Svid {
        let key = KeyPair::generate().unwrap();
        let leaf = match issuer {
            Some(issuer) => self.params().signed_by(&key, issuer),
            None => self.params().self_signed(&key),
        };
        let chain = std::iter::once(leaf.unwrap().der().clone()).chain(rest.iter().cloned()).collect::<Vec<_>>();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = CertifiedKey::from_der(chain, key.into(), &crate::authorities::provider()).unwrap();
        let (not_before, not_after) = (SystemTime::now(), SystemTime::now());
        Svid { principal: principal("client"), key: Arc::new(key), not_before, not_after }
    }
}

#[tokio::test]
async fn what_is_forged_is_refused_by_both_sides() {
    let (root, stranger) = (root(), root());
    let (node_of, _) = node(&root, "one");
    let good = issue(&node_of, "other");
    let tls = Tls::new(trust(&[&root], "")).unwrap();
    // An authority of the mesh that somebody has stolen: it can sign whatever it likes.
    let stolen_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "stolen");
    let request = params.serialize_request(&stolen_key).unwrap().pem().unwrap();
    let stolen_pem = root.sign("stolen", &request, SystemTime::now(), DAY).unwrap();
    let stolen = Issuer::from_ca_cert_pem(&stolen_pem, stolen_key).unwrap();
    let above = [rustls::pki_types::pem::PemObject::from_pem_slice(stolen_pem.as_bytes()).unwrap()];
    let forged = Forged::default;
    let only = |usage| Forged { uses: vec![usage], ..forged() };
    let by_stolen = |forged: Forged| forged.svid(Some(&stolen), &above);
    let (server_only, client_only) =
        (only(ExtendedKeyUsagePurpose::ServerAuth), only(ExtendedKeyUsagePurpose::ClientAuth));
    let other_domain = "spiffe://other.example/ns/shop/sa/client";
    // Name; certificate; what a server says to it as a client, and a client as a server; none: it is believed.
    let cases: Vec<(&str, Svid, Option<&str>, Option<&str>)> = vec![
        ("as it should be", by_stolen(forged()), None, None),
        ("self-signed", forged().svid(None, &[]), Some("UnknownIssuer"), Some("UnknownIssuer")),
        ("another root", issue(&node(&stranger, "one").0, "client"), Some("UnknownIssuer"), Some("UnknownIssuer")),
        (
            "without what vouches for it",
            forged().svid(Some(&stolen), &[]),
            Some("UnknownIssuer"),
            Some("UnknownIssuer"),
        ),
        ("expired", by_stolen(Forged { life: (-7_200, -3_600), ..forged() }), Some("Expired"), Some("Expired")),
        (
            "not yet valid",
            by_stolen(Forged { life: (3_600, 7_200), ..forged() }),
            Some("NotValidYet"),
            Some("NotValidYet"),
        ),
        (
            "another trust domain",
            by_stolen(Forged { ids: vec![other_domain], ..forged() }),
            Some("TrustDomain("),
            Some("TrustDomain("),
        ),
        (
            "two ids, the first of another trust domain",
            by_stolen(Forged { ids: vec![other_domain, forged().ids[0]], ..forged() }),
            Some("NoIdentity"),
            Some("NoIdentity"),
        ),
        ("no id", by_stolen(Forged { ids: vec![], ..forged() }), Some("NoIdentity"), Some("NoIdentity")),
        (
            "an id that no workload has",
            by_stolen(Forged { ids: vec!["spiffe://edge.example/node/one"], ..forged() }),
            Some("NoIdentity"),
            Some("NoIdentity"),
        ),
        (
            "another service account",
            by_stolen(Forged { ids: vec!["spiffe://edge.example/ns/shop/sa/else"], ..forged() }),
            None,
            Some("Unexpected {"),
        ),
        ("for servers only", by_stolen(server_only), Some("InvalidPurpose"), None),
        ("for clients only", by_stolen(client_only), None, Some("InvalidPurpose")),
        (
            "an authority",
            by_stolen(Forged { is_authority: true, ..forged() }),
            Some("UnknownIssuer"),
            Some("UnknownIssuer"),
        ),
    ];
    for (name, svid, as_client, as_server) in cases {
        let (server, _) =
            connect(&tls.acceptor(&good).unwrap(), &tls.connector(&svid, &principal("other")).unwrap()).await;
        check(&format!("{name}, as a client"), server, as_client);
        let (_, client) =
            connect(&tls.acceptor(&svid).unwrap(), &tls.connector(&good, &principal("client")).unwrap()).await;
        check(&format!("{name}, as a server"), client, as_server);
    }
}

fn check(name: &str, end: End, expected: Option<&str>) {
    match (end, expected) {
        (Ok(_), None) => {}
        (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{name}: {error}"),
        (end, expected) => panic!("{name}: {:?}, expected {expected:?}", end.map(|(_, shown)| shown)),
    }
}

#[tokio::test]
async fn without_a_certificate_or_tls_there_is_no_connection() {
    let root = root();
    let tls = Tls::new(trust(&[&root], "")).unwrap();
    let acceptor = tls.acceptor(&issue(&node(&root, "one").0, "server")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(root.certificate().as_bytes()).unwrap()).unwrap();
    for (versions, expected) in
        [(&[&TLS13][..], "peer sent no certificates"), (&[&rustls::version::TLS12][..], "peer is incompatible")]
    {
        let verifier =
            Verifier { provider: crate::authorities::provider(), trust: trust(&[&root], ""), expected: None };
        let builder = ClientConfig::builder_with_provider(crate::authorities::provider());
        let builder = builder.with_protocol_versions(versions).unwrap().dangerous();
        let config = builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1_024);
        let connector = TlsConnector::from(Arc::new(config));
        let client = async {
            let mut stream = connector.connect(ServerName::IpAddress(ADDRESS.into()), near).await?;
            stream.read_u8().await
        };
        let (server, client) = tokio::join!(acceptor.accept(far), client);
        let error = server.map(|(_, shown)| shown).unwrap_err().to_string();
        assert!(error.contains(expected) && client.is_err(), "{error}");
    }
    for bytes in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x00\xff\x01"]
    {
        let (mut near, far) = tokio::io::duplex(64 * 1_024);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(acceptor.accept(far).await.is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_root_is_rotated_with_overlap_and_what_is_revoked_is_known_afterwards() {
    let (old, new) = (root(), root());
    let ((old_node, old_pem), (new_node, _)) = (node(&old, "one"), node(&new, "one"));
    let server = issue(&node(&old, "two").0, "server");
    let expected = principal("server");
    let both = Tls::new(trust(&[&old, &new], "")).unwrap();
    let acceptor = both.acceptor(&server).unwrap();
    let mut shown = Vec::new();
    for node in [&old_node, &new_node] {
        let connector = both.connector(&issue(node, "client"), &expected).unwrap();
        shown.push(connect(&acceptor, &connector).await.0.unwrap().1);
    }
    let now = SystemTime::now();
    let believed = |trust: &Trust| shown.iter().map(|one| one.is_believed(trust, now)).collect::<Vec<_>>();
    assert_eq!(believed(&trust(&[&old, &new], "")), [true, true]);
    assert_eq!(believed(&trust(&[&new], "")), [false, true]);
    let revoked = old.revoke(&[old_pem], now, DAY).unwrap();
    assert_eq!(believed(&trust(&[&old, &new], &revoked)), [false, true]);
    // What has expired meanwhile was believed when it came.
    let later = now + 30 * DAY;
    assert!(shown.iter().all(|one| one.is_believed(&trust(&[&old, &new], ""), later)));
    let revoking = Tls::new(trust(&[&old, &new], &revoked)).unwrap();
    let connector = revoking.connector(&issue(&old_node, "client"), &expected).unwrap();
    let (server_end, _) = connect(&revoking.acceptor(&server).unwrap(), &connector).await;
    check("revoked", server_end, Some("Revoked"));
}

#[tokio::test]
async fn a_ticket_is_no_way_around_a_new_bundle() {
    let (old, new) = (root(), root());
    let (old_node, new_node) = (node(&old, "one").0, node(&new, "two").0);
    let both = Tls::new(trust(&[&old, &new], "")).unwrap();
    let connector = both.connector(&issue(&old_node, "client"), &principal("server")).unwrap();
    let server = issue(&new_node, "server");
    let (first, _) = connect(&both.acceptor(&server).unwrap(), &connector).await;
    first.unwrap();
    // The server's node has dropped the old root; its tickets are other ones, too.
    for tickets in [Arc::clone(&both.tickets), rustls::crypto::aws_lc_rs::Ticketer::new().unwrap()] {
        let only_new = Tls { trust: trust(&[&new], ""), tickets, ..both.clone() };
        let (again, _) = connect(&only_new.acceptor(&server).unwrap(), &connector).await;
        assert!(again.is_err());
    }
}

#[test]
fn authorities_are_kept_and_found_again() {
    let root = root();
    let again = Root::read(&root.certificate(), &root.key(&passphrase()).unwrap(), &passphrase()).unwrap();
    assert_eq!(again.trust_domain(), DOMAIN);
    let (authority, pem) = node(&again, "edge-7.example");
    assert_eq!(authority.node(), "edge-7.example");
    let svid = issue(&authority, "a");
    assert_eq!(svid.principal, principal("a"));
    // No longer than what vouches for it, and renewed at about half of its life.
    let asked = authority.issue(&principal("a"), SystemTime::now(), 30 * DAY).unwrap();
    assert!(asked.not_after <= authority.not_after());
    let half = svid.not_before + (svid.not_after.duration_since(svid.not_before).unwrap()) / 2;
    for roll in [0, 1, 12_345, u64::MAX] {
        let renewal = svid.renewal(roll);
        assert!(renewal <= half && half - DAY / 10 < renewal, "{roll}");
    }
    let (key, request) = NodeAuthority::request("b", &passphrase()).unwrap();
    let other = Passphrase::new(b"another horse battery").unwrap();
    let now = SystemTime::now();
    for (error, expected) in [
        (NodeAuthority::read(&pem, &key, &passphrase()).unwrap_err(), "the key is not the certificate's"),
        (
            NodeAuthority::read(&root.certificate(), &root.key(&other).unwrap(), &other).unwrap_err(),
            "this is no node's",
        ),
        (NodeAuthority::read(&pem, &key, &other).unwrap_err(), "the key does not open"),
        (Root::create("Not A Domain", now, DAY).unwrap_err(), "`Not A Domain` is no trust domain"),
        (root.sign("a/b", &request, now, DAY).unwrap_err(), "`a/b` is no name of a node"),
        (root.sign("a", &request, now, 30 * DAY).unwrap_err(), "the root does not last as long"),
        (root.sign("a", &pem, now, DAY).unwrap_err(), ""),
        (
            authority.issue(&principal("a"), now + 2 * DAY, DAY).unwrap_err(),
            "the authority of node edge-7.example has expired",
        ),
    ] {
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn a_node_s_authority_vouches_for_no_host() {
    let root = root();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let pem = root.sign("one", &request, SystemTime::now(), DAY).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
    let above = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
    for san in [SanType::DnsName("bank.example".try_into().unwrap()), SanType::IpAddress(ADDRESS)] {
        let mut params = Forged::default().params();
        params.subject_alt_names.push(san);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        let refusal =
            trust(&[&root], "").verify(&[leaf, CertificateDer::clone(&above)], Side::Client, SystemTime::now());
        assert!(matches!(&refusal, Err(Refusal::Untrusted(why)) if why.contains("NameConstraint")), "{refusal:?}");
    }
}
