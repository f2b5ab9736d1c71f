//! Services: SRV records, their targets, and what weights and priorities come to (RFC 2782).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::system::in_hosts;
use super::{Addresses, Answer, Families, Member, Session, Unknown, failed, shortest};

/// SRV records that are followed, and how many of them at a time.
const MOST_TARGETS: usize = 64;
const AT_A_TIME: usize = 8;
/// A weight is a share of this: 65,535 places on a ring for one peer would be too many.
const MOST_WEIGHT: u64 = 100;

/// Priority, weight, port and target of a record, in the order in which they are taken.
type Service = (u16, u16, u16, String);

impl Session {
    pub(super) async fn services_of(&self, text: &str, hosts: &Hosts) -> Result<Answer, Unknown> {
        for name in self.candidates(text)? {
            let records = self.records(&name, RecordType::SRV).await;
            let records = records.map_err(|error| failed(&error))?;
            let mut services: Vec<Service> = Vec::new();
            for record in &records {
                if let RData::SRV(srv) = &record.data
                    && !srv.target.is_root()
                    && srv.port > 0
                {
                    let mut target = srv.target.clone();
                    target.set_fqdn(true);
                    services.push((srv.priority, srv.weight, srv.port, target.to_ascii()));
                }
            }
            if records.is_empty() {
                continue;
            }
            // The root as the only target says that there is decidedly no such service.
            if services.is_empty() {
                break;
            }
            services.sort_unstable();
            services.dedup();
            services.truncate(MOST_TARGETS);
            return self.targets(services, shortest(&records), hosts).await;
        }
        Err(Unknown::Empty)
    }

    async fn targets(
        &self,
        services: Vec<Service>,
        holds: Duration,
        hosts: &Hosts,
    ) -> Result<Answer, Unknown> {
        let mut answer = Answer {
            members: Vec::new(),
            holds,
            unanswered: Families::default(),
        };
        let mut shares: Vec<(Member, u64)> = Vec::new();
        for some in services.chunks(AT_A_TIME) {
            let mut asked = JoinSet::new();
            for service in some {
                let (session, service) = (self.clone(), service.clone());
                let known = in_hosts(hosts, &service.3);
                asked.spawn(async move {
                    let addresses = match known.is_empty() {
                        true => session.addresses_of(&service.3).await,
                        false => Ok(Addresses::of_files(known)),
                    };
                    (service, addresses)
                });
            }
            while let Some(done) = asked.join_next().await {
                let ((priority, weight, port, _), addresses) =
                    done.map_err(|error| failed(&error))?;
                let addresses = match addresses {
                    Ok(addresses) => addresses,
                    Err(Unknown::Empty) => continue,
                    Err(Unknown::Failed(_)) => {
                        answer.unanswered = Families { v4: true, v6: true };
                        continue;
                    }
                };
                answer.holds = answer.holds.min(addresses.holds);
                answer.unanswered.v4 |= addresses.unanswered.v4;
                answer.unanswered.v6 |= addresses.unanswered.v6;
                // The weight is the target's, however many addresses it has. One without a weight is chosen seldom.
                let each = (u64::from(weight) * 1000).max(1) / addresses.found.len() as u64;
                for address in addresses.found {
                    let member = Member {
                        address: SocketAddr::new(address, port),
                        weight: 1,
                        priority,
                    };
                    shares.push((member, each));
                }
            }
        }
        if shares.is_empty() && answer.unanswered != Families::default() {
            return Err(Unknown::Failed(
                "no target's address could be looked up".to_owned(),
            ));
        }
        answer.members = weighed(shares);
        Ok(answer)
    }
}

/// The same shares, of which the greatest of a priority is no more than [`MOST_WEIGHT`].
fn weighed(shares: Vec<(Member, u64)>) -> Vec<Member> {
    let mut bounds: HashMap<u16, (u64, u64)> = HashMap::new();
    for (member, share) in &shares {
        let (least, most) = bounds.entry(member.priority).or_insert((*share, *share));
        (*least, *most) = ((*least).min(*share), (*most).max(*share));
    }
    let weight = |priority: u16, share: u64| match bounds.get(&priority) {
        Some((least, most)) if least < most => (share * MOST_WEIGHT / most).max(1),
        _ => 1,
    };
    let weighed = shares.into_iter().map(|(member, share)| Member {
        weight: u32::try_from(weight(member.priority, share)).unwrap_or(1),
        ..member
    });
    weighed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(priority: u16) -> Member {
        Member {
            address: ([10, 0, 0, 1], 80).into(),
            weight: 1,
            priority,
        }
    }

    fn weights(shares: &[(u16, u64)]) -> Vec<u32> {
        let shares = shares.iter().map(|(tier, share)| (member(*tier), *share));
        let members = weighed(shares.collect());
        members.iter().map(|member| member.weight).collect()
    }

    #[test]
    fn weights_are_shares_of_a_hundred_and_nobody_has_none() {
        let of_one =
            |shares: &[u64]| weights(&shares.iter().map(|share| (7, *share)).collect::<Vec<_>>());
        assert_eq!(of_one(&[5000, 5000]), [1, 1]);
        assert_eq!(
            of_one(&[1, 1, 1]),
            [1, 1, 1],
            "all of them without a weight"
        );
        assert_eq!(of_one(&[60_000, 30_000, 10_000]), [100, 50, 16]);
        assert_eq!(of_one(&[65_535_000, 1]), [100, 1]);
        assert_eq!(of_one(&[]), [0; 0]);
    }

    #[test]
    fn weights_are_compared_within_a_priority() {
        let shares = [(1, 3000), (1, 1000), (2, 65_535_000), (3, 5)];
        assert_eq!(weights(&shares), [100, 33, 1, 1]);
    }
}
