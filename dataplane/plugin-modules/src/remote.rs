//! Modules by HTTP: from addresses, and from registries
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};
use weir_core::plugin::{ModuleLocation, ModuleSource, hexadecimal};

use crate::oci::{self, OciError, Piece};
use crate::{Digest, MODULE_BYTES};

/// How long it takes to connect, and until there is the head of an answer.
const CONNECT: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(20);

/// How long a whole request may take: 64 MiB at a megabit in a second.
const WHOLE: Duration = Duration::from_secs(600);

/// Times that a request is sent elsewhere, as registries do it with blobs.
const REDIRECTS: u32 = 5;

/// Bytes of an answer of a server of tokens.
const TOKEN_BYTES: u64 = 256 << 10;

/// What manifests are.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// How a registry is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Its name as images have it: the host, perhaps with a port.
    pub host: String,
    /// Whether it is asked without TLS.
    #[serde(default)]
    pub plain: bool,
    /// Who asks.
    #[serde(default)]
    pub username: Option<String>,
    /// The file with the password, or with a token.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// What is asked by HTTP.
#[derive(Debug)]
pub struct Remote {
    /// With roots, those that are trusted instead of the host's.
    roots: Option<PathBuf>,
    registries: Vec<Registry>,
}

/// Why something was not brought.
type Failed = String;

impl Remote {
    /// With registries that need more than their names, and the file with the certificates of those that are trusted, if
    /// these are not the host's.
    pub fn new(registries: Vec<Registry>, roots: Option<PathBuf>) -> Self {
        Self { roots, registries }
    }

    /// The bytes of a module.
    pub(crate) fn fetch(&self, source: &ModuleSource) -> Result<Vec<u8>, Failed> {
        let agent = self.agent()?;
        match &source.from {
            ModuleLocation::Url(url) => {
                let response = agent.get(&**url).call().map_err(|error| error.to_string())?;
                body(ok(response)?, MODULE_BYTES)
            }
            ModuleLocation::Image { registry, repository, digest } => {
                let known = self.registries.iter().find(|known| *known.host == **registry);
                let asked = Asked { agent: &agent, registry, repository, known, token: std::cell::RefCell::default() };
                oci::module(digest, |digest, piece, limit| asked.piece(digest, piece, limit).map_err(OciError::from))
                    .map_err(|error| error.to_string())
            }
            ModuleLocation::File(_) | ModuleLocation::Layout { .. } => Err("it is no address".to_owned()),
        }
    }

    fn agent(&self) -> Result<Agent, Failed> {
        let roots = weir_identity::authorities(self.roots.as_deref())?;
        let roots = roots.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(weir_identity::provider())
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(REDIRECTS)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(HEAD))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(config.new_agent())
    }
}

fn ok(response: Response<Body>) -> Result<Response<Body>, Failed> {
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(format!("the answer is {status}")),
    }
}

fn body(response: Response<Body>, limit: u64) -> Result<Vec<u8>, Failed> {
    let read = response.into_body().into_with_config().limit(limit).read_to_vec();
    read.map_err(|error| error.to_string())
}

/// A repository that is asked.
struct Asked<'a> {
    agent: &'a Agent,
    registry: &'a str,
    repository: &'a str,
    known: Option<&'a Registry>,
    /// What it wants to see.
    token: std::cell::RefCell<Option<String>>,
}

impl Asked<'_> {
    fn piece(&self, digest: &Digest, piece: Piece, limit: u64) -> Result<Vec<u8>, Failed> {
        let scheme = if self.known.is_some_and(|known| known.plain) { "http" } else { "https" };
        let kind = if piece == Piece::Manifest { "manifests" } else { "blobs" };
        let Self { registry, repository, .. } = self;
        // As Docker's clients have it: the name is not where it is.
        let host = if *registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let url = format!("{scheme}://{host}/v2/{repository}/{kind}/sha256:{}", hexadecimal(digest));
        let response = self.get(&url)?;
        let response = match response.status() {
            StatusCode::UNAUTHORIZED => {
                let challenges = response.headers().get_all("www-authenticate").iter();
                let challenges: Vec<String> =
                    challenges.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
                self.authenticate(&challenges)?;
                self.get(&url)?
            }
            _ => response,
        };
        body(ok(response).map_err(|why| format!("{url}: {why}"))?, limit)
    }

    fn get(&self, url: &str) -> Result<Response<Body>, Failed> {
        let mut request = self.agent.get(url).header("accept", format!("{MANIFESTS}, */*"));
        if let Some(token) = &*self.token.borrow() {
            // It is not sent on to where the registry sends its clients.
            request = request.header("authorization", token);
        }
        request.call().map_err(|error| format!("{url}: {error}"))
    }

    /// The name and the password, as an `authorization` has them.
    fn basic(&self) -> Result<Option<String>, Failed> {
        let Some(Registry { username: Some(name), password_file: Some(path), .. }) = self.known else {
            return Ok(None);
        };
        let read = std::fs::read_to_string(path);
        let password = read.map_err(|error| format!("{}: {error}", path.display()))?;
        let both = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{}", password.trim_end()));
        Ok(Some(format!("Basic {both}")))
    }

    /// Does what a registry asks for (<https://distribution.github.io/distribution/spec/auth/token>).
    fn authenticate(&self, challenges: &[String]) -> Result<(), Failed> {
        let basic = self.basic()?;
        let bearer = challenges.iter().find_map(|one| strip_scheme(one, "bearer"));
        let Some(bearer) = bearer else {
            let token = basic.ok_or_else(|| format!("{} wants to know who asks", self.registry))?;
            *self.token.borrow_mut() = Some(token);
            return Ok(());
        };
        let parameter = |name| parameter(bearer, name);
        let realm = parameter("realm").ok_or("the registry does not say who gives tokens")?;
        let scope = parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut request = self.agent.get(&realm).query("scope", &scope);
        if let Some(service) = parameter("service") {
            request = request.query("service", &service);
        }
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let response = request.call().map_err(|error| format!("{realm}: {error}"))?;
        let answer = body(ok(response).map_err(|why| format!("{realm}: {why}"))?, TOKEN_BYTES)?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let token: Token = serde_json::from_slice(&answer).map_err(|error| format!("{realm}: {error}"))?;
        let token = token.token.or(token.access_token).ok_or_else(|| format!("{realm}: gives no token"))?;
        *self.token.borrow_mut() = Some(format!("Bearer {token}"));
        Ok(())
    }
}

fn strip_scheme<'c>(challenge: &'c str, scheme: &str) -> Option<&'c str> {
    let (is, rest) = challenge.split_once(' ')?;
    is.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// A parameter of a challenge: `name="value"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(value, _)| (value, &after[value.len()..])),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
        rest = after.trim_start_matches([',', ' ']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let challenge =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let rest = strip_scheme(challenge, "bearer").unwrap();
        assert_eq!(parameter(rest, "realm").as_deref(), Some("https://auth.example/token"));
        assert_eq!(parameter(rest, "service").as_deref(), Some("registry.example"));
        assert_eq!(parameter(rest, "scope").as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(parameter(rest, "error"), None);
        assert_eq!(parameter("a=1, realm=x", "realm").as_deref(), Some("x"));
        assert_eq!((strip_scheme("Basic realm=\"x\"", "bearer"), strip_scheme("Bearer", "bearer")), (None, None));
    }
}
