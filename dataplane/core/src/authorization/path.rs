//! The readings of a path: as it was sent, and as a server may take it.

use std::borrow::Cow;

/// A path as it was sent and, where that is another, without what servers may take away: escapes of what need not be escaped,
/// doubled slashes, slashes the wrong way round, `.` and `..` (RFC 3986, section 6.2.2).
pub(super) fn readings(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let other = if is_plain(path) { None } else { Some(normal(path)).filter(|normal| normal != path) };
    [Some(Cow::Borrowed(path)), other.map(Cow::Owned)].into_iter().flatten()
}

/// Whether it can be read in one way only. Nearly all can.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !bytes.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn normal(path: &str) -> String {
    let decoded = decoded(path);
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        // What follows a semicolon is a parameter to some servers (RFC 3986, section 3.3).
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len() + 1);
    segments.iter().for_each(|segment| normal.extend(["/", segment]));
    let ends_in_slash = ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end));
    if normal.is_empty() || ends_in_slash {
        normal.push('/');
    }
    normal
}

/// Until nothing is escaped any more: what is escaped twice may be decoded twice. What comes out takes part in what is read next, so
/// that it takes one pass however often something is escaped.
fn decoded(path: &str) -> Vec<u8> {
    let mut to = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        to.push(byte);
        while let [.., b'%', high, low] = to[..]
            && let Some(escaped) = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low)
        {
            to.truncate(to.len() - 3);
            to.push(escaped);
        }
    }
    to
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_in_the_ways_that_servers_do() {
        for (path, other) in [
            ("/", None),
            ("/a/b", None),
            ("/a/b/", None),
            ("/a.b/c", None),
            ("/a/../admin", Some("/admin")),
            ("/a/./admin/", Some("/a/admin/")),
            ("//admin", Some("/admin")),
            ("/%61dmin", Some("/admin")),
            ("/%2561dmin", Some("/admin")),
            ("/a%2f..%2fadmin", Some("/admin")),
            ("/a\\..\\admin", Some("/admin")),
            ("/admin;x=1/b", Some("/admin/b")),
            ("/..", Some("/")),
            ("/a/..", Some("/")),
            ("/%", None),
            ("/%zz", None),
            ("/%+1", None),
        ] {
            let read: Vec<_> = readings(path).collect();
            let expected: Vec<&str> = [path].into_iter().chain(other).collect();
            assert_eq!(read, expected, "{path}");
        }
    }
}
