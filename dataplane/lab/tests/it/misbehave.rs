//! The ways in which servers fail on purpose really are those failures.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_lab::client::{self, ClientError, Payload, Request, Response};
use weir_lab::server::Mode;
use weir_lab::{Lab, content};

use crate::{pair, server};

const LIMIT: Duration = Duration::from_secs(20);
/// For what shall not come; long against a local round trip.
const SHORT: Duration = Duration::from_millis(400);

fn address(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.pod("v1").unwrap().ip4().into(), 8080)
}

fn ask(lab: &Lab, path: &str, limit: Duration) -> Result<Response, ClientError> {
    let url = format!("http://{}{path}", address(lab));
    client::send(lab, "client", &Request::new("GET", &url).unwrap().limit(limit))
}

fn is_timeout(result: &Result<Response, ClientError>) -> bool {
    matches!(result, Err(ClientError::Timeout(_)))
}

#[test]
fn answers_with_odd_statuses_and_bodies() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1")).unwrap();
    for (path, status) in [
        ("/status/503", 503),
        ("/status/418", 418),
        ("/early/413", 413),
        ("/bytes/x", 400),
        ("/delay/soon", 400),
        ("/close", 200),
        ("//", 200),
    ] {
        assert_eq!(ask(&lab, path, LIMIT).unwrap().status, status, "{path}");
    }
    assert_eq!(ask(&lab, "/close", LIMIT).unwrap().header("connection"), Some("close"));
    for n in [0, 1, 70_000, 3_000_001] {
        let whole = ask(&lab, &format!("/bytes/{n}"), LIMIT).unwrap();
        assert_eq!(whole.header("content-length"), Some(n.to_string().as_str()));
        let chunked = ask(&lab, &format!("/bytes/{n}?chunked=1"), LIMIT).unwrap();
        // hyper tells the length of a body that has ended before it began.
        assert_eq!(chunked.header("content-length").is_some(), n == 0);
        assert!(whole.body == chunked.body && whole.body.len() as u64 == n);
        content::Content::new(content::SEED).check(&whole.body).unwrap();
    }
    let begun = Instant::now();
    assert_eq!(ask(&lab, "/delay/300ms", LIMIT).unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let begun = Instant::now();
    assert_eq!(ask(&lab, "/drip?bytes=5&every=50ms", LIMIT).unwrap().body.len(), 5);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[test]
fn breaks_off_in_every_way() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1")).unwrap();
    for query in ["announce=5000&send=700", "send=700&chunked=1"] {
        let cut = ask(&lab, &format!("/close-mid?{query}"), LIMIT);
        assert!(matches!(cut, Err(ClientError::Truncated { head: true, got: 700 })), "{cut:?}");
    }
    let reset = ask(&lab, "/reset", LIMIT).unwrap_err();
    assert_eq!(reset.io_kind(), Some(ErrorKind::ConnectionReset), "{reset}");
    assert!(is_timeout(&ask(&lab, "/hang", SHORT)));
    // The client that gave up on /hang is noticed.
    let aborted = || ask(&lab, "/count", LIMIT).unwrap().json().unwrap()["aborted"].clone();
    let deadline = Instant::now() + LIMIT;
    while aborted() != 1 {
        assert!(Instant::now() < deadline, "{}", aborted());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn answers_early_while_the_body_is_coming() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1")).unwrap();
    let url = format!("http://{}/early/413", address(&lab));
    let request = Request::new("POST", &url).unwrap();
    let mut connection = client::connect(&lab, "client", address(&lab), LIMIT).unwrap();
    let head = format!("{} /early/413 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n", request.method);
    connection.send_raw(head.as_bytes(), LIMIT).unwrap();
    assert_eq!(connection.receive_raw(LIMIT).unwrap().status, 413);
    let large = request.body(Payload::Content(20_000_000));
    match client::send(&lab, "client", &large) {
        Ok(response) => assert_eq!(response.status, 413),
        // The answer may be lost to the reset that the unread body provokes.
        Err(e) => assert!(matches!(e, ClientError::Exchange(_)), "{e}"),
    }
}

#[test]
fn refuses_hangs_and_crawls() {
    let lab = pair();
    let refusing = lab.serve("v1", &server("v1").mode(Mode::Refuse)).unwrap();
    let refused = ask(&lab, "/", LIMIT).unwrap_err();
    assert_eq!(refused.io_kind(), Some(ErrorKind::ConnectionRefused), "{refused}");
    refusing.stop();
    let hanging = lab.serve("v1", &server("v1").mode(Mode::Hang)).unwrap();
    assert!(is_timeout(&ask(&lab, "/", SHORT)));
    hanging.stop();
    let _crawling = lab.serve("v1", &server("v1").mode(Mode::SlowRead)).unwrap();
    let mut stream = lab.connect("client", address(&lab), LIMIT).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // What fits into both buffers is taken at once; after that hardly a byte moves.
    let piece = vec![0; 64 * 1024];
    let mut taken = 0;
    let stuck = loop {
        match stream.write(&piece) {
            Ok(n) => taken += n,
            Err(e) => break e,
        }
        assert!(taken < 64 * 1024 * 1024, "a slow reader took {taken} bytes");
    };
    assert_eq!(stuck.kind(), ErrorKind::WouldBlock, "{stuck}");
    println!("{taken} bytes fit into the buffers of a slow reader");
}

#[test]
fn echoes_and_half_closes() {
    let lab = pair();
    let _served = lab.serve("v1", &server("v1").mode(Mode::TcpEcho)).unwrap();
    let mut stream = lab.connect("client", address(&lab), LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"garbage, not HTTP").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"garbage, not HTTP");
}

#[test]
fn several_workers_share_a_port() {
    let lab = pair();
    let mut spec = server("v1");
    (spec.workers, spec.listen) = (3, "[::]:0".parse().unwrap());
    let served = lab.serve("v1", &spec).unwrap();
    assert_ne!(served.port(), 0);
    let ip = lab.pod("v1").unwrap().ip4();
    for i in 1..=30 {
        let url = format!("http://{ip}:{}/", served.port());
        client::get(&lab, "client", &url, &[]).unwrap();
        let count = client::get(&lab, "client", &format!("{url}count"), &[]).unwrap();
        assert_eq!(count.json().unwrap()["total"], i, "counts are one over all workers");
    }
}
