//! How an origin is written: as browsers send it, for it is compared letter by letter (Fetch standard, section 3.2).

use super::diagnostic::Fault;
use super::format;
use super::tree::redact;

/// `https://app.example.com`, with a port if it is not the scheme's own; or `*`.
pub(super) fn origin(text: &str) -> Result<(), Fault> {
    let fault = |why: &str| Fault::new(format!("`{}` is not an origin: {why}", redact(text)));
    if text == "*" {
        return Ok(());
    }
    if text == "null" {
        return Err(
            fault("sandboxed frames, local files and redirects of anybody say it")
                .hint("serve the page from a host, and write `https://` and that host"),
        );
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(fault("it has no scheme").hint(format!("write `https://{}`", redact(text))));
    };
    if text.contains('*') {
        return Err(
            fault("there are no patterns").hint("list each origin, or write `'*'` alone for all")
        );
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, beyond) = rest.split_at(end);
    if !beyond.is_empty() {
        let meant = format!("{scheme}://{authority}");
        let why = match beyond {
            "/" => "it ends with `/`",
            _ => "it has a path, a query or a fragment",
        };
        return Err(fault(why).hint(format!("write `{}`", redact(&meant))));
    }
    if authority.contains('@') {
        return Err(fault("it holds a user").hint("leave out what stands before the `@`"));
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower = text.to_ascii_lowercase();
        return Err(
            fault("browsers send it in lower case").hint(format!("write `{}`", redact(&lower)))
        );
    }
    if !text.is_ascii() {
        return Err(fault("browsers send such names encoded").hint("write the name as `xn--…`"));
    }
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.bytes().all(letters) {
        return Err(fault("its scheme is not one").hint("write such as `https://app.example.com`"));
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    if !own_port.is_empty()
        && let Some(bare) = text.strip_suffix(own_port)
    {
        return Err(fault("browsers leave out the scheme's own port")
            .hint(format!("write `{}`", redact(bare))));
    }
    // A port that nobody needs, where none is written: then it is what a peer's address is.
    let has_port = authority.rsplit_once(':').is_some_and(|(name, port)| {
        !port.ends_with(']') && (!name.starts_with('[') || name.ends_with(']'))
    });
    let with_port = match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:1"),
    };
    format::peer(&with_port).map_err(|_| {
        fault("its host or port is not one").hint("write such as `https://app.example.com:8443`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_an_origin() {
        for good in [
            "*",
            "https://app.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
            "https://[2001:db8::1]",
            "https://[2001:db8::1]:8443",
            "https://xn--bcher-kva.example",
            "http://a:443",
            "https://a:80",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
        ] {
            assert_eq!(origin(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_none() {
        for bad in [
            "",
            "null",
            "app.example.com",
            "https://",
            "https:///",
            "https://app.example.com/",
            "https://app.example.com/a",
            "https://app.example.com?a",
            "https://app.example.com#a",
            "https://user@app.example.com",
            "https://*.example.com",
            "*.example.com",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:",
            "https://app.example.com:0",
            "https://app.example.com:99999",
            "https://[2001:db8::1",
            "https://[::zz]",
            "https://bücher.example",
            "https://a b",
            "https://a,https://b",
            "ht!tp://a",
            "://a",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
