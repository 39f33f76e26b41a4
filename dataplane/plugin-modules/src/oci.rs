//! What is in an image: the three forms in which modules are published
//! (<https://github.com/solo-io/wasm/tree/master/spec>), and the one of the CNCF
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use weir_core::plugin::hexadecimal;

use crate::{Digest, MODULE_BYTES, digest_of};

/// Bytes of a manifest (the distribution specification asks registries to take as many).
pub(crate) const MANIFEST_BYTES: u64 = 4 << 20;

/// What layers are that have nothing but a module.
const PLAIN: [&str; 2] = ["application/vnd.module.wasm.content.layer.v1+wasm", "application/wasm"];

/// What layers are that are file systems, with a module in them.
const ARCHIVES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// What the module's file is called there.
const FILE: &str = "plugin.wasm";

/// Entries of an archive that are looked at.
const ENTRIES: usize = 10_000;

/// Why there is no module in an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// A piece cannot be had.
    #[error("{0}")]
    Unreadable(String),
    /// A piece is not what it is called.
    #[error("{what} is not what it is called: it comes to sha256:{}", hexadecimal(.is))]
    Forged {
        /// The piece.
        what: String,
        /// What it comes to.
        is: Digest,
    },
    /// A piece means nothing.
    #[error("{0}")]
    Malformed(String),
}

impl From<String> for OciError {
    fn from(reason: String) -> Self {
        Self::Unreadable(reason)
    }
}

/// A manifest, or an index of manifests.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
}

/// Which pieces there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Manifest,
    Blob,
}

/// The digest of 64 hexadecimal digits.
pub(crate) fn parse_digest(digits: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[place..place + 2], 16).ok()?;
    }
    Some(digest)
}

/// Where a layout has a piece (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
pub(crate) fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(hexadecimal(digest))
}

/// The module of the image that a manifest of this digest describes. `read` brings a piece, of at most so many bytes.
pub(crate) fn module(
    digest: &Digest,
    read: impl Fn(&Digest, Piece, u64) -> Result<Vec<u8>, OciError>,
) -> Result<Vec<u8>, OciError> {
    let piece = |digest: &Digest, piece, limit| {
        let bytes = read(digest, piece, limit)?;
        let is = digest_of(&bytes);
        let what = format!("sha256:{}", hexadecimal(digest));
        if is == *digest { Ok(bytes) } else { Err(OciError::Forged { what, is }) }
    };
    let malformed = |reason: &str| OciError::Malformed(reason.to_owned());
    let parse = |bytes: &[u8]| {
        serde_json::from_slice::<Manifest>(bytes).map_err(|error| malformed(&format!("the manifest is none: {error}")))
    };
    let of = |descriptor: &Descriptor| {
        let digits = descriptor.digest.strip_prefix("sha256:").and_then(parse_digest);
        digits.ok_or_else(|| malformed(&format!("the digest \"{}\" is none of SHA-256", descriptor.digest)))
    };
    let mut manifest = parse(&piece(digest, Piece::Manifest, MANIFEST_BYTES)?)?;
    if !manifest.manifests.is_empty() {
        let is_wasm = |one: &&Descriptor| one.platform.as_ref().is_some_and(|platform| platform.architecture == "wasm");
        let found = match &manifest.manifests[..] {
            [one] => Some(one),
            several => several.iter().find(is_wasm),
        };
        let found = found.ok_or_else(|| malformed("an index of several images, and none of them for wasm"))?;
        manifest = parse(&piece(&of(found)?, Piece::Manifest, MANIFEST_BYTES)?)?;
    }
    let layer = manifest.layers.iter().find(|layer| PLAIN.contains(&&*layer.media_type));
    if let Some(layer) = layer {
        return piece(&of(layer)?, Piece::Blob, bound(layer)?);
    }
    // Files of later layers come over those of earlier ones.
    let archives = manifest.layers.iter().rev().filter(|layer| ARCHIVES.contains(&&*layer.media_type));
    for layer in archives {
        let bytes = piece(&of(layer)?, Piece::Blob, bound(layer)?)?;
        let is_compressed = layer.media_type.ends_with("gzip");
        if let Some(found) = unpack(&bytes, is_compressed).map_err(|error| malformed(&error.to_string()))? {
            return Ok(found);
        }
    }
    let types: Vec<_> = manifest.layers.iter().map(|layer| &*layer.media_type).collect();
    Err(malformed(&format!("no layer has a module: they are of the types {}", types.join(", "))))
}

/// How much of a layer is read.
fn bound(layer: &Descriptor) -> Result<u64, OciError> {
    if layer.size > MODULE_BYTES {
        return Err(OciError::Malformed(format!("a layer has {} bytes, more than {MODULE_BYTES}", layer.size)));
    }
    Ok(MODULE_BYTES)
}

/// The module in an archive.
fn unpack(bytes: &[u8], is_compressed: bool) -> std::io::Result<Option<Vec<u8>>> {
    if is_compressed { find(GzDecoder::new(bytes)) } else { find(bytes) }
}

fn find(archive: impl std::io::Read) -> std::io::Result<Option<Vec<u8>>> {
    // A small archive may become a large one: what comes before the module counts as well.
    let bounded = archive.take(MODULE_BYTES * 2);
    let mut archive = tar::Archive::new(bounded);
    for entry in archive.entries()?.take(ENTRIES) {
        let entry = entry?;
        let is_it = entry.path()?.file_name().is_some_and(|name| name == FILE);
        if !is_it || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut module = Vec::new();
        entry.take(MODULE_BYTES + 1).read_to_end(&mut module)?;
        if module.len() as u64 > MODULE_BYTES {
            return Err(std::io::Error::other(format!("{FILE} has more than {MODULE_BYTES} bytes")));
        }
        return Ok(Some(module));
    }
    Ok(None)
}
