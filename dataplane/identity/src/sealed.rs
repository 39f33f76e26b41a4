//! Private keys at rest: PKCS#8, sealed with a passphrase (RFC 5958, PBES2 of RFC 8018: scrypt and AES-256). What openssl
//! seals can be read, and the other way around. No key is ever written in the clear.

use std::fmt;

use pkcs8::der::pem::LineEnding;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};

/// What the PEM of a sealed key is called (RFC 7468, section 11).
const LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// Bytes of a passphrase: as many as the key that is derived of it, in a readable form.
const SHORTEST: usize = 16;

/// What seals private keys.
pub struct Passphrase(Box<[u8]>);

impl fmt::Debug for Passphrase {
    /// Without it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Why a key cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A passphrase that can be guessed.
    #[error("the passphrase has less than {SHORTEST} bytes")]
    TooShort,
    /// The file is not what a sealed key is.
    #[error("this is no sealed key (`BEGIN {LABEL}`): {0}")]
    NotSealed(String),
    /// It is another passphrase's.
    #[error("the key does not open with this passphrase")]
    Passphrase,
    /// It cannot be sealed.
    #[error("the key cannot be sealed: {0}")]
    Seal(String),
}

impl Passphrase {
    /// The contents of a file, without the end of its last line.
    ///
    /// # Errors
    /// When it is too short to keep anything.
    pub fn new(contents: &[u8]) -> Result<Self, SealError> {
        let text = contents.strip_suffix(b"\n").unwrap_or(contents);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() < SHORTEST { Err(SealError::TooShort) } else { Ok(Self(text.into())) }
    }

    /// Seals a key (PKCS#8, DER): PEM.
    pub(crate) fn seal(&self, key: &[u8]) -> Result<String, SealError> {
        let failed = |error: &dyn fmt::Display| SealError::Seal(error.to_string());
        let key = PrivateKeyInfoRef::try_from(key).map_err(|error| failed(&error))?;
        let sealed = key.encrypt(&self.0).map_err(|error| failed(&error))?;
        let pem = sealed.to_pem(LABEL, LineEnding::LF).map_err(|error| failed(&error))?;
        Ok(pem.to_string())
    }

    /// Opens a sealed key: PKCS#8, DER, which is forgotten when it is dropped.
    pub(crate) fn open(&self, pem: &str) -> Result<SecretDocument, SealError> {
        let failed = |error: &dyn fmt::Display| SealError::NotSealed(error.to_string());
        let (label, document) = SecretDocument::from_pem(pem).map_err(|error| failed(&error))?;
        if label != LABEL {
            return Err(SealError::NotSealed(format!("it is a {label}")));
        }
        let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| failed(&error))?;
        sealed.decrypt(&self.0).map_err(|_| SealError::Passphrase)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only() {
        let key = KeyPair::generate().unwrap().serialize_der();
        let passphrase = Passphrase::new(b"correct horse battery\n").unwrap();
        let pem = passphrase.seal(&key).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{pem}");
        assert_eq!(passphrase.open(&pem).unwrap().as_bytes(), key);
        assert_ne!(passphrase.seal(&key).unwrap(), pem, "salted");
        for (contents, text, expected) in [
            ("another horse battery", &*pem, "the key does not open with this passphrase"),
            ("correct horse battery", &*pem.replace("ENCRYPTED ", ""), "this is no sealed key"),
            ("correct horse battery", "", "this is no sealed key"),
            ("correct horse battery", &pem[..pem.len() / 2], "this is no sealed key"),
        ] {
            let error = Passphrase::new(contents.as_bytes()).unwrap().open(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(matches!(Passphrase::new(b"short"), Err(SealError::TooShort)));
        assert_eq!(format!("{passphrase:?}"), "Passphrase");
    }
}
