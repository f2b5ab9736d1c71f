//! What the system says about names: `/etc/hosts` and `/etc/resolv.conf`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, system_conf};

pub(super) fn hosts() -> Hosts {
    Hosts::from_system().unwrap_or_default()
}

/// What `/etc/hosts` says.
pub(super) fn in_hosts(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_ascii(name.to_ascii_lowercase()) else {
        return Vec::new();
    };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let lookups = [of(RecordType::A), of(RecordType::AAAA)];
    let records = lookups.iter().flatten().flat_map(|lookup| lookup.answers());
    records.filter_map(|record| record.data.ip_addr()).collect()
}

/// As resolv.conf(5) says: without the file, or without a server in it, the one on this host.
pub(super) fn configured() -> io::Result<(ResolverConfig, ResolverOpts)> {
    let text = match std::fs::read("/etc/resolv.conf") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    system_conf::parse_resolv_conf(&text).or_else(|_| {
        let local = [b"nameserver 127.0.0.1\n".as_slice(), &text].concat();
        system_conf::parse_resolv_conf(local).map_err(io::Error::other)
    })
}

pub(super) fn named(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let over = |mut way: ConnectionConfig| {
            way.port = address.port();
            way
        };
        let ways = vec![over(ConnectionConfig::udp()), over(ConnectionConfig::tcp())];
        NameServerConfig::new(address.ip(), true, ways)
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_knows_addresses_of_both_kinds_whatever_the_case() {
        let mut hosts = Hosts::default();
        let text = "127.0.0.1 localhost\n::1 localhost ip6-localhost # both\n10.0.0.1 Accounts\n";
        hosts.read_hosts_conf(text.as_bytes()).expect("lines");
        let of = |name: &str| {
            let known = in_hosts(&hosts, name);
            known.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(of("localhost."), ["127.0.0.1", "::1"]);
        assert_eq!(of("ACCOUNTS"), ["10.0.0.1"]);
        assert_eq!(of("loans"), [""; 0]);
        assert_eq!(of("a..b"), [""; 0]);
    }

    #[test]
    fn a_server_that_is_named_is_asked_on_its_port_both_ways() {
        let config = named(&["127.0.0.1:5353".parse().expect("an address")]);
        let server = &config.name_servers()[0];
        let ports: Vec<u16> = server.connections.iter().map(|way| way.port).collect();
        assert_eq!(
            (server.ip.to_string().as_str(), ports),
            ("127.0.0.1", vec![5353, 5353])
        );
        assert!(config.search().is_empty(), "a search list is the system's");
    }
}
