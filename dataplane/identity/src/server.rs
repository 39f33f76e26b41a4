//! The server's side of TLS: the first message of a client, then the rest of the handshake with what that asks for.

use std::io::{self, BufRead, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::certificate::Certificate;

/// What is spoken inside, by the names of RFC 7301.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// TLS cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// What all listeners have in common.
#[derive(Debug)]
pub struct Server {
    provider: Arc<CryptoProvider>,
    /// Seals what clients bring when they come again. The keys are in memory only, and change every six hours.
    tickets: Arc<dyn ProducesTickets>,
}

impl Server {
    /// TLS 1.2 and 1.3 with the suites and groups that rustls holds to be safe, X25519MLKEM768 before all others.
    ///
    /// # Errors
    /// When there are no random numbers to be had.
    pub fn new() -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(Self { provider, tickets: aws_lc_rs::Ticketer::new()? })
    }

    /// What a listener with these certificates answers with. Without any, it refuses.
    ///
    /// # Errors
    /// When the library does not know its own defaults.
    pub fn acceptor(&self, certificates: Vec<Arc<Certificate>>) -> Result<Acceptor, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(Choice(certificates)));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.ticketer = Arc::clone(&self.tickets);
        Ok(Acceptor(Arc::new(config)))
    }
}

/// What a listener answers handshakes with.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<ServerConfig>);

/// The certificates of a listener.
#[derive(Debug)]
struct Choice(Vec<Arc<Certificate>>);

impl ResolvesServerCert for Choice {
    /// The first that is for the name and that the client can check; else the first that it can check.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_check = |one: &&Arc<Certificate>| one.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let is_for = |one: &&Arc<Certificate>| hello.server_name().is_some_and(|name| one.is_for(name));
        let checked = || self.0.iter().filter(can_check);
        checked().find(is_for).or_else(|| checked().next()).map(|one| Arc::clone(&one.key))
    }
}

/// A client that has said what it wants.
pub struct Hello(StartHandshake<TcpStream>);

impl Hello {
    /// Waits for a client's first message. Without a bound on the time; its length has one.
    ///
    /// # Errors
    /// When the client goes away, or does not speak TLS.
    pub async fn read(stream: TcpStream) -> io::Result<Self> {
        LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.map(Self)
    }

    /// The name that the client connects to, in lower case (RFC 6066, section 3).
    pub fn server_name(&self) -> Option<Box<str>> {
        self.0.client_hello().server_name().map(|name| name.to_ascii_lowercase().into())
    }

    /// Goes on with the handshake to its end. Without a bound on the time.
    ///
    /// # Errors
    /// When the client goes away, or has nothing in common with the server.
    pub async fn answer(self, acceptor: &Acceptor) -> io::Result<ServerStream> {
        self.0.into_stream(Arc::clone(&acceptor.0)).await.map(ServerStream)
    }
}

/// What is spoken inside of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A client's connection in TLS.
#[derive(Debug)]
pub struct ServerStream(TlsStream<TcpStream>);

impl ServerStream {
    /// The connection that it goes over.
    pub fn tcp(&self) -> &TcpStream {
        self.0.get_ref().0
    }

    /// What both sides have agreed to speak, if they have.
    pub fn application(&self) -> Option<Application> {
        match self.0.get_ref().1.alpn_protocol() {
            Some(HTTP2) => Some(Application::Http2),
            Some(HTTP1) => Some(Application::Http1),
            _ => None,
        }
    }

    /// Which version of TLS it is, as its specification calls it: `TLSv1.2`, `TLSv1.3`.
    pub fn version(&self) -> &'static str {
        match self.0.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        }
    }

    /// Whether something can be read without the connection bringing any more: bytes, or the end.
    pub fn is_readable(&mut self) -> bool {
        self.0.get_mut().1.reader().fill_buf().is_ok()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Certificates that are made for tests.

    use rcgen::{CertificateParams, KeyPair};

    /// A certificate and its key, in PEM.
    pub(crate) struct Made {
        pub(crate) chain: String,
        pub(crate) key: String,
    }

    impl Made {
        /// One for these names, which vouches for itself.
        pub(crate) fn new(names: &[&str]) -> Self {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let chain = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
            Self { chain, key: key.serialize_pem() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::testing::Made;
    use super::*;

    fn certificate(made: &Made) -> Arc<Certificate> {
        Arc::new(Certificate::read(made.chain.as_bytes(), made.key.as_bytes()).unwrap())
    }

    fn client(trusted: &[&Made], alpn: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for made in trusted {
            roots.add(CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
        config
    }

    /// Both ends of a connection, as far as they come.
    async fn connect(
        acceptor: &Acceptor,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> (io::Result<(ServerStream, Option<Box<str>>)>, io::Result<tokio_rustls::client::TlsStream<TcpStream>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let hello = Hello::read(listener.accept().await.unwrap().0).await?;
            let name = hello.server_name();
            Ok((hello.answer(acceptor).await?, name))
        };
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
        };
        let both = async { tokio::join!(server, client) };
        tokio::time::timeout(Duration::from_secs(30), both).await.unwrap()
    }

    #[tokio::test]
    async fn the_name_chooses_the_certificate_and_both_agree_on_what_to_speak() {
        let (shop, wild) = (Made::new(&["shop.example.com"]), Made::new(&["*.example.com"]));
        let acceptor = Server::new().unwrap().acceptor(vec![certificate(&wild), certificate(&shop)]).unwrap();
        let cases: [(&Made, &str, &[&[u8]], Option<Application>); 5] = [
            (&shop, "shop.example.com", &[HTTP1], Some(Application::Http1)),
            (&wild, "other.example.com", &[HTTP1, HTTP2], Some(Application::Http2)),
            // The wild one comes first, and is for it as well.
            (&wild, "shop.example.com", &[HTTP2], Some(Application::Http2)),
            (&wild, "other.example.com", &[], None),
            (&wild, "other.example.com", &[b"h3"], None),
        ];
        for (trusted, name, alpn, expected) in cases {
            let (server, client) = connect(&acceptor, &Arc::new(client(&[trusted], alpn)), name).await;
            if alpn == [b"h3"] {
                assert!(client.unwrap_err().to_string().contains("NoApplicationProtocol"));
                assert!(server.is_err());
                continue;
            }
            if std::ptr::eq(trusted, &raw const shop) {
                assert!(client.is_err(), "the wild one is shown");
                continue;
            }
            let (server, asked) = server.unwrap();
            assert_eq!((server.application(), asked.as_deref()), (expected, Some(name)), "{name} {alpn:?}");
            let client = client.unwrap();
            assert_eq!(client.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        }
    }

    #[tokio::test]
    async fn without_a_certificate_there_is_no_connection() {
        let acceptor = Server::new().unwrap().acceptor(Vec::new()).unwrap();
        let (server, client) = connect(&acceptor, &Arc::new(client(&[], &[])), "a").await;
        assert!(server.is_err());
        assert!(client.unwrap_err().to_string().contains("AccessDenied"));
    }

    #[tokio::test]
    async fn a_client_that_comes_again_is_known() {
        let made = Made::new(&["a"]);
        let server = Server::new().unwrap();
        let config = Arc::new(client(&[&made], &[]));
        for is_known in [false, true] {
            // Another acceptor: a certificate that was renewed makes no client begin anew.
            let acceptor = server.acceptor(vec![certificate(&made)]).unwrap();
            let (server, client) = connect(&acceptor, &config, "a").await;
            let (mut server, mut client) = (server.unwrap().0, client.unwrap());
            let kind = client.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), is_known, "{kind:?}");
            server.write_all(b"x").await.unwrap();
            server.shutdown().await.unwrap();
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"x");
        }
    }

    #[tokio::test]
    async fn what_is_there_already_is_told() {
        let made = Made::new(&["a"]);
        let acceptor = Server::new().unwrap().acceptor(vec![certificate(&made)]).unwrap();
        let (server, client) = connect(&acceptor, &Arc::new(client(&[&made], &[])), "a").await;
        let (mut server, mut client) = (server.unwrap().0, client.unwrap());
        assert!(!server.is_readable());
        client.write_all(b"xy").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        assert!(server.is_readable());
        assert_eq!(server.read_u8().await.unwrap(), b'y');
        assert!(!server.is_readable());
    }
}
