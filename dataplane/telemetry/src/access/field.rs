//! What a line can say.

use std::borrow::Cow;
use std::fmt;

use super::AccessRecord;
use crate::cause::Cause;

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// Something that a line of the access log says about a request. Its documentation is in `docs/access-log.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the field of `AccessRecord` with the same name")]
        pub enum Field { $($variant,)* }

        impl Field {
            /// All of them, in the order in which they are written.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, as lines and settings have it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

fields! {
    Time "time",
    Revision "revision",
    Source "source",
    Client "client",
    Method "method",
    Host "host",
    Path "path",
    Protocol "protocol",
    Service "service",
    Rule "rule",
    Destination "destination",
    Version "version",
    Endpoint "endpoint",
    Mirrors "mirrors",
    Plugins "plugins",
    Status "status",
    GrpcStatus "grpc_status",
    Cause "cause",
    Retries "retries",
    Duration "duration_us",
    ResponseTime "response_us",
    RequestBytes "request_bytes",
    ResponseBytes "response_bytes",
    RequestId "request_id",
    TraceId "trace_id",
    UserAgent "user_agent",
}

/// A name that is no field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField(pub String);

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        write!(f, "{:?} is no field of the access log; there are {}", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownField {}

impl std::str::FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        let found = Self::ALL.iter().find(|field| field.name() == name);
        found.copied().ok_or_else(|| UnknownField(name.to_owned()))
    }
}

/// What a field is in one record.
pub(super) enum Value<'a> {
    Absent,
    Number(u64),
    Text(Cow<'a, str>),
    Texts(Vec<String>),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, |text| Self::Text(text.into()))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Absent, |text| Self::Text(text.into()))
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

impl AccessRecord<'_> {
    pub(super) fn value(&self, field: Field) -> Value<'_> {
        let text = |value: &dyn fmt::Display| Some(value.to_string());
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match field {
            Field::Time => text(&humantime::format_rfc3339_micros(self.began)).into(),
            Field::Revision => self.revision.into(),
            Field::Source => self.source.map(|(namespace, name)| format!("{namespace}/{name}")).into(),
            Field::Client => text(&self.client).into(),
            Field::Method => Some(self.method).into(),
            Field::Host => self.host.into(),
            Field::Path => Some(self.path).into(),
            Field::Protocol => Some(self.protocol).into(),
            Field::Service => self.service.map(ToString::to_string).into(),
            Field::Rule => self.rule.as_deref().into(),
            Field::Destination => self.destination.map(ToString::to_string).into(),
            Field::Version => self.version.into(),
            Field::Endpoint => self.endpoint.map(|endpoint| endpoint.to_string()).into(),
            Field::Plugins if self.plugins.is_empty() => Value::Absent,
            Field::Plugins => {
                let one = |(name, took): &(std::sync::Arc<str>, std::time::Duration)| {
                    format!("{name} {}us", took.as_micros())
                };
                Value::Texts(self.plugins.iter().map(one).collect())
            }
            Field::Mirrors if self.mirrors.is_empty() => Value::Absent,
            Field::Mirrors => Value::Texts(self.mirrors.iter().map(ToString::to_string).collect()),
            Field::Status => self.status.map(u64::from).into(),
            Field::GrpcStatus => self.call.map(|call| call.to_string()).into(),
            Field::Cause => self.cause.map(Cause::name).into(),
            Field::Retries => Value::Number(self.retries.into()),
            Field::Duration => Value::Number(micros(self.duration)),
            Field::ResponseTime => self.response_time.map(micros).into(),
            Field::RequestBytes => Value::Number(self.request_bytes),
            Field::ResponseBytes => Value::Number(self.response_bytes),
            Field::RequestId => self.request_id.into(),
            Field::TraceId => self.trace_id.into(),
            Field::UserAgent => self.user_agent.into(),
        }
    }
}
