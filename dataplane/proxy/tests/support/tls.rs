//! Clients that speak TLS, and certificates for the servers that they speak it with.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::PATIENCE;
use super::message::{self, Message};

/// A folder with certificates, as the settings name one.
pub struct Certificates {
    dir: TempDir,
    trusted: RootCertStore,
}

impl Certificates {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), trusted: RootCertStore::empty() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts a certificate for a name there, in place of one that there is; clients trust both.
    pub fn put(&mut self, certificate: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = self.path().join("default").join(certificate);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tls.crt"), made.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        self.trusted.add(CertificateDer::from_pem_slice(made.pem().as_bytes()).unwrap()).unwrap();
    }

    /// What a client needs that trusts all of these.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(self.trusted.clone()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A connection to a name, where whoever listens there says that it is that.
    pub fn connect(&self, address: SocketAddr, name: &'static str, alpn: &[&str]) -> Client {
        self.try_connect(address, name, alpn).unwrap()
    }

    /// The same, or why there is none.
    pub fn try_connect(&self, address: SocketAddr, name: &'static str, alpn: &[&str]) -> std::io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let connection = ClientConnection::new(self.client(alpn), ServerName::try_from(name).unwrap());
        let mut stream = StreamOwned::new(connection.map_err(std::io::Error::other)?, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Client { stream, unread: Vec::new() })
    }
}

/// A client's connection after the handshake.
pub struct Client {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    unread: Vec<u8>,
}

impl Client {
    /// Sends all of it, in one record where it fits.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next response. Panics when there is none.
    pub fn receive(&mut self) -> Message {
        message::read(&mut self.stream, &mut self.unread, message::Kind::Response).expect("a whole response")
    }

    pub fn ask(&mut self, request: &str) -> Message {
        self.send(request);
        self.receive()
    }

    /// Everything until the other side says that this is the end. An end that nobody announced is an error.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Says that nothing more comes.
    pub fn end(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
        self.stream.sock.shutdown(Shutdown::Write).unwrap();
    }
}
