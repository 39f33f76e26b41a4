//! `sessionPersistence` of a rule.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use weir_core::session::{Carrier, Session};
use xxhash_rust::xxh3::xxh3_64;

use super::At;
use super::spec::default_text;
use super::texts::unknown;
use crate::check::Checker;
use crate::kinds::duration::{self, DurationText};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with sessionName, type, absoluteTimeout, cookieConfig"
)]
pub(super) struct SessionSpec {
    session_name: Option<String>,
    #[serde(rename = "type")]
    form: Option<String>,
    absolute_timeout: Option<DurationText>,
    idle_timeout: Option<DurationText>,
    cookie_config: Option<CookieSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with lifetimeType")]
struct CookieSpec {
    lifetime_type: Option<String>,
}

/// The longest name, in bytes.
const NAME: usize = 128;

/// The session of a rule, if it has one.
pub(super) fn of_rule<'a>(
    spec: Option<&'a SessionSpec>,
    kind: &str,
    At { namespace, route, index }: At<'_>,
    checker: &mut Checker<'a>,
) -> Option<Arc<Session>> {
    let title = format!("{kind} {namespace}/{route} {index}");
    checker.field("sessionPersistence", |checker| spec?.check(&title, checker)).map(Arc::new)
}

impl SessionSpec {
    /// Leaves out what is so without it, but for the type: a session that says nothing is not none.
    pub(super) fn normalise(&mut self) {
        self.form.get_or_insert_with(|| "Cookie".to_owned());
        if let Some(cookie) = &mut self.cookie_config {
            default_text(&mut cookie.lifetime_type, "Session");
        }
        self.cookie_config = self.cookie_config.take().filter(|cookie| *cookie != CookieSpec::default());
        // Names of headers are the same in every case, those of cookies are not.
        if self.form.as_deref() == Some("Header")
            && let Some(name) = &mut self.session_name
        {
            name.make_ascii_lowercase();
        }
    }

    /// The session, for the rule of this title, which makes the name where none is written.
    fn check<'a>(&'a self, title: &str, checker: &mut Checker<'a>) -> Option<Session> {
        if self.idle_timeout.is_some() {
            checker
                .error_at("idleTimeout", "is not offered, as the Gateway API itself does no more: use absoluteTimeout");
        }
        let timeout = duration::duration("absoluteTimeout", self.absolute_timeout.as_ref(), checker);
        if timeout.is_some_and(|timeout| timeout < Duration::from_secs(1)) {
            checker.error_at("absoluteTimeout", "must be at least 1s: sessions are counted in seconds");
        }
        let lifetime = self.cookie_config.as_ref().and_then(|cookie| cookie.lifetime_type.as_deref());
        let is_permanent = match lifetime {
            None | Some("Session") => false,
            Some("Permanent") => true,
            Some(other) => {
                checker.field("cookieConfig", |checker| {
                    checker.error_at("lifetimeType", unknown("type", other, &["Session", "Permanent"]));
                });
                false
            }
        };
        if is_permanent && self.absolute_timeout.is_none() {
            checker.missing("absoluteTimeout", "a permanent cookie needs a time for which it is kept");
        }
        let name = self.session_name.clone().unwrap_or_else(|| format!("weir-{:08x}", xxh3_64(title.as_bytes()) >> 32));
        let header = HeaderName::try_from(&name).ok().filter(|_| name.len() <= NAME);
        let Some(header) = header else {
            let wanted = "letters, digits and \"-\", as names of headers and cookies are, at most 128";
            checker.error_at("sessionName", format!("\"{name}\" is not a name: {wanted}"));
            return None;
        };
        let carrier = match self.form.as_deref().unwrap_or("Cookie") {
            "Cookie" => Carrier::Cookie { name: name.as_str().into(), is_permanent },
            "Header" if self.cookie_config.is_some() => {
                checker.error_at("cookieConfig", "there is no cookie where the type is Header");
                return None;
            }
            "Header" => Carrier::Header(header),
            other => {
                checker.error_at("type", unknown("type", other, &["Cookie", "Header"]));
                return None;
            }
        };
        Some(Session { carrier, timeout })
    }
}
