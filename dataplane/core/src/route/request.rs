//! A request as the rules see it.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, Method};

use crate::workload::Workload;

/// The head of a request and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it arrived, without the query; not decoded.
    pub path: &'a str,
    /// What follows the `?`, if there is one.
    pub query: Option<&'a str>,
    /// The headers as they arrived.
    pub headers: &'a HeaderMap,
    /// Who sent it.
    pub source: Source<'a>,
    /// What plugins say of it, each a name and a value, each name once.
    pub attributes: &'a [(Box<str>, Box<str>)],
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The address of the other end of the connection.
    pub address: IpAddr,
    /// The workload that has this address, if it is one of the mesh.
    pub workload: Option<&'a Workload>,
}

impl<'a> Request<'a> {
    /// All cookies of all `cookie` headers, in order. Pairs without `=` and values that are not text are passed over
    /// (RFC 6265, section 4.2).
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let headers = self.headers.get_all(http::header::COOKIE).into_iter();
        let pairs = headers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.trim(), value.trim()))
    }

    /// The parameters of the query, decoded.
    pub fn query_parameters(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        form_urlencoded::parse(self.query.unwrap_or_default().as_bytes())
    }
}
