//! Keys and certificates, and TLS with them: the only crate that knows rustls.

mod authorities;
mod authority;
mod certificate;
mod file;
mod folder;
mod keeper;
mod sealed;
mod server;
mod svid;
mod trust;
mod tunnel;

pub use authorities::{authorities, provider};
pub use authority::{AuthorityError, NodeAuthority, Root, is_node};
pub use certificate::{Certificate, CertificateError};
pub use folder::{Folder, Found};
pub use keeper::{Identities, IdentityState, Keeper, NODE_CERTIFICATE, NODE_KEY, Origin, REVOKED, ROOTS};
pub use sealed::{Passphrase, SealError};
pub use server::{Acceptor, Application, Hello, Server, ServerStream, TlsError};
pub use svid::Svid;
pub use trust::{Peer, Refusal, Trust, TrustError};
pub use tunnel::{Shown, Tls, TunnelAcceptor, TunnelConnector};
