//! Heads and trailers as plugins see them: names and values, of which some are what HTTP/2 calls pseudo-headers.
//!
//! A request's are, in this order, `:authority`, `:path`, `:method` and `:scheme`, a response's is `:status`; they come
//! before the others. What the fields say about how a body is framed belongs to the proxy: a plugin can take
//! `content-length` away, which means that it does not know how long the body will be, and nothing else.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request, response};

use super::Status;
use super::pairs::{self, Encoder};

/// The scheme of a request as it came in. It is the proxy's to know.
pub(crate) type Scheme = &'static str;

/// Fields that a plugin reads and changes.
#[derive(Debug)]
pub(crate) enum Fields<'a> {
    Request(&'a mut request::Parts, Scheme),
    Response(&'a mut response::Parts),
    Plain(&'a mut HeaderMap),
}

/// A name as a plugin writes it.
enum Name {
    Pseudo(Pseudo),
    Of(HeaderName),
    /// How a body is framed.
    Framing(HeaderName),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pseudo {
    Authority,
    Path,
    Method,
    Scheme,
    Status,
}

impl Name {
    fn parse(name: &[u8]) -> Result<Self, Status> {
        Ok(match name {
            b":authority" => Self::Pseudo(Pseudo::Authority),
            b":path" => Self::Pseudo(Pseudo::Path),
            b":method" => Self::Pseudo(Pseudo::Method),
            b":scheme" => Self::Pseudo(Pseudo::Scheme),
            b":status" => Self::Pseudo(Pseudo::Status),
            _ => match HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)? {
                name if is_framing(&name) => Self::Framing(name),
                name => Self::Of(name),
            },
        })
    }
}

fn value(value: &[u8]) -> Result<HeaderValue, Status> {
    HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)
}

impl Fields<'_> {
    fn plain(&self) -> &HeaderMap {
        match self {
            Self::Request(head, _) => &head.headers,
            Self::Response(head) => &head.headers,
            Self::Plain(map) => map,
        }
    }

    fn plain_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Request(head, _) => &mut head.headers,
            Self::Response(head) => &mut head.headers,
            Self::Plain(map) => map,
        }
    }

    fn pseudo(&self, name: Pseudo) -> Option<Bytes> {
        Some(match (self, name) {
            (Self::Request(head, _), Pseudo::Authority) => bytes(head.headers.get(HOST)?),
            (Self::Request(head, _), Pseudo::Path) => {
                Bytes::copy_from_slice(head.uri.path_and_query()?.as_str().as_bytes())
            }
            (Self::Request(head, _), Pseudo::Method) => Bytes::copy_from_slice(head.method.as_str().as_bytes()),
            (Self::Request(_, scheme), Pseudo::Scheme) => Bytes::from_static(scheme.as_bytes()),
            (Self::Response(head), Pseudo::Status) => Bytes::copy_from_slice(head.status.as_str().as_bytes()),
            _ => return None,
        })
    }

    fn set_pseudo(&mut self, name: Pseudo, text: &[u8]) -> Result<(), Status> {
        const BAD: Status = Status::BadArgument;
        match (self, name) {
            (Self::Request(head, _), Pseudo::Authority) => {
                head.headers.insert(HOST, value(text)?);
            }
            (Self::Request(head, _), Pseudo::Path) => {
                if text.first() != Some(&b'/') {
                    return Err(BAD);
                }
                let path = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(text)).map_err(|_| BAD)?;
                head.uri = Uri::from(path);
            }
            (Self::Request(head, _), Pseudo::Method) => {
                let method = Method::from_bytes(text).map_err(|_| BAD)?;
                // These two change what the whole connection is.
                if method == Method::CONNECT || head.method == Method::CONNECT {
                    return Err(BAD);
                }
                head.method = method;
            }
            (Self::Request(_, scheme), Pseudo::Scheme) if text == scheme.as_bytes() => {}
            (Self::Response(head), Pseudo::Status) => {
                let status = StatusCode::from_bytes(text).map_err(|_| BAD)?;
                if status.is_informational() || status.as_u16() > 599 {
                    return Err(BAD);
                }
                head.status = status;
            }
            _ => return Err(BAD),
        }
        Ok(())
    }

    /// The pseudo-headers that there are, in their order.
    fn pseudos(&self) -> impl Iterator<Item = (&'static str, Bytes)> {
        const ALL: [(&str, Pseudo); 5] = [
            (":authority", Pseudo::Authority),
            (":path", Pseudo::Path),
            (":method", Pseudo::Method),
            (":scheme", Pseudo::Scheme),
            (":status", Pseudo::Status),
        ];
        ALL.into_iter().filter_map(|(text, name)| Some((text, self.pseudo(name)?)))
    }

    /// The fields that are no pseudo-headers.
    fn others(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let is_request = matches!(self, Self::Request(..));
        self.plain().iter().filter(move |(name, _)| !is_request || **name != HOST)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let plain = self.plain().len();
        match self {
            // The host is both, and counts once; method and scheme are always there.
            Self::Request(head, _) => plain + 2 + usize::from(head.uri.path_and_query().is_some()),
            Self::Response(_) => plain + 1,
            Self::Plain(_) => plain,
        }
    }

    /// Bytes of all of them: names and values.
    pub(crate) fn bytes(&self) -> usize {
        self.plain().iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    /// The value of the first with this name.
    pub(crate) fn first(&self, name: &[u8]) -> Result<Option<Bytes>, Status> {
        Ok(match Name::parse(name)? {
            Name::Pseudo(pseudo) => self.pseudo(pseudo),
            Name::Of(name) | Name::Framing(name) => self.plain().get(name).map(bytes),
        })
    }

    /// The values of all with this name, joined by commas.
    pub(crate) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        match Name::parse(name).ok()? {
            Name::Pseudo(pseudo) => self.pseudo(pseudo).map(|one| one.to_vec()),
            Name::Of(name) | Name::Framing(name) => {
                let values: Vec<&[u8]> = self.plain().get_all(name).iter().map(HeaderValue::as_bytes).collect();
                (!values.is_empty()).then(|| values.join(&b','))
            }
        }
    }

    /// Adds one; a pseudo-header, of which there is only one, is replaced.
    pub(crate) fn add(&mut self, name: &[u8], text: &[u8]) -> Result<(), Status> {
        match Name::parse(name)? {
            Name::Pseudo(pseudo) => self.set_pseudo(pseudo, text)?,
            Name::Of(name) if name == HOST && matches!(self, Self::Request(..)) => {
                self.set_pseudo(Pseudo::Authority, text)?
            }
            Name::Of(name) => {
                let text = value(text)?;
                self.plain_mut().try_append(name, text).map_err(|_| Status::BadArgument)?;
            }
            Name::Framing(name) => self.reframe(&name),
        }
        Ok(())
    }

    /// Sets the only one with this name.
    pub(crate) fn replace(&mut self, name: &[u8], text: &[u8]) -> Result<(), Status> {
        match Name::parse(name)? {
            Name::Of(name) => {
                let text = value(text)?;
                self.plain_mut().try_insert(name, text).map(drop).map_err(|_| Status::BadArgument)
            }
            _ => self.add(name, text),
        }
    }

    /// Takes all with this name away. What a request or a response cannot be without stays.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<(), Status> {
        match Name::parse(name)? {
            Name::Pseudo(_) => return Err(Status::BadArgument),
            Name::Of(name) if name == HOST && matches!(self, Self::Request(..)) => return Err(Status::BadArgument),
            Name::Of(name) => drop(self.plain_mut().remove(name)),
            Name::Framing(name) => self.reframe(&name),
        }
        Ok(())
    }

    /// How long the body is, is not said any more; all else about the framing stays the proxy's.
    fn reframe(&mut self, name: &HeaderName) {
        if *name == CONTENT_LENGTH {
            self.plain_mut().remove(CONTENT_LENGTH);
        }
    }

    /// All of them, as plugins read them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_capacity(self.plain().len() + 4);
        self.pseudos().for_each(|(name, value)| encoder.push(name.as_bytes(), &value));
        self.others().for_each(|(name, value)| encoder.push(name.as_str().as_bytes(), value.as_bytes()));
        encoder.finish()
    }

    /// Replaces all of them by a list that a plugin wrote. Pseudo-headers that it does not have stay as they were. When
    /// anything of it is wrong, nothing is changed.
    pub(crate) fn replace_all(&mut self, list: &[u8]) -> Result<(), Status> {
        let pairs = pairs::decode(list)?;
        let mut new = HeaderMap::with_capacity(pairs.len());
        let is_request = matches!(self, Self::Request(..));
        let before = self.plain();
        let mut pseudos = Vec::new();
        for (name, text) in pairs {
            match Name::parse(name)? {
                Name::Pseudo(pseudo) => pseudos.push((pseudo, text)),
                Name::Of(name) if name == HOST && is_request => pseudos.push((Pseudo::Authority, text)),
                Name::Of(name) => {
                    new.try_append(name, value(text)?).map_err(|_| Status::BadArgument)?;
                }
                Name::Framing(name)
                    if name == CONTENT_LENGTH && before.get(CONTENT_LENGTH).is_some_and(|one| one == text) =>
                {
                    new.insert(CONTENT_LENGTH, value(text)?);
                }
                Name::Framing(_) => {}
            }
        }
        let kept = if is_request {
            &[HOST, TRANSFER_ENCODING, CONNECTION, UPGRADE][..]
        } else {
            &[TRANSFER_ENCODING, CONNECTION, UPGRADE][..]
        };
        for name in kept {
            before.get_all(name).iter().for_each(|value| {
                new.append(name, value.clone());
            });
        }
        self.with_pseudos(&pseudos)?;
        *self.plain_mut() = with_host_of(new, self.plain(), is_request);
        Ok(())
    }

    /// Sets all of these, or none.
    fn with_pseudos(&mut self, pseudos: &[(Pseudo, &[u8])]) -> Result<(), Status> {
        let before: Vec<_> = pseudos.iter().filter_map(|(name, _)| Some((*name, self.pseudo(*name)?))).collect();
        for (name, text) in pseudos {
            if let Err(status) = self.set_pseudo(*name, text) {
                for (name, text) in &before {
                    // They were valid.
                    let _ = self.set_pseudo(*name, text);
                }
                return Err(status);
            }
        }
        Ok(())
    }
}

/// A request's host is in its headers, and was set there.
fn with_host_of(mut new: HeaderMap, current: &HeaderMap, is_request: bool) -> HeaderMap {
    if let (true, Some(host)) = (is_request, current.get(HOST)) {
        new.insert(HOST, host.clone());
    }
    new
}

/// A value's bytes, shared with it where it is long.
fn bytes(value: &HeaderValue) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

/// Whether a field is about how a body is framed or a connection is used.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(name)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request() -> request::Parts {
        let request = Request::get("/a?b").header("host", "h").header("x-one", "1").header("x-one", "2");
        request.header("content-length", "3").body(()).unwrap().into_parts().0
    }

    fn listed(fields: &Fields<'_>) -> Vec<String> {
        let list = fields.encode();
        let pairs = pairs::decode(&list).unwrap();
        assert_eq!(pairs.len(), fields.len(), "as many as are told");
        pairs
            .iter()
            .map(|pair| format!("{}={}", String::from_utf8_lossy(pair.0), String::from_utf8_lossy(pair.1)))
            .collect()
    }

    #[test]
    fn pseudo_headers_come_first_and_the_host_is_one() {
        let mut head = request();
        let expected =
            [":authority=h", ":path=/a?b", ":method=GET", ":scheme=http", "x-one=1", "x-one=2", "content-length=3"];
        assert_eq!(listed(&Fields::Request(&mut head, "http")), expected);
        let mut head = http::Response::builder().status(404).header("host", "h").body(()).unwrap().into_parts().0;
        assert_eq!(listed(&Fields::Response(&mut head)), [":status=404", "host=h"]);
    }

    #[test]
    fn what_cannot_be_in_a_head_is_refused_and_changes_nothing() {
        let mut head = request();
        let mut fields = Fields::Request(&mut head, "http");
        let before = listed(&fields);
        for (name, value) in [
            (":path", "no-slash"),
            (":path", "/a b"),
            (":method", "CONNECT"),
            (":method", "G T"),
            (":scheme", "https"),
            (":authority", "a\r\nb"),
            (":status", "200"),
            (":unknown", "x"),
            ("", "x"),
            ("a b", "x"),
            ("x", "a\r\nb: c"),
            ("x", "a\0b"),
        ] {
            for set in [Fields::add, Fields::replace] {
                assert_eq!(
                    set(&mut fields, name.as_bytes(), value.as_bytes()),
                    Err(Status::BadArgument),
                    "{name} {value:?}"
                );
            }
        }
        for name in [":path", "host", ":authority"] {
            assert_eq!(fields.remove(name.as_bytes()), Err(Status::BadArgument), "{name}");
        }
        let mut list = Encoder::default();
        [("x-new", "1"), (":path", "nothing")]
            .iter()
            .for_each(|(name, value)| list.push(name.as_bytes(), value.as_bytes()));
        assert_eq!(fields.replace_all(&list.finish()), Err(Status::BadArgument));
        assert_eq!(listed(&fields), before);
    }

    #[test]
    fn all_are_replaced_but_for_what_a_request_cannot_be_without() {
        let mut head = request();
        let mut fields = Fields::Request(&mut head, "http");
        let mut list = Encoder::default();
        let new = [("X-New", "1"), (":method", "PUT"), ("transfer-encoding", "chunked"), ("content-length", "9")];
        new.iter().for_each(|(name, value)| list.push(name.as_bytes(), value.as_bytes()));
        fields.replace_all(&list.finish()).unwrap();
        // Another length than there was is none; how it is framed is not a plugin's to say.
        assert_eq!(listed(&fields), [":authority=h", ":path=/a?b", ":method=PUT", ":scheme=http", "x-new=1"]);
    }

    #[test]
    fn of_several_the_first_is_read_or_all_joined() {
        let mut head = request();
        let mut fields = Fields::Request(&mut head, "http");
        assert_eq!(fields.first(b"X-One").unwrap().unwrap(), "1");
        assert_eq!((fields.first(b"x-none"), fields.joined(b"x-none")), (Ok(None), None));
        assert_eq!(
            (fields.joined(b"x-one").unwrap(), fields.joined(b"host").unwrap()),
            (b"1,2".to_vec(), b"h".to_vec())
        );
        fields.add(b"content-length", b"99").unwrap();
        assert_eq!(fields.first(b"content-length"), Ok(None));
    }
}
