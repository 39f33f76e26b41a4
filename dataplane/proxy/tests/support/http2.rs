//! HTTP/2 on both sides of the proxy: a client, and endpoints that behave as the test wants.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::PATIENCE;

/// Runs a test's part in HTTP/2, which must not take longer than tests wait.
pub fn run<T>(part: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, part).await.expect("a test that ends in time") })
}

/// Waits until a condition is true, as [`super::until`] does, and lets the client work meanwhile.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A message as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    pub method: Method,
    pub target: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Arrived {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The rest of a message.
pub async fn rest(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok((all, body.trailers().await?))
}

/// A client's connection.
pub struct Client {
    sender: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &h2::client::Builder::new()).await
    }

    pub async fn connect_with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::speak(stream, builder).await
    }

    /// From this address of the machine.
    pub async fn connect_from(source: &str, address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source.parse::<std::net::IpAddr>().unwrap(), 0))).unwrap();
        Self::speak(socket.connect(address).await.unwrap(), builder).await
    }

    /// Over a connection in TLS that was made to a name, by what both sides have agreed on.
    pub async fn connect_tls(address: SocketAddr, config: Arc<rustls::ClientConfig>, name: &'static str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::speak(stream, &h2::client::Builder::new()).await
    }

    async fn speak(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &h2::client::Builder,
    ) -> Self {
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    /// Begins a request whose body, if any, is sent by the caller.
    pub async fn begin(&mut self, request: Request<()>, is_end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender = self.sender.clone().ready().await.unwrap();
        self.sender.send_request(request, is_end).unwrap()
    }

    /// Whether the connection still takes requests.
    pub async fn try_begin(&mut self) -> bool {
        tokio::task::yield_now().await;
        match self.sender.clone().ready().await {
            Ok(sender) => {
                self.sender = sender;
                true
            }
            Err(_) => false,
        }
    }

    /// The reply to a request, or how its stream ended.
    pub async fn try_ask(&mut self, request: Request<&[u8]>) -> Result<Arrived, h2::Error> {
        let (head, body) = request.into_parts();
        let (response, mut stream) = self.begin(Request::from_parts(head, ()), body.is_empty()).await;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, body) = response.await?.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        let (body, trailers) = rest(body).await?;
        Ok(Arrived { status, headers, body, trailers, ..Arrived::default() })
    }

    pub async fn ask(&mut self, request: Request<&[u8]>) -> Arrived {
        self.try_ask(request).await.unwrap()
    }

    /// Waits until the proxy has ended the connection; with the error that it ends it for.
    pub async fn end(self) -> Result<(), h2::Error> {
        // Without whom the client would end it.
        let _sender = self.sender;
        self.driver.await.unwrap()
    }
}

/// A GET of a path at the host `a`.
pub fn get(path: &str) -> Request<&'static [u8]> {
    Request::get(format!("http://a{path}")).body(&b""[..]).unwrap()
}

/// A call of gRPC with this message.
pub fn call(path: &str, message: &'static [u8]) -> Request<&'static [u8]> {
    let call = Request::post(format!("http://a{path}")).header("content-type", "application/grpc");
    call.header("te", "trailers").body(message).unwrap()
}

/// An endpoint. It ends with the test.
pub struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Arrived>>>,
}

/// What an endpoint answers.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Bytes,
    pub trailers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    pub fn text(text: &'static str) -> Self {
        Self { status: 200, headers: Vec::new(), body: text.into(), trailers: Vec::new() }
    }
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

impl Upstream {
    /// Gives every request to `serve`, each in a task of its own.
    pub fn serving<F>(serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(h2::server::Builder::new(), move |request, reply, _| serve(request, reply))
    }

    pub fn with<F>(
        builder: h2::server::Builder,
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>, Arc<Mutex<Vec<Arrived>>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::serve(builder, None, serve)
    }

    fn serve<F>(
        builder: h2::server::Builder,
        most: Option<usize>,
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>, Arc<Mutex<Vec<Arrived>>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let upstream =
            Self { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (Arc::clone(&upstream.connections), Arc::clone(&upstream.requests));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    stream.set_nodelay(true).unwrap();
                    let (serve, requests, builder) = (Arc::clone(&serve), Arc::clone(&requests), builder.clone());
                    tokio::spawn(async move {
                        let Ok(mut connection) = builder.handshake(stream).await else { return };
                        let mut count = 0;
                        while let Some(Ok((request, reply))) = connection.accept().await {
                            tokio::spawn(serve(request, reply, Arc::clone(&requests)));
                            count += 1;
                            if Some(count) == most {
                                connection.graceful_shutdown();
                            }
                        }
                    });
                }
            });
        });
        upstream
    }

    /// Answers every request when it is told to.
    pub fn held() -> (Self, tokio::sync::watch::Sender<bool>) {
        let (go, wait) = tokio::sync::watch::channel(false);
        let upstream = Self::serving(move |_, mut reply| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|go| *go).await.unwrap();
                reply.send_response(Response::new(()), true).unwrap();
            }
        });
        (upstream, go)
    }

    /// Answers every request with its path, and takes only so many on one connection, as servers do that want their
    /// load spread anew.
    pub fn retiring_after(most: usize) -> Self {
        Self::serve(h2::server::Builder::new(), Some(most), |request, mut reply, _| async move {
            let path = Bytes::from(request.uri().path().to_owned());
            let mut stream = reply.send_response(Response::new(()), false).unwrap();
            stream.send_data(path, true).unwrap();
        })
    }

    /// Answers each request that has arrived whole.
    pub fn answering(answer: impl Fn(&Arrived) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::with(h2::server::Builder::new(), move |request, reply, requests| {
            let answer = Arc::clone(&answer);
            async move {
                let (head, body) = request.into_parts();
                let Ok((body, trailers)) = rest(body).await else { return };
                let (method, target, headers) = (head.method, head.uri.to_string(), head.headers);
                let arrived = Arrived { method, target, headers, body, trailers, status: 0 };
                let answer = answer(&arrived);
                requests.lock().unwrap().push(arrived);

                let _ = answer.send(reply);
            }
        })
    }

    pub fn saying(text: &'static str) -> Self {
        Self::answering(move |_| Answer::text(text))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Arrived> {
        self.requests.lock().unwrap().clone()
    }
}

impl Answer {
    fn send(self, mut reply: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        *response.headers_mut() = fields(&self.headers);
        let is_end = self.body.is_empty() && self.trailers.is_empty();
        let mut stream = reply.send_response(response, is_end)?;
        if is_end {
            return Ok(());
        }
        stream.send_data(self.body, self.trailers.is_empty())?;
        if !self.trailers.is_empty() {
            stream.send_trailers(fields(&self.trailers))?;
        }
        Ok(())
    }
}
