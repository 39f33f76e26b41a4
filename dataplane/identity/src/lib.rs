//! Keys and certificates, and TLS with them: the only crate that knows rustls.

mod authorities;
mod certificate;
mod folder;
mod server;

pub use authorities::{authorities, provider};
pub use certificate::{Certificate, CertificateError};
pub use folder::{Folder, Found};
pub use server::{Acceptor, Application, Hello, Server, ServerStream, TlsError};
