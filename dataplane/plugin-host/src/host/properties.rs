//! Properties: what is known of an exchange and of the plugin, by path.

use std::borrow::Cow;

use bytes::Bytes;

use super::memory::{Guest, give, slice, split};
use crate::abi::{Answer, Direction, Status};
use crate::property;
use crate::state::State;

/// Bytes of a path, and parts of it.
const PATH_BYTES: u32 = 4096;

/// Properties that a plugin sets on one exchange, and bytes of all of them.
const OWN: usize = 64;
const OWN_BYTES: usize = 64 << 10;

/// `proxy_get_property`.
pub(super) fn property(guest: &mut Guest<'_>, at: u32, size: u32, to: u32, to_size: u32) -> Answer {
    if size > PATH_BYTES {
        return Err(Status::BadArgument.into());
    }
    let (memory, state) = split(guest)?;
    let path = parted(slice(memory, at, size)?);
    let found = find(state, &path).ok_or(Status::NotFound)?;
    give(guest, &found, to, to_size)
}

fn find(state: &mut State, path: &[u8]) -> Option<Bytes> {
    let options = &state.plugin.options;
    match path {
        b"plugin_name" => return Some(Bytes::copy_from_slice(options.name.as_bytes())),
        b"plugin_root_id" => return Some(Bytes::copy_from_slice(options.root_id.as_bytes())),
        b"plugin_vm_id" => return Some(Bytes::copy_from_slice(options.vm_id.as_bytes())),
        _ => {}
    }
    let stream = state.stream().ok()?;
    if let Some((_, value)) = stream.properties.iter().find(|(name, _)| **name == *path) {
        return Some(value.clone());
    }
    let mut parts = path.split(|byte| *byte == 0);
    let (group, name) = (parts.next()?, parts.next());
    let rest = parts.next();
    match (group, name, rest) {
        (b"request", Some(b"headers"), Some(header)) => {
            stream.headers(Direction::Request).ok()?.joined(header).map(Bytes::from)
        }
        (b"response", Some(b"headers"), Some(header)) => {
            stream.headers(Direction::Response).ok()?.joined(header).map(Bytes::from)
        }
        (b"request", Some(b"headers"), None) => Some(stream.headers(Direction::Request).ok()?.encode().into()),
        (b"response", Some(b"headers"), None) => Some(stream.headers(Direction::Response).ok()?.encode().into()),
        (b"response", Some(b"trailers"), None) => Some(stream.trailers(Direction::Response).ok()?.encode().into()),
        (group, Some(name), None) => property::find(stream, str::from_utf8(group).ok()?, str::from_utf8(name).ok()?),
        _ => None,
    }
}

/// `proxy_set_property`: kept with the exchange, for the plugin's own callbacks.
pub(super) fn set(guest: &mut Guest<'_>, at: u32, size: u32, value_at: u32, value_size: u32) -> Answer {
    if size == 0 || size > PATH_BYTES {
        return Err(Status::BadArgument.into());
    }
    let (memory, state) = split(guest)?;
    let (path, value) = (slice(memory, at, size)?, slice(memory, value_at, value_size)?);
    Ok(put(state, &parted(path), value)?)
}

/// A path as it is kept, with a NUL between its parts. Some plugins end it with one. Where an SDK takes a path as one text, Weir's own are
/// written with dots: `weir.match.NAME`, of which the name may have dots itself.
fn parted(path: &[u8]) -> Cow<'_, [u8]> {
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    if !path.starts_with(b"weir.") {
        return path.into();
    }
    let parts: Vec<&[u8]> = path.splitn(3, |byte| *byte == b'.').collect();
    parts.join(&0).into()
}

/// Sets a property of the exchange.
pub(super) fn put(state: &mut State, path: &[u8], value: &[u8]) -> Result<(), Status> {
    let properties = &mut state.stream()?.properties;
    let others = properties.iter().filter(|(name, _)| **name != *path);
    let taken: usize = others.map(|(name, value)| name.len() + value.len()).sum();
    let known = properties.iter().position(|(name, _)| **name == *path);
    if taken + path.len() + value.len() > OWN_BYTES {
        return Err(Status::InternalFailure);
    }
    match known {
        Some(position) => properties[position].1 = Bytes::copy_from_slice(value),
        None if properties.len() >= OWN => return Err(Status::InternalFailure),
        None => properties.push((path.into(), Bytes::copy_from_slice(value))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_parts_however_it_is_written() {
        for (written, expected) in [
            ("request\0headers\0a.b", "request\0headers\0a.b"),
            ("plugin_name\0", "plugin_name"),
            ("request.path", "request.path"),
            ("weir.rule", "weir\0rule"),
            ("weir.match.user.group", "weir\0match\0user.group"),
            ("weir\0match\0user.group", "weir\0match\0user.group"),
            ("weir.body.before_route\0", "weir\0body\0before_route"),
            ("weirder.path", "weirder.path"),
        ] {
            assert_eq!(String::from_utf8_lossy(&parted(written.as_bytes())), expected, "{written:?}");
        }
    }
}
