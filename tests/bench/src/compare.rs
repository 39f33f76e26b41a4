//! What a plugin does in Weir beside what it does in Envoy: the same module, the same requests, and what comes of them, at the
//! endpoint and at the client. It says where they differ, and fails only when something cannot be run.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    backend::Addresses,
    peers::{Peer, Plugin, Setup, Versions, envoy, free_address, weir},
    process::{Launch, Tree},
};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a proxy may take to listen.
const READY: Duration = Duration::from_secs(15);

/// Headers that belong to each proxy, and say nothing about plugins.
const OWN: [&str; 10] = [
    "connection",
    "date",
    "server",
    "via",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-upstream-service-time",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "transfer-encoding",
];

/// What the probe does, and the request that it does it to. `UPSTREAM`, `REFUSING` and `NOBODY` are services.
const CASES: [(&str, &str, &str); 34] = [
    ("nothing", "", "GET /a?b=c"),
    (
        "a request's header set, added, removed",
        "request-headers set x-a 1\nrequest-headers add x-b 2\nrequest-headers remove x-c",
        "GET / x-b:1 x-c:3",
    ),
    (
        "a request's method, path and host",
        "request-headers set :method PUT\nrequest-headers set :path /new?x\nrequest-headers set :authority other",
        "GET /old",
    ),
    ("a response's header set and removed", "response-headers set x-a 1\nresponse-headers remove x-echo", "GET /"),
    ("a response's status", "response-headers set :status 203", "GET /"),
    (
        "a header that comes several times",
        "request-headers property request.headers.x-b as x-joined",
        "GET / x-b:1 x-b:2",
    ),
    ("a request's body changed", "request-body upper", "POST / =body"),
    (
        "a request's body made longer",
        "request-headers remove content-length\nrequest-body end append !",
        "POST / =body",
    ),
    (
        "a request's body replaced as a whole",
        "request-headers remove content-length\nrequest-body pause\nrequest-body end body other\nrequest-body end go",
        "POST / =body",
    ),
    ("a response's body changed", "response-headers remove content-length\nresponse-body upper", "GET /"),
    (
        "a response's body replaced",
        "response-headers remove content-length\nresponse-body pause\nresponse-body end body other\nresponse-body end go",
        "GET /",
    ),
    ("an answer instead of the request", "request-headers reply 403 no", "GET /"),
    ("an answer when the body is there", "request-body end reply 422 no", "POST / =body"),
    ("an answer instead of the response", "response-headers reply 451 gone", "GET /"),
    ("two answers", "request-headers reply 403 first\nrequest-headers reply 404 second", "GET /"),
    ("an answer of its own on the way out", "request-headers reply 403 no\nresponse-headers set x-a 1", "GET /"),
    (
        "the body of an answer of its own",
        "request-headers reply 403 no\nresponse-headers remove content-length\nresponse-body upper",
        "GET /",
    ),
    (
        "an answer of its own, answered again",
        "request-headers reply 403 no\nresponse-headers reply 404 another",
        "GET /",
    ),
    (
        "an answer of the proxy, since nobody is there",
        "response-headers property response.code as x-1\nresponse-headers set x-a 1",
        "GET / x-user-tag:canary-user",
    ),
    (
        "the body of an answer of the proxy",
        "response-headers remove content-length\nresponse-body end body other",
        "GET / x-user-tag:canary-user",
    ),
    ("an answer instead of one of the proxy", "response-headers reply 404 mine", "GET / x-user-tag:canary-user"),
    (
        "properties of the request",
        "request-headers property request.path as x-1\nrequest-headers property request.url_path as x-2\nrequest-headers property request.method as x-3\nrequest-headers property request.host as x-4\nrequest-headers property request.scheme as x-5\nrequest-headers property request.protocol as x-6\nrequest-headers property request.query as x-7",
        "GET /a/b?c=d",
    ),
    (
        "properties of the response",
        "response-headers property response.code as x-1\nresponse-headers property request.path as x-2",
        "GET /a",
    ),
    (
        "the request's header in the response",
        "request-headers set x-a 1\nresponse-headers property request.headers.x-a as x-was",
        "GET /",
    ),
    ("a property set and read", "request-headers put mine yes\nresponse-headers property mine as x-mine", "GET /"),
    ("a property that there is not", "request-headers property nobody.knows as x-1", "GET /"),
    ("a call to a service", "request-headers call UPSTREAM /asked", "GET /"),
    ("a call that nobody takes", "request-headers call REFUSING /", "GET /"),
    ("a call to no service", "request-headers call NOBODY /", "GET /"),
    ("shared data", "response-headers share count", "GET /"),
    ("a trap with the request's head", "request-headers panic", "GET /"),
    ("a trap with the response's head", "response-headers panic", "GET /"),
    ("a request that is broken off", "request-headers reset", "GET /"),
    ("a trap when all is over", "log panic", "GET /"),
];

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    status: String,
    headers: Vec<String>,
    body: String,
}

pub(crate) async fn run(weir: PathBuf) -> anyhow::Result<()> {
    ensure!(weir.exists(), "no Weir at {}: build it, or name it with --weir", weir.display());
    let directory = tempfile::Builder::new().prefix("weir-compare-").tempdir()?;
    let endpoint = echo().await?;
    let refusing = free_address()?;
    let (mut same, mut out) = (0, std::io::stdout());
    for (number, (name, script, request)) in CASES.into_iter().enumerate() {
        let mut seen = Vec::new();
        for peer in [Peer::Weir, Peer::Envoy] {
            let one = Trial { directory: &directory, weir: &weir, endpoint, refusing, number };
            seen.push(one.seen(peer, script, request).await.with_context(|| format!("{name}, {peer}"))?);
        }
        if seen[0] == seen[1] {
            same += 1;
            writeln!(out, "same       {name}: {} {}", seen[0].status, seen[0].headers.join(", "))?;
        } else {
            writeln!(out, "different  {name}")?;
            for (peer, seen) in ["weir ", "envoy"].iter().zip(&seen) {
                writeln!(
                    out,
                    "    {peer}  {} | {} | {}",
                    seen.status,
                    seen.headers.join(", "),
                    seen.body.replace('\n', " / ")
                )?;
            }
        }
    }
    writeln!(out, "{same} of {} the same", CASES.len())?;
    Ok(())
}

struct Trial<'t> {
    directory: &'t TempDir,
    weir: &'t std::path::Path,
    endpoint: SocketAddr,
    refusing: SocketAddr,
    number: usize,
}

impl Trial<'_> {
    async fn seen(&self, peer: Peer, script: &str, request: &str) -> anyhow::Result<Seen> {
        let names = match peer {
            Peer::Weir => ["web:80", "web-canary:80", "nobody:80"],
            _ => ["stable", "canary", "nobody"],
        };
        let script = ["UPSTREAM", "REFUSING", "NOBODY"]
            .iter()
            .zip(names)
            .fold(script.to_owned(), |script, (word, name)| script.replace(word, name));
        let directory = self.directory.path().join(format!("{}-{peer}", self.number));
        std::fs::create_dir_all(&directory)?;
        let backends = Addresses {
            stable: self.endpoint,
            canary: self.refusing,
            stable_http2: self.endpoint,
            canary_http2: self.refusing,
            healthy: self.endpoint,
            hanging: self.refusing,
            trickling: self.refusing,
            refusing: self.refusing,
            control: self.refusing,
        };
        let setup = Setup {
            versions: Versions::Http1,
            directory: &directory,
            address: free_address()?,
            backends: &backends,
            core: 1,
            weir: self.weir,
            plugin: Some(Plugin { name: "probe", configuration: &script }),
        };
        let launch = match peer {
            Peer::Weir => weir::launch(&setup, &weir::Rules::of(&setup))?,
            _ => envoy::launch(&setup)?,
        };
        let mut tree = start(&launch, peer, &setup).await?;
        // One was sent before, when it was waited for: this finds a plugin that runs.
        let seen = ask(setup.address, request).await;
        tree.check_alive()?;
        seen
    }
}

async fn start(launch: &Launch, peer: Peer, setup: &Setup<'_>) -> anyhow::Result<Tree> {
    let mut tree = Tree::start(launch, &peer.to_string(), setup.directory)?;
    let deadline = Instant::now() + READY;
    while TcpStream::connect(setup.address).await.is_err() {
        tree.check_alive()?;
        ensure!(Instant::now() < deadline, "it does not listen; its log ends with:\n{}", tree.log_end());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if peer == Peer::Weir {
        // It listens before it knows what for.
        loop {
            match ask(setup.address, "GET /").await {
                Ok(seen) if seen.status != "no answer" && !seen.body.contains("unknown_service") => break,
                seen => ensure!(Instant::now() < deadline, "it does not answer: {seen:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    } else {
        let _ = ask(setup.address, "GET /").await;
    }
    Ok(tree)
}

/// Sends a request as cases write it: method, target, headers as `name:value`, a body after `=`.
async fn ask(address: SocketAddr, request: &str) -> anyhow::Result<Seen> {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut head, mut body) = (format!("{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n"), "");
    for word in words {
        match (word.strip_prefix('='), word.split_once(':')) {
            (Some(text), _) => body = text,
            (None, Some((name, value))) => head.push_str(&format!("{name}: {value}\r\n")),
            (None, None) => {}
        }
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
        let mut all = Vec::new();
        // A connection that is reset has said what it has.
        let _ = stream.read_to_end(&mut all).await;
        std::io::Result::Ok(all)
    };
    let all = timeout(PATIENCE, exchange).await.context("it takes too long")??;
    Ok(parsed(&String::from_utf8_lossy(&all)))
}

fn parsed(text: &str) -> Seen {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Seen { status: "no answer".to_owned(), headers: Vec::new(), body: String::new() };
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let headers = headers(lines).into_iter().filter(|header| !header.starts_with("content-length")).collect();
    Seen { status, headers, body: if is_chunked { unchunked(body) } else { body.to_owned() } }
}

/// Those that are not the proxy's own, in order of their names.
fn headers<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<String> {
    let named = lines.filter_map(|line| line.split_once(':'));
    let named = named.map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
    let mut all: Vec<String> = named
        .filter(|(name, _)| !OWN.contains(&&**name) && !name.starts_with("x-weir"))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    all.sort();
    all
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(piece) = after.get(..size).filter(|piece| !piece.is_empty()) else { break };
        body.push_str(piece);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

/// An endpoint that answers with what it was asked.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What ends a connection is the proxy's business.
            tokio::spawn(async move { drop(answer(stream).await) });
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut unread = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break unread.drain(..end + 4).collect::<Vec<u8>>();
            }
            if stream.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let small = head.to_ascii_lowercase();
        let length = small.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let body = if small.contains("transfer-encoding: chunked") {
            while !unread.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut unread).await? == 0 {
                    return Ok(());
                }
            }
            unchunked(&String::from_utf8_lossy(&std::mem::take(&mut unread)))
        } else {
            let length: usize = length.unwrap_or(0);
            while unread.len() < length {
                if stream.read_buf(&mut unread).await? == 0 {
                    return Ok(());
                }
            }
            String::from_utf8_lossy(&unread.drain(..length).collect::<Vec<u8>>()).into_owned()
        };
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<_> =
            headers(lines).into_iter().filter(|header| !header.starts_with("content-length")).collect();
        let text = match first.contains("/asked") {
            // What a plugin makes a header of.
            true => first,
            false => format!("{first}\n{}\n{body}", headers.join("\n")),
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-echo: yes\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}
