//! Whom we listen for, whom we connect to, and whom we ask for names.

use std::net::{IpAddr, SocketAddr};

use super::quoted;
use crate::config::diagnostic::Fault;
use crate::config::plan::DnsPlan;
use crate::config::tree::redact;

/// An IP address and a port to listen on.
pub(in crate::config) fn address(text: &str) -> Result<SocketAddr, Fault> {
    let fault = Fault::new(format!("{} is not an address to listen on", quoted(text)));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(fault.hint("write the port: nobody could find a port that is chosen at start"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(
            match text.strip_prefix(':').or(text.strip_prefix("localhost:")) {
                Some(port) if text.starts_with(':') => {
                    fault.hint(format!("write `0.0.0.0:{port}`"))
                }
                Some(port) => fault.hint(format!("write `127.0.0.1:{port}`")),
                None if text.parse::<u16>().is_ok() => {
                    fault.hint(format!("write `0.0.0.0:{text}`"))
                }
                None => fault
                    .hint("write an IP address and a port, such as `0.0.0.0:8072` or `[::]:8072`"),
            },
        ),
    }
}

/// `host:port` of something we connect to.
pub(in crate::config) fn peer(text: &str) -> Result<(), Fault> {
    let fault = || Fault::new(format!("{} is not a peer's address", quoted(text)));
    if text.contains("://") {
        return Err(
            fault().hint("write `host:port` without a scheme; `tls` on the upstream makes it TLS")
        );
    }
    if text.contains(['/', '@']) {
        return Err(fault().hint("write `host:port` and nothing else"));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        return Err(fault().hint(format!("write the port: `{}:8080`", redact(text))));
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(fault().hint("the port is a number from 1 to 65535"));
    }
    let known = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => dns_name(name),
    };
    if known {
        Ok(())
    } else {
        Err(fault().hint(
            "write a host name, an IPv4 address or an IPv6 address in brackets, then `:port`",
        ))
    }
}

/// A name whose addresses or services are a pool's peers.
pub(in crate::config) fn dns(text: &str) -> Result<DnsPlan, Fault> {
    if !text.starts_with('_') {
        // A dot at the end says that the name is whole, so that no search list is tried.
        peer(&text.replacen(".:", ":", 1))?;
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        return Ok(DnsPlan::Addresses {
            host: host.to_owned(),
            port: port.parse().unwrap_or_default(),
        });
    }
    let fault = || Fault::new(format!("{} is no name of a service", quoted(text)));
    if text.contains(':') {
        return Err(fault().hint("leave out the port: the SRV records say it"));
    }
    let mut labels = text.split('.');
    let both = [labels.next(), labels.next()];
    let named = both
        .iter()
        .all(|label| label.is_some_and(|label| label.len() > 1 && label.starts_with('_')));
    match named && labels.next().is_some() && dns_name(text.strip_suffix('.').unwrap_or(text)) {
        true => Ok(DnsPlan::Services(text.to_owned())),
        false => {
            Err(fault()
                .hint("write `_service._proto.name`, such as `_http._tcp.accounts.internal`"))
        }
    }
}

/// A name server, on port 53 unless it says another.
pub(in crate::config) fn resolver(text: &str) -> Result<SocketAddr, Fault> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match alone.or_else(|_| text.parse()) {
        Ok(server) if server.port() > 0 => Ok(server),
        _ => {
            let fault = Fault::new(format!("{} is no address of a name server", quoted(text)));
            Err(fault.hint(
                "write an IP address, with a port if it is not 53: `10.0.0.53` or `[fd00::1]:5353`",
            ))
        }
    }
}

/// What may stand in a request's `Host`.
pub(in crate::config) fn authority(text: &str) -> Result<(), Fault> {
    let with_port = peer(text).is_ok();
    let alone = dns_name(text) || peer(&format!("{text}:80")).is_ok();
    match with_port || alone {
        true => Ok(()),
        false => Err(Fault::new(format!("{} is no host", quoted(text)))
            .hint("write a host name or an IP address, with or without a port")),
    }
}

pub(super) fn dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
