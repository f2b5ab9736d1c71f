//! The request target and its host.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use super::forms::{forms_of, hex_pair, readings};
use crate::config::plan::TargetForms;
use crate::reject::Rejection;

/// A target with one reading, or with forms that its route has to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Lower case, without port; brackets kept on an IPv6 address.
    pub host: String,
    /// Starts with `/`, as it was sent.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// Forms of the path that servers read differently.
    pub forms: TargetForms,
    /// The path that the upstream gets instead, see [`Target::rewritten`].
    pub(crate) sent_as: Option<String>,
}

impl Target {
    /// Every path that a server may take this one's for, as [`crate::route`] matches it.
    pub fn readings(&self) -> Vec<String> {
        readings(&self.path, self.forms)
    }

    /// Another path for the upstream, which must have one reading as well: what a pattern puts together from parts may
    /// have two.
    ///
    /// # Errors
    /// [`Rejection::AmbiguousTarget`].
    pub fn rewritten(&mut self, path: String) -> Result<(), Rejection> {
        if !path.starts_with('/') || !path_has_one_reading(&path) {
            return Err(Rejection::AmbiguousTarget);
        }
        self.sent_as = Some(path);
        Ok(())
    }
}

/// Reads target and host. `raw` is the target as it stood in the request line, or `:path`; `authority` is HTTP/2's.
///
/// # Errors
/// [`Rejection::AmbiguousTarget`] or [`Rejection::DoubtfulHost`].
pub fn inspect(
    raw: &[u8],
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Result<Target, Rejection> {
    let host = single_host(headers, authority)?;
    let raw = std::str::from_utf8(raw).map_err(|_| Rejection::AmbiguousTarget)?;
    let (path, query) = origin_form(raw, host)?;
    let forms = forms_of(path).ok_or(Rejection::AmbiguousTarget)?;
    if !query.is_none_or(query_is_plain) {
        return Err(Rejection::AmbiguousTarget);
    }
    Ok(Target {
        host: without_port(host).ok_or(Rejection::DoubtfulHost)?,
        path: path.to_owned(),
        query: query.map(str::to_owned),
        forms,
        sent_as: None,
    })
}

/// Exactly one host: the field, the authority, or both saying the same.
fn single_host<'a>(
    headers: &'a HeaderMap,
    authority: Option<&'a str>,
) -> Result<&'a str, Rejection> {
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields
        .next()
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(|_| Rejection::DoubtfulHost)?;
    if fields.next().is_some() {
        return Err(Rejection::DoubtfulHost);
    }
    match (field, authority) {
        (Some(field), Some(authority)) if !field.eq_ignore_ascii_case(authority) => {
            Err(Rejection::DoubtfulHost)
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Rejection::DoubtfulHost),
    }
}

/// Path and query of an origin-form target, or of an absolute-form one that names the same host.
fn origin_form<'a>(raw: &'a str, host: &str) -> Result<(&'a str, Option<&'a str>), Rejection> {
    let rest = if raw.starts_with('/') {
        raw
    } else {
        let (scheme, rest) = raw.split_once("://").ok_or(Rejection::AmbiguousTarget)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Rejection::AmbiguousTarget);
        }
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(path_at);
        if !authority.eq_ignore_ascii_case(host) || !rest.starts_with('/') {
            return Err(Rejection::AmbiguousTarget);
        }
        rest
    };
    Ok(match memchr::memchr(b'?', rest.as_bytes()) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    })
}

/// Nothing is in it that normalisers are known to disagree about.
pub(crate) fn path_has_one_reading(path: &str) -> bool {
    forms_of(path).is_some_and(TargetForms::is_empty)
}

/// A path as every server reads it in the end: `%3A` is `:`, and `%c3%a9` is `%C3%A9` is `é`. What has passed
/// [`inspect`] keeps its segments, because no escape of structure passes.
pub(crate) fn unescaped(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut read = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match pair.and_then(hex_pair) {
            Some(byte) => {
                read.push(byte);
                at += 3;
            }
            None => {
                read.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(read).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// Visible ASCII without `#`; a query has no structure that we or a route's path depend on.
fn query_is_plain(query: &str) -> bool {
    query
        .bytes()
        .all(|byte| (0x21..=0x7e).contains(&byte) && byte != b'#')
}

/// The name alone, lower case: `None` unless it is a registered name, an IPv4 or a bracketed IPv6 address, with an
/// optional port.
fn without_port(host: &str) -> Option<String> {
    let (name, port) = if host.starts_with('[') {
        let end = host.find(']')? + 1;
        let (name, rest) = host.split_at(end);
        name[1..end - 1].parse::<std::net::Ipv6Addr>().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port).filter(|port| !port.is_empty()),
            None => rest.is_empty().then_some(""),
        };
        (name, port)
    } else {
        let (name, port) = match memchr::memchr(b':', host.as_bytes()) {
            Some(at) => (&host[..at], &host[at + 1..]),
            None => (host, ""),
        };
        // A dot ends a label, and no label is empty.
        let mut label = false;
        for byte in name.bytes() {
            match byte {
                b'.' if !label => return None,
                b'.' => label = false,
                b'-' | b'_' => label = true,
                _ if byte.is_ascii_alphanumeric() => label = true,
                _ => return None,
            }
        }
        label.then_some(())?;
        (
            name,
            Some(port).filter(|p| !host.ends_with(':') || !p.is_empty()),
        )
    };
    let port = port?;
    if !port.is_empty() && (port.len() > 5 || port.parse::<u16>().is_err() || port.starts_with('+'))
    {
        return None;
    }
    Some(name.to_ascii_lowercase())
}
