//! Where a plugin's module comes from, as people write it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weir_core::plugin::{ModuleLocation, ModuleSource};

use crate::check::Checker;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with file, url, image or layout, and sha256")]
pub(super) struct ModuleSpec {
    file: Option<String>,
    url: Option<String>,
    image: Option<String>,
    layout: Option<String>,
    sha256: Option<String>,
}

impl ModuleSpec {
    pub(super) fn normalise(&mut self) {
        self.sha256.iter_mut().for_each(|digits| digits.make_ascii_lowercase());
    }

    /// The module as valid.
    pub(super) fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<ModuleSource> {
        let Self { file, url, image, layout, sha256 } = self;
        let sha256 = sha256.as_ref().and_then(|text| {
            let digest = digest(text);
            if digest.is_none() {
                checker.error_at("sha256", format!("must be 64 hexadecimal digits, is \"{text}\""));
            }
            digest
        });
        let forms = [("file", file), ("url", url), ("image", image), ("layout", layout)];
        let written = forms.map(|(key, text)| Some(key).zip(text.as_deref()));
        let mut written = written.into_iter().flatten();
        let Some((form, text)) = written.next() else {
            checker.missing("file", "must name a file, or say url, image or layout instead");
            return None;
        };
        if let Some((other, _)) = written.next() {
            checker.error_at(other, format!("there is {form} already: a module comes from one place"));
            return None;
        }
        let from = match form {
            "file" if text.is_empty() => {
                checker.error_at("file", "must name a file");
                return None;
            }
            "file" => Some(ModuleLocation::File(PathBuf::from(text))),
            "url" => {
                if self.sha256.is_none() {
                    checker.missing("sha256", "a module that comes from elsewhere must say what its bytes come to");
                }
                self::url(text, checker)
            }
            "image" => self::image(text, checker),
            _ => self::layout(text, checker),
        };
        Some(ModuleSource { from: from?, sha256 })
    }
}

fn url(text: &str, checker: &mut Checker<'_>) -> Option<ModuleLocation> {
    let parsed: Option<http::Uri> = text.parse().ok();
    let parsed = parsed.filter(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some());
    let has_user = parsed.as_ref().and_then(|uri| uri.authority()).is_some_and(|one| one.as_str().contains('@'));
    if parsed.is_none() || has_user {
        checker.error_at("url", format!("must be an address of https or http, without a user, is \"{text}\""));
        return None;
    }
    Some(ModuleLocation::Url(text.into()))
}

/// A reference with a digest: what is before it, and the digest.
fn pinned(text: &str) -> Option<(&str, [u8; 32])> {
    let (name, digits) = text.split_once("@sha256:")?;
    Some((name, digest(digits)?)).filter(|(name, _)| !name.is_empty())
}

fn image(text: &str, checker: &mut Checker<'_>) -> Option<ModuleLocation> {
    let parsed = pinned(text.strip_prefix("oci://").unwrap_or(text)).and_then(|(name, digest)| {
        let (registry, repository) = name.split_once('/')?;
        let is_host = registry.contains(['.', ':']) || registry == "localhost";
        // The grammar of the distribution specification, but for the length.
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
                && part.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        // A tag beside the digest says nothing more.
        let repository = repository.split_once(':').map_or(repository, |(repository, _)| repository);
        let is_valid = is_host && repository.split('/').all(is_part);
        is_valid.then(|| ModuleLocation::Image { registry: registry.into(), repository: repository.into(), digest })
    });
    if parsed.is_none() {
        let message = format!(
            "must be an image with its registry and digest, like registry.example/plugins/a@sha256:..., is \"{text}\""
        );
        checker.error_at("image", message);
    }
    parsed
}

fn layout(text: &str, checker: &mut Checker<'_>) -> Option<ModuleLocation> {
    let parsed = pinned(text);
    if parsed.is_none() {
        let message =
            format!("must be a folder with the digest of a manifest, like plugins/a@sha256:..., is \"{text}\"");
        checker.error_at("layout", message);
    }
    parsed.map(|(folder, digest)| ModuleLocation::Layout { folder: PathBuf::from(folder), digest })
}

/// The bytes of 64 hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(digest)
}
