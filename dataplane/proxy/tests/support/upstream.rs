//! Endpoints that behave as the test wants, well or badly.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use super::PATIENCE;
use super::message::{self, Kind, Message};

/// An endpoint. It ends with the test.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Message>>>,
    is_over: Arc<AtomicBool>,
}

impl Upstream {
    /// Hands every connection to `serve`, on a thread of its own.
    pub fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::with(move |stream, _| serve(stream))
    }

    fn with(serve: impl Fn(TcpStream, &Mutex<Vec<Message>>) + Send + Sync + 'static) -> Self {
        Self::with_at("127.0.0.1:0", serve)
    }

    fn with_at(at: &str, serve: impl Fn(TcpStream, &Mutex<Vec<Message>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            is_over: Arc::default(),
        };
        let (connections, requests) = (Arc::clone(&upstream.connections), Arc::clone(&upstream.requests));
        let (is_over, serve) = (Arc::clone(&upstream.is_over), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let (serve, requests) = (Arc::clone(&serve), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &requests));
            }
        });
        upstream
    }

    /// Answers each request with the bytes that `answer` makes of it, and keeps the connection.
    pub fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::answering_at("127.0.0.1:0", answer)
    }

    fn answering_at(at: &str, answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::with_at(at, move |mut stream, requests| {
            let mut unread = Vec::new();
            while let Ok(request) = message::read(&mut stream, &mut unread, Kind::Request) {
                let bytes = answer(&request);
                requests.lock().unwrap().push(request);
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers with each of these statuses in turn, and then always with the last.
    pub fn answering_in_turn(statuses: &'static [u16]) -> Self {
        let count = AtomicUsize::new(0);
        Self::answering(move |_| {
            let turn = count.fetch_add(1, Ordering::SeqCst).min(statuses.len() - 1);
            response(statuses[turn], b"")
        })
    }

    /// Answers every request with 200 and this text.
    pub fn saying(text: &'static str) -> Self {
        Self::saying_at("127.0.0.1:0", text)
    }

    /// The same at an address.
    pub fn saying_at(at: &str, text: &'static str) -> Self {
        Self::answering_at(at, move |_| response(200, text.as_bytes()))
    }

    /// Sends this text at once, then reads until the other side closes.
    pub fn raw_at(at: &str, text: &'static str) -> Self {
        Self::with_at(at, move |mut stream, _| {
            let _client_may_be_gone = stream.write_all(text.as_bytes());
            let _same = std::io::copy(&mut stream, &mut std::io::sink());
        })
    }

    /// Reads a request, then does this to the connection.
    pub fn after_request(then: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::with(move |mut stream, requests| {
            if let Ok(request) = message::read(&mut stream, &mut Vec::new(), Kind::Request) {
                requests.lock().unwrap().push(request);
                then(stream);
            }
        })
    }

    /// Accepts and never answers, until the other side closes.
    pub fn hanging() -> Self {
        Self::raw(|mut stream| {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        })
    }

    /// Reads nothing before it is told to, and then answers with 200, once for each time it is told.
    pub fn late(begin: Receiver<()>) -> Self {
        let begin = Mutex::new(begin);
        Self::with(move |mut stream, requests| {
            begin.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            if let Ok(request) = message::read(&mut stream, &mut Vec::new(), Kind::Request) {
                requests.lock().unwrap().push(request);
                stream.write_all(&response(200, b"")).unwrap();
            }
        })
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Lets the accepting thread see that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// An address where nobody listens.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A response with a body of known length.
pub fn response(status: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
