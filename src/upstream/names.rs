//! Asks name servers who the peers of a pool are, and for how long that holds. No request ever waits for it.
//!
//! The order of things is that of the system's own resolver: `/etc/hosts`, then the servers of `/etc/resolv.conf` with
//! its search list. Both files are read for each look-up, so that what changes in them is heard.

mod services;
mod system;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::task::JoinSet;

use crate::config::plan::DnsPlan;

/// What a name server says about time is believed between these two.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// An answer of which a part is missing, whatever it says.
const HALF_HOLDS: Duration = Duration::from_secs(30);
/// `/etc/hosts` says nothing about time.
const FILES_HOLD: Duration = Duration::from_secs(5);
/// One question to one server, and how often all of them are asked. A lost packet is sent again within it.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_ROUNDS: usize = 3;
/// A look-up with all its questions.
const WITHIN: Duration = Duration::from_secs(20);

/// One pool's way to ask.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Empty: the system's.
    servers: Vec<SocketAddr>,
}

/// A peer as a name server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    /// Those with a lower one go first.
    pub(super) priority: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) members: Vec<Member>,
    pub(super) holds: Duration,
    /// The question for this kind of address was not answered, so nothing is known against those there are.
    pub(super) unanswered: Families,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The servers say that there is nothing.
    Empty,
    /// Nobody could say, and why.
    Failed(String),
}

/// What one look-up asks with.
#[derive(Clone)]
struct Session {
    /// One for each server, in their order: the first that answers is believed, as the system does it. Servers may know
    /// different things, and the one that is listed first knows best.
    servers: Vec<TokioResolver>,
    rounds: usize,
    search: Vec<Name>,
    ndots: usize,
}

/// The addresses of one name.
struct Addresses {
    found: Vec<IpAddr>,
    holds: Duration,
    unanswered: Families,
}

impl Names {
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        Names {
            servers: servers.to_vec(),
        }
    }

    /// # Errors
    /// [`Unknown`]; whoever asks keeps what it has.
    pub(super) async fn look_up(&self, what: &DnsPlan) -> Result<Answer, Unknown> {
        let asked = tokio::time::timeout(WITHIN, self.ask(what.clone())).await;
        let mut answer =
            asked.unwrap_or_else(|_| Err(Unknown::Failed("no answer in time".to_owned())))?;
        if answer.members.is_empty() {
            return Err(Unknown::Empty);
        }
        let longest = match answer.unanswered == Families::default() {
            true => LONGEST,
            false => HALF_HOLDS,
        };
        answer.holds = answer.holds.clamp(SHORTEST, longest);
        Ok(answer)
    }

    async fn ask(&self, what: DnsPlan) -> Result<Answer, Unknown> {
        let servers = self.servers.clone();
        // Files may hang. In a task of its own, because what reads a stranger's bytes must not take us along.
        let ready = tokio::task::spawn_blocking(move || (system::hosts(), Session::new(&servers)));
        let (hosts, session) = ready.await.map_err(|error| failed(&error))?;
        let asking = async move {
            match what {
                DnsPlan::Addresses { host, port } => {
                    let known = system::in_hosts(&hosts, &host);
                    if !known.is_empty() {
                        return Ok(at_port(Addresses::of_files(known), port));
                    }
                    Ok(at_port(session?.addresses_of(&host).await?, port))
                }
                DnsPlan::Services(name) => session?.services_of(&name, &hosts).await,
            }
        };
        let mut task = JoinSet::new();
        task.spawn(asking);
        match task.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => Err(failed(&error)),
            None => Err(Unknown::Empty),
        }
    }
}

impl Session {
    fn new(servers: &[SocketAddr]) -> Result<Self, Unknown> {
        let (config, mut options) = match servers {
            [] => system::configured().map_err(|error| failed(&error))?,
            servers => (system::named(servers), ResolverOpts::default()),
        };
        // Nobody asks twice within a time to live, so there is nothing to keep.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = options.timeout.min(PATIENCE);
        let rounds = options.attempts.clamp(1, MOST_ROUNDS);
        options.attempts = 0;
        let only = |server: &NameServerConfig| {
            let config = ResolverConfig::from_name_servers(vec![server.clone()]);
            let mut builder =
                Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            *builder.options_mut() = options.clone();
            builder.build().map_err(|error| failed(&error))
        };
        Ok(Session {
            servers: config
                .name_servers()
                .iter()
                .map(only)
                .collect::<Result<_, _>>()?,
            rounds,
            search: config.search().to_vec(),
            ndots: options.ndots,
        })
    }

    /// The names that a name may stand for, in the order in which they are tried.
    fn candidates(&self, text: &str) -> Result<Vec<Name>, Unknown> {
        let name = Name::from_ascii(text).map_err(|error| failed(&error))?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let mut whole = name.clone();
        whole.set_fqdn(true);
        let beneath = self.search.iter();
        let mut names: Vec<Name> = beneath
            .filter_map(|domain| name.clone().append_domain(domain).ok())
            .collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let goes_first = dots >= self.ndots || name.is_localhost();
        names.insert(if goes_first { 0 } else { names.len() }, whole);
        Ok(names)
    }

    /// Both kinds of address of the first name that has any, so that two names are never mixed.
    async fn addresses_of(&self, text: &str) -> Result<Addresses, Unknown> {
        for name in self.candidates(text)? {
            let (v4, v6) = tokio::join!(
                self.records(&name, RecordType::A),
                self.records(&name, RecordType::AAAA)
            );
            let unanswered = Families {
                v4: v4.is_err(),
                v6: v6.is_err(),
            };
            let records = match (v4, v6) {
                (Err(error), Err(_)) => return Err(failed(&error)),
                (v4, v6) => [v4.unwrap_or_default(), v6.unwrap_or_default()].concat(),
            };
            let address = |record: &Record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            };
            let mut found: Vec<IpAddr> = records.iter().filter_map(address).collect();
            found.sort_unstable();
            found.dedup();
            if !found.is_empty() {
                return Ok(Addresses {
                    found,
                    holds: shortest(&records),
                    unanswered,
                });
            }
            // It may have addresses, and nobody could say: another name must not stand in for it.
            if unanswered != Families::default() {
                return Err(Unknown::Failed("only a part of it was answered".to_owned()));
            }
        }
        Err(Unknown::Empty)
    }

    /// Empty if a server says that there are none.
    async fn records(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, NetError> {
        let mut failure = NetError::NoConnections;
        for _ in 0..self.rounds {
            for server in &self.servers {
                match server.lookup(name.clone(), kind).await {
                    Ok(lookup) => return Ok(lookup.answers().to_vec()),
                    Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }
}

impl Addresses {
    fn of_files(found: Vec<IpAddr>) -> Self {
        Addresses {
            found,
            holds: FILES_HOLD,
            unanswered: Families::default(),
        }
    }
}

fn at_port(addresses: Addresses, port: u16) -> Answer {
    let member = |address| Member {
        address: SocketAddr::new(address, port),
        weight: 1,
        priority: 0,
    };
    Answer {
        members: addresses.found.into_iter().map(member).collect(),
        holds: addresses.holds,
        unanswered: addresses.unanswered,
    }
}

/// A chain of names holds as long as its shortest link.
fn shortest(records: &[Record]) -> Duration {
    let seconds = records.iter().map(|record| record.ttl).min();
    Duration::from_secs(seconds.unwrap_or_default().into())
}

fn failed(error: &dyn std::fmt::Display) -> Unknown {
    Unknown::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(search: &[&str], ndots: usize) -> Session {
        let server = "127.0.0.1:53".parse().expect("an address");
        let mut session = Session::new(&[server]).expect("nothing is asked yet");
        let domain = |text: &&str| Name::from_ascii(text).expect("a name");
        session.search = search.iter().map(domain).collect();
        session.ndots = ndots;
        session
    }

    #[test]
    fn a_short_name_is_looked_for_in_the_search_list() {
        let names = |text: &str, search: &[&str], ndots| {
            let names = session(search, ndots).candidates(text).expect("a name");
            names.iter().map(Name::to_ascii).collect::<Vec<_>>()
        };
        let search = ["prod.svc.cluster.local", "example.com"];
        assert_eq!(
            names("accounts", &search, 1),
            [
                "accounts.prod.svc.cluster.local.",
                "accounts.example.com.",
                "accounts."
            ]
        );
        assert_eq!(
            names("accounts.internal", &search[1..], 1),
            ["accounts.internal.", "accounts.internal.example.com."]
        );
        assert_eq!(
            names("accounts.internal", &search[1..], 5),
            ["accounts.internal.example.com.", "accounts.internal."]
        );
        assert_eq!(
            names("accounts.internal.", &search, 5),
            ["accounts.internal."]
        );
        assert_eq!(
            names("_http._tcp.accounts", &[], 1),
            ["_http._tcp.accounts."]
        );
        // RFC 6761 section 6.3: it is nobody else.
        assert_eq!(
            names("localhost", &search[1..], 1),
            ["localhost.", "localhost.example.com."]
        );
        let long = "a".repeat(64);
        assert!(session(&[], 1).candidates(&long).is_err());
    }

    #[test]
    fn a_chain_holds_as_long_as_its_shortest_link() {
        let record = |ttl| {
            let name = Name::from_ascii("a.").expect("a name");
            Record::from_rdata(name, ttl, RData::A(std::net::Ipv4Addr::LOCALHOST.into()))
        };
        let records = [record(300), record(7), record(60)];
        assert_eq!(shortest(&records), Duration::from_secs(7));
        assert_eq!(shortest(&[]), Duration::ZERO);
    }
}
