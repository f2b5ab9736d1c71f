//! Services: SRV records, their targets, and what weights and priorities come to (RFC 2782).

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
                // The root as a target says that there is no such service here.
                if let RData::SRV(srv) = &record.data
                    && !srv.target.is_root()
                {
                    let mut target = srv.target.clone();
                    target.set_fqdn(true);
                    services.push((srv.priority, srv.weight, srv.port, target.to_ascii()));
                }
            }
            if services.is_empty() {
                continue;
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

/// The same shares, the greatest of which is no more than [`MOST_WEIGHT`].
fn weighed(shares: Vec<(Member, u64)>) -> Vec<Member> {
    let most = shares.iter().map(|(_, share)| *share).max().unwrap_or(1);
    let most = most.max(1);
    let weight = |share: u64| {
        u32::try_from(share * MOST_WEIGHT / most)
            .unwrap_or(1)
            .max(1)
    };
    let same = shares.iter().all(|(_, share)| *share == most);
    let weighed = shares.into_iter().map(|(member, share)| Member {
        weight: if same { 1 } else { weight(share) },
        ..member
    });
    weighed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(shares: &[u64]) -> Vec<u32> {
        let member = Member {
            address: ([10, 0, 0, 1], 80).into(),
            weight: 1,
            priority: 7,
        };
        let members = weighed(shares.iter().map(|share| (member, *share)).collect());
        assert!(members.iter().all(|member| member.priority == 7));
        members.iter().map(|member| member.weight).collect()
    }

    #[test]
    fn weights_are_shares_of_a_hundred_and_nobody_has_none() {
        assert_eq!(weights(&[5000, 5000]), [1, 1]);
        assert_eq!(
            weights(&[1, 1, 1]),
            [1, 1, 1],
            "all of them without a weight"
        );
        assert_eq!(weights(&[60_000, 30_000, 10_000]), [100, 50, 16]);
        assert_eq!(weights(&[65_535_000, 1]), [100, 1]);
        assert_eq!(weights(&[]), [0; 0]);
    }
}
