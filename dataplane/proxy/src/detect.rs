//! What a connection speaks, judged by its first bytes.

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The beginning of an HTTP/1 request.
    Http1,
    /// The preface of an HTTP/2 connection (RFC 9113, section 3.4).
    Http2,
    /// Neither.
    Other,
}

/// What a connection in HTTP/2 begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longer methods than this are not taken for HTTP. The longest registered one has 17 letters.
const LONGEST_METHOD: usize = 24;

/// Judges the first bytes of a connection. `None`: more of them are needed. A request line that is right as far as it
/// goes is HTTP/1 once it has a method and the start of a target: what follows is the parser's business.
pub(crate) fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    let is_of_method = |byte: &&u8| byte.is_ascii_uppercase() || **byte == b'-';
    let method = bytes.iter().take(LONGEST_METHOD + 1).take_while(is_of_method).count();
    match (bytes.get(method), bytes.get(method + 1)) {
        // A blank line before a request is tolerated (RFC 9112, section 2.2).
        _ if method == 0 => match bytes {
            [] | b"\r" | b"\r\n" => None,
            [b'\r', b'\n', rest @ ..] => judge(rest),
            _ => Some(Protocol::Other),
        },
        _ if method > LONGEST_METHOD => Some(Protocol::Other),
        (None, _) => None,
        (Some(b' '), None) => None,
        (Some(b' '), Some(_)) => request_line(&bytes[method + 1..], &bytes[..method] == b"CONNECT"),
        _ => Some(Protocol::Other),
    }
}

/// Judges what follows the method.
fn request_line(rest: &[u8], connect: bool) -> Option<Protocol> {
    let target_fits = matches!(rest[0], b'/' | b'*' | b'h' | b'H') || connect;
    // The line may be long; only one that has ended without naming HTTP/1 is something else.
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let ended = line.len() < rest.len();
    let names_http = line.windows(7).any(|part| part == b"HTTP/1.");
    Some(if target_fits && (!ended || names_http) { Protocol::Http1 } else { Protocol::Other })
}

/// Whether a server's first bytes are those of HTTP/2: frames of settings (RFC 9113, sections 3.4 and 6.5), which it may
/// send before it has heard of its client. They have less than 64 KiB.
pub(crate) fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, _, _, 4, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        let cases: [(&[u8], Option<Protocol>); 24] = [
            (b"", None),
            (b"G", None),
            (b"GET", None),
            (b"GET ", None),
            (b"GET /", Some(Protocol::Http1)),
            (b"\r\nGET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", Some(Protocol::Http1)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"GET http://a/ HTTP/1.0\r\n", Some(Protocol::Http1)),
            (b"CONNECT a:443 HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"VERSION-CONTROL /x HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"GET /x\r\n", Some(Protocol::Other)),
            (b"PRI", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Some(Protocol::Http2)),
            (b"\x16\x03\x01\x02\x00", Some(Protocol::Other)),
            (b"SSH-2.0-OpenSSH\r\n", Some(Protocol::Other)),
            (b"get key\r\n", Some(Protocol::Other)),
            (b"EHLO mail\r\n", Some(Protocol::Other)),
            (b"USER me\r\n", Some(Protocol::Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Protocol::Other)),
            (b"ABCDEFGHIJKLMNOPQRSTUVWX ", None),
            (b"ABCDEFGHIJKLMNOPQRSTUVWX /", Some(Protocol::Http1)),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Some(Protocol::Other)),
            (b"\0\0\0", Some(Protocol::Other)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(judge(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn servers_of_http2_may_speak_first() {
        let cases: [(&[u8], bool); 6] = [
            (&[0, 0, 18, 4, 0, 0, 0, 0, 0], true),
            (&[0, 0, 0, 4], true),
            (&[0, 0, 4], false),
            (&[0, 0, 4, 0, 0], false),
            (b"220 ready", false),
            (b"", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(is_settings(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_judgement_never_changes_with_more_bytes_of_the_same_request() {
        let request = b"PUT /a/long/target?with=query HTTP/1.1\r\nhost: a\r\n\r\n";
        for end in 0..request.len() {
            assert!(matches!(judge(&request[..end]), None | Some(Protocol::Http1)), "{end}");
        }
    }
}
