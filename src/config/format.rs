//! How single values are written: durations, sizes, addresses, names, URLs.
//!
//! Each reader says in words what it expected and, where it can tell, what was probably meant.

mod address;

use std::time::Duration;

use ipnet::IpNet;

use address::dns_name;
pub(super) use address::{address, authority, dns, peer, resolver};

use super::diagnostic::{Fault, nearest};
use super::tree::redact;

/// A year: longer than anything here can mean, and far from every overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn quoted(text: &str) -> String {
    format!("`{}`", redact(text))
}

/// `250ms`, `5s`, `10m`, `24h`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let wrong = || {
        let fault = Fault::new(format!("{} is not a duration", quoted(text)));
        match text.parse::<u64>() {
            Ok(number) => fault.hint(format!("write the unit: `{number}s`")),
            Err(_) => fault
                .hint("write a whole number with ms, s, m or h, such as `250ms`, `5s` or `10m`"),
        }
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, factor) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| Fault::new(format!("{} is longer than a year", quoted(text))))
}

/// `512B`, `64KiB`, `10MiB`, `1GiB`; zero may stand without a unit.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    const UNITS: [(&str, u64); 4] = [
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || {
        let fault = Fault::new(format!("{} is not a size", quoted(text)));
        let meant = match unit.to_ascii_lowercase().as_str() {
            "" => "B",
            "k" | "kb" | "kib" | "ki" => "KiB",
            "m" | "mb" | "mib" | "mi" => "MiB",
            "g" | "gb" | "gib" | "gi" => "GiB",
            _ => "",
        };
        if number.is_empty() || meant.is_empty() {
            fault.hint("write a whole number with B, KiB, MiB or GiB, such as `64KiB` or `10MiB`")
        } else {
            fault.hint(format!("write `{number}{meant}`"))
        }
    };
    let amount: u64 = number.parse().map_err(|_| wrong())?;
    if amount == 0 && unit.is_empty() {
        return Ok(0);
    }
    let (_, factor) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    amount
        .checked_mul(factor)
        .filter(|size| *size <= 1 << 40)
        .ok_or_else(|| Fault::new(format!("{} is more than 1024GiB", quoted(text))))
}

/// `20%`: 1 to 100.
pub(super) fn percent(text: &str) -> Result<u8, Fault> {
    text.strip_suffix('%')
        .and_then(|number| number.parse::<u8>().ok())
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| {
            Fault::new(format!("{} is not a percentage", quoted(text)))
                .hint("write a whole number from 1 to 100 with a percent sign, such as `20%`")
        })
}

/// A network in CIDR form without host bits.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let fault = Fault::new(format!("{} is not a network", quoted(text)));
    match text.parse::<IpNet>() {
        Ok(network) if network == network.trunc() => Ok(network),
        Ok(network) => Err(fault.hint(format!("write `{}`", network.trunc()))),
        Err(_) => Err(match text.parse::<std::net::IpAddr>() {
            Ok(single) => fault.hint(format!("write `{}`", IpNet::from(single))),
            Err(_) => fault.hint("write an address and a prefix length, such as `10.0.0.0/8`"),
        }),
    }
}

/// The name of an issuer, an upstream or a route: a metric label and a part of admin paths.
pub(super) fn name(text: &str) -> Result<(), Fault> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text == "none" {
        return Err(Fault::new(
            "`none` is not a name: metrics say it where there is no name",
        ));
    }
    if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(Fault::new(format!("{} is not a name", quoted(text)))
            .hint("use 1 to 64 letters, digits, `-`, `_` and `.`"))
    }
}

/// A path on this machine.
pub(super) fn file(text: &str) -> Result<(), Fault> {
    if text.contains("-----BEGIN") {
        return Err(Fault::new("this is key material, not a path")
            .hint("put it into a file and write the file's path"));
    }
    if text.is_empty() || text.contains(['\0', '\n']) {
        return Err(Fault::new(format!("{} is not a path", quoted(text))));
    }
    Ok(())
}

/// An `http:` or `https:` URL without user and fragment.
pub(super) fn url(text: &str) -> Result<reqwest::Url, Fault> {
    let fault = |why: &str| Fault::new(format!("{} is not a URL we can call: {why}", quoted(text)));
    if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(fault("it has blanks or control characters"));
    }
    let url = reqwest::Url::parse(text).map_err(|_| {
        fault("it cannot be parsed")
            .hint("write it in full, such as `https://sso.example.com/realms/eazybank`")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("its scheme is neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(fault("it has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            fault("it holds a user or a password").hint("leave out what stands before the `@`")
        );
    }
    if url.fragment().is_some() {
        return Err(fault("it has a fragment").hint("leave out what follows the `#`"));
    }
    Ok(url)
}

/// The issuer identifier: a URL without a query (OpenID Connect Discovery 1.0, section 3).
pub(super) fn issuer(text: &str) -> Result<(), Fault> {
    if url(text)?.query().is_some() {
        return Err(
            Fault::new(format!("{} is not an issuer: it has a query", quoted(text)))
                .hint("write what `iss` in the tokens says"),
        );
    }
    Ok(())
}

/// A URL, or `file:` and an absolute path.
pub(super) fn url_or_file(text: &str) -> Result<(), Fault> {
    match text.strip_prefix("file:") {
        Some(path) if path.starts_with('/') && !path.starts_with("//") => file(path),
        Some(_) => Err(Fault::new(format!("{} is not a file", quoted(text)))
            .hint("write `file:` and an absolute path, such as `file:/etc/portcullis/jwks.json`")),
        None => url(text).map(|_| ()),
    }
}

/// The name a caller uses for us: lower case, no scheme, no port, `*.` in front for every name below.
pub(super) fn host(text: &str) -> Result<(), Fault> {
    let fault = Fault::new(format!("{} is not a host name", quoted(text)));
    let bare = text
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let bare = bare.split(['/', ':']).next().unwrap_or_default();
    if bare != text && dns_name(bare.trim_start_matches("*.")) {
        return Err(fault.hint(format!("write the name alone: `{bare}`")));
    }
    if dns_name(text.strip_prefix("*.").unwrap_or(text)) {
        return Ok(());
    }
    Err(fault.hint("write a name such as `api.example.com` or `*.example.com`"))
}

/// A route's path: exactly what [`crate::request`] leaves of a target, so that it can ever match.
pub(super) fn route_path(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| Fault::new(format!("{} is not a route's path: {why}", quoted(text)));
    let lower = text.to_ascii_lowercase();
    if !text.starts_with('/') {
        return Err(fault("it does not start with `/`").hint(format!("write `/{}`", redact(text))));
    }
    if text.contains(['?', '#']) || lower.contains("%3f") || lower.contains("%23") {
        return Err(fault("it has a query or a fragment, plain or encoded")
            .hint("conditions on the query go into `match.query`"));
    }
    if text.contains([';', '\\', '*']) {
        return Err(fault("it has `;`, `\\` or `*`").hint(
            "a path covers everything beneath it on segment boundaries; there are no patterns",
        ));
    }
    if text.bytes().any(|b| b <= b' ' || b >= 0x7f) {
        return Err(
            fault("it has blanks, control characters or letters outside ASCII")
                .hint("write such characters percent-encoded"),
        );
    }
    if lower.contains("%2f") || lower.contains("%5c") {
        return Err(fault("it has an encoded slash"));
    }
    if text.len() > 1 && text.ends_with('/') {
        let trimmed = text.trim_end_matches('/');
        let meant = if trimmed.is_empty() { "/" } else { trimmed };
        return Err(fault("it ends with `/`").hint(format!(
            "write `{meant}`: it covers everything beneath it too"
        )));
    }
    if text.contains("//") {
        return Err(fault("it has an empty segment"));
    }
    let dots = lower.replace("%2e", ".");
    if dots.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(fault("it has a `.` or `..` segment"));
    }
    let escapes = text.match_indices('%').all(|(at, _)| {
        let hex = text.as_bytes().get(at + 1..at + 3);
        hex.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    });
    if !escapes {
        return Err(fault("a `%` is not followed by two hexadecimal digits"));
    }
    if !crate::request::path_has_one_reading(text) {
        return Err(
            fault("no request could have it, because such targets are refused")
                .hint("write letters, digits and `-._~` as they are"),
        );
    }
    Ok(())
}

/// A request method, in capitals.
pub(super) fn method(text: &str) -> Result<(), Fault> {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if KNOWN.contains(&text) {
        return Ok(());
    }
    let fault = Fault::new(format!("{} is not a method to route", quoted(text)));
    if matches!(text.to_ascii_uppercase().as_str(), "CONNECT" | "TRACE") {
        return Err(fault.hint("CONNECT and TRACE never pass the gateway"));
    }
    Err(match nearest(text, KNOWN) {
        Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
        None => fault.hint(format!("one of {}", KNOWN.join(", "))),
    })
}

/// A field name of RFC 9110.
pub(super) fn header_name(text: &str) -> Result<(), Fault> {
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Fault::new(format!("{} is not a header name", quoted(text)))
            .hint("use letters, digits and `-`, such as `X-Customer`")),
    }
}

/// A field value; it may be a credential, so it is never shown.
pub(super) fn header_value(text: &str) -> Result<(), Fault> {
    let visible = text.bytes().all(|b| (b' '..0x7f).contains(&b));
    if visible && text.trim() == text {
        Ok(())
    } else {
        Err(Fault::new(
            "not a header value: blanks around it, control characters or letters outside ASCII",
        ))
    }
}

/// A JSON pointer (RFC 6901) to one claim.
pub(super) fn json_pointer(text: &str) -> Result<(), Fault> {
    let fault = Fault::new(format!("{} is not a JSON pointer to a claim", quoted(text)));
    if !text.starts_with('/') {
        return Err(fault.hint(format!("write `/{}`", redact(text))));
    }
    let escapes = text
        .match_indices('~')
        .all(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')));
    if escapes {
        Ok(())
    } else {
        Err(fault.hint("`~` is written `~0`, and `/` inside a name `~1`"))
    }
}

/// One scope of RFC 6749: visible ASCII without blank, quote and backslash.
pub(super) fn scope(text: &str) -> Result<(), Fault> {
    let fault = Fault::new(format!("{} is not a scope", quoted(text)));
    if text.contains(' ') {
        return Err(fault.hint("write each scope as an entry of its own"));
    }
    let fine = |b: u8| (0x21..0x7f).contains(&b) && !matches!(b, b'"' | b'\\');
    if !text.is_empty() && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(fault.hint("a scope is visible ASCII without blanks, `\"` and `\\`"))
    }
}

/// Any text that says something.
pub(super) fn word(text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        Err(Fault::new("is empty"))
    } else if text.trim() != text || text.chars().any(char::is_control) {
        Err(Fault::new(format!(
            "{} has blanks around it or control characters",
            quoted(text)
        )))
    } else {
        Ok(())
    }
}
