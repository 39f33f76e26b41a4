//! TLS between nodes: TLS 1.3, both sides with a workload's certificate, inside it HTTP/2.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use weir_core::authorization::Principal;

use crate::server::TlsError;
use crate::svid::Svid;
use crate::trust::{Peer, Refusal, Side, Trust};

/// What is spoken inside, by its name in RFC 7301.
const HTTP2: &[u8] = b"h2";
/// Tickets that a client keeps: of one peer.
const TICKETS: usize = 2;

/// A peer as it was when it was believed, and what it has shown, so that it can be asked again whether it still is.
#[derive(Clone)]
pub struct Shown {
    /// Who it is.
    pub peer: Peer,
    chain: Arc<[CertificateDer<'static>]>,
    side: Side,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Shown {
    /// Whether it is still believed. That its time is over meanwhile does not count: the connection was made before.
    pub fn is_believed(&self, trust: &Trust, now: SystemTime) -> bool {
        let last = self.peer.not_after - Duration::from_secs(1);
        trust.verify(&self.chain, self.side, now.min(last)).is_ok_and(|peer| peer.principal == self.peer.principal)
    }
}

/// What all tunnels of a node have in common.
#[derive(Clone, Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    /// Seals what clients bring when they come again; made anew when the trust is another.
    tickets: Arc<dyn ProducesTickets>,
}

impl Tls {
    /// TLS 1.3 with what rustls holds to be safe, X25519MLKEM768 before all other groups.
    ///
    /// # Errors
    /// When there are no random numbers to be had.
    pub fn new(trust: Arc<Trust>) -> Result<Self, TlsError> {
        let provider = crate::authorities::provider();
        Ok(Self { provider, trust, tickets: rustls::crypto::aws_lc_rs::Ticketer::new()? })
    }

    /// Answers for a workload.
    ///
    /// # Errors
    /// When the library does not know its own defaults.
    pub fn acceptor(&self, own: &Svid) -> Result<TunnelAcceptor, TlsError> {
        let verifier =
            Arc::new(Verifier { provider: Arc::clone(&self.provider), trust: Arc::clone(&self.trust), expected: None });
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let mut config =
            builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(Own(Arc::clone(&own.key))));
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.ticketer = Arc::clone(&self.tickets);
        config.send_tls13_tickets = 1;
        Ok(TunnelAcceptor { acceptor: Arc::new(config).into(), trust: Arc::clone(&self.trust) })
    }

    /// Calls in the name of a workload, and hangs up when another answers than this.
    ///
    /// # Errors
    /// When the library does not know its own defaults.
    pub fn connector(&self, own: &Svid, expected: &Principal) -> Result<TunnelConnector, TlsError> {
        let (provider, trust) = (Arc::clone(&self.provider), Arc::clone(&self.trust));
        let verifier = Arc::new(Verifier { provider, trust, expected: Some(expected.clone()) });
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13])?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_cert_resolver(Arc::new(Own(Arc::clone(&own.key))));
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.enable_sni = false;
        // Of its own: a ticket is what another workload must not come with.
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(TICKETS)));
        Ok(TunnelConnector {
            connector: Arc::new(config).into(),
            trust: Arc::clone(&self.trust),
            expected: expected.clone(),
        })
    }
}

/// Answers handshakes in the name of one workload.
#[derive(Clone)]
pub struct TunnelAcceptor {
    acceptor: TlsAcceptor,
    trust: Arc<Trust>,
}

impl fmt::Debug for TunnelAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelAcceptor")
    }
}

impl TunnelAcceptor {
    /// Does the handshake. Without a bound on the time; messages have one.
    ///
    /// # Errors
    /// When the client goes away or is not believed.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<(TlsStream<S>, Shown)> {
        let stream = self.acceptor.accept(stream).await?;
        let (_, connection) = stream.get_ref();
        // Of who comes again nothing is shown, and so nothing was checked.
        let shown = shown(connection.peer_certificates(), Side::Client, &self.trust)?;
        Ok((stream.into(), shown))
    }
}

/// Calls one workload in the name of another.
#[derive(Clone)]
pub struct TunnelConnector {
    connector: TlsConnector,
    trust: Arc<Trust>,
    expected: Principal,
}

impl fmt::Debug for TunnelConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelConnector").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl TunnelConnector {
    /// Does the handshake with what answers at this address. Without a bound on the time; messages have one.
    ///
    /// # Errors
    /// When the server goes away, or is not the workload that was called.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        address: std::net::IpAddr,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Shown)> {
        let stream = self.connector.connect(ServerName::IpAddress(address.into()), stream).await?;
        let (_, connection) = stream.get_ref();
        let shown = shown(connection.peer_certificates(), Side::Server, &self.trust)?;
        // The verifier has seen to it, but for one who is known from an earlier time.
        if shown.peer.principal != self.expected {
            let refusal = Refusal::Unexpected { found: shown.peer.principal, expected: self.expected.clone() };
            return Err(io::Error::new(io::ErrorKind::InvalidData, refusal));
        }
        Ok((stream.into(), shown))
    }
}

fn shown(chain: Option<&[CertificateDer<'static>]>, side: Side, trust: &Trust) -> io::Result<Shown> {
    let chain = chain.unwrap_or_default();
    let peer = trust.verify(chain, side, SystemTime::now());
    let peer = peer.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
    Ok(Shown { peer, chain: chain.into(), side })
}

/// A workload's own certificate, for every handshake.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Asks the trust bundle.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Arc<Trust>,
    /// Who must answer.
    expected: Option<Principal>,
}

impl Verifier {
    fn verify(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<Peer, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(first).chain(others).cloned().collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let peer = self.trust.verify(&chain, side, now)?;
        match &self.expected {
            Some(expected) if peer.principal != *expected => {
                Err(Refusal::Unexpected { found: peer.principal, expected: expected.clone() }.into())
            }
            _ => Ok(peer),
        }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(first, others, Side::Server, now).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    /// None: a client has one certificate, whatever roots there are.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(first, others, Side::Client, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests;
