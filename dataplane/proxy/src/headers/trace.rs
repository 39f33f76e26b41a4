//! Traces (<https://www.w3.org/TR/trace-context/>): kept where they are and, where the settings say so, begun where there
//! are none.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use weir_core::share::Share;

use super::{REQUEST_ID, hex};
use crate::random::Random;

pub(super) const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Begins a trace for a request that is part of none, or of one that nobody could follow; this share of the traces is
/// marked to be recorded. A trace that has no id of its own yet has that of the request, where it can.
pub(super) fn begin(headers: &mut HeaderMap, sampled: Share, random: &Random) {
    let mut parents = headers.get_all(PARENT).iter();
    if let (Some(parent), None) = (parents.next(), parents.next())
        && is_valid(parent.as_bytes())
    {
        return;
    }
    let of_request = headers.get(REQUEST_ID).map(HeaderValue::as_bytes).filter(|id| is_id(id, 32));
    let trace: [u8; 32] = of_request.and_then(|id| id.try_into().ok()).unwrap_or_else(|| hex(random));
    let [span @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hex(random);
    let flags = if sampled.contains(random.next()) { b"01" } else { b"00" };
    let mut parent = [b'-'; 55];
    parent[..2].copy_from_slice(b"00");
    parent[3..35].copy_from_slice(&trace);
    parent[36..52].copy_from_slice(&span);
    parent[53..].copy_from_slice(flags);
    if let Ok(parent) = HeaderValue::from_bytes(&parent) {
        headers.insert(PARENT, parent);
        // It belongs to a trace that this is not.
        headers.remove(STATE);
    }
}

/// The id of the trace that a request is part of, if it is part of one.
pub(crate) fn id(headers: &HeaderMap) -> Option<&str> {
    let parent = headers.get(PARENT).filter(|parent| is_valid(parent.as_bytes()))?;
    parent.to_str().ok()?.get(3..35)
}

/// Whether this is a parent that can be followed: of version 0, or of one that begins like it.
fn is_valid(parent: &[u8]) -> bool {
    let Some((first, rest)) = parent.split_at_checked(55) else { return false };
    let is_version = is_hex(&first[..2]) && &first[..2] != b"ff";
    let has_end = rest.is_empty() || (&first[..2] != b"00" && rest[0] == b'-');
    let dashes = [first[2], first[35], first[52]];
    is_version
        && has_end
        && dashes == *b"---"
        && is_id(&first[3..35], 32)
        && is_id(&first[36..52], 16)
        && is_hex(&first[53..55])
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is an id of so many digits: not all of them 0.
fn is_id(text: &[u8], digits: usize) -> bool {
    text.len() == digits && is_hex(text) && text.iter().any(|digit| *digit != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn begun(lines: &[(&'static str, &str)], sampled: Share) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        begin(&mut headers, sampled, &Random::new());
        headers
    }

    #[test]
    fn a_trace_that_can_be_followed_is_kept_and_others_are_begun() {
        let cases = [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), true),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("01-{TRACE}-{SPAN}-01-more"), true),
            (format!("00-{TRACE}-{SPAN}-01-more"), false),
            (format!("01-{TRACE}-{SPAN}-01.more"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-{SPAN}-0"), false),
            (format!("00_{TRACE}-{SPAN}-01"), false),
            ("nonsense".to_owned(), false),
            (String::new(), false),
        ];
        for (parent, is_kept) in cases {
            let headers = begun(&[("traceparent", &parent), ("tracestate", "a=b"), ("baggage", "c=d")], Share::ALL);
            assert_eq!(headers["traceparent"] == *parent, is_kept, "{parent}");
            assert_eq!(headers.contains_key("tracestate"), is_kept, "{parent}");
            assert_eq!(headers["baggage"], "c=d");
            assert!(is_valid(headers["traceparent"].as_bytes()), "{parent}");
        }
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let twice = begun(&[("traceparent", &parent), ("traceparent", &parent)], Share::ALL);
        assert!(twice["traceparent"] != *parent, "nobody knows which");
        assert_eq!(twice.get_all("traceparent").iter().count(), 1);
    }

    #[test]
    fn a_new_trace_has_the_id_of_the_request_and_its_share_is_recorded() {
        let id = format!("00-{TRACE}-");
        for (request, has_it) in [(TRACE, true), ("order-7", false), (&*"0".repeat(32), false)] {
            let headers = begun(&[("x-request-id", request)], Share::ALL);
            let parent = headers["traceparent"].to_str().unwrap();
            assert_eq!(parent.starts_with(&id), has_it, "{request}: {parent}");
            assert!(parent.ends_with("-01"), "{parent}");
        }
        let none = begun(&[], Share::from_percent(0.0).unwrap());
        assert!(none["traceparent"].to_str().unwrap().ends_with("-00"));
    }
}
