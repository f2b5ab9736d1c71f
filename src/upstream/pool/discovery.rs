//! Keeps a pool's names looked up: the one that says who the peers are, or those of single peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::names::{Answer, Names, Unknown};
use super::super::peer::Peer;
use super::Pool;
use crate::config::plan::DnsPlan;
use crate::observe::metrics::Looked;

/// How soon after a look-up that brought nothing, where there is no peer yet.
const AGAIN_SOON: Duration = Duration::from_secs(1);
/// And where there is.
const AGAIN: Duration = Duration::from_secs(5);

/// A name that is looked up again and again.
struct Sought {
    name: DnsPlan,
    /// The peer that it is the name of; `None`: all peers.
    peer: Option<Arc<Peer>>,
    /// The last look-up brought nothing, and the log says so.
    failing: bool,
}

impl Pool {
    /// Looks names up when what was said of them ends, until the task is dropped. At once where there is no name.
    pub async fn keep_found(&self) {
        let names = self.names.clone();
        let mut asked = JoinSet::new();
        for sought in self.sought() {
            asked.spawn(look_up(names.clone(), sought, Duration::ZERO));
        }
        while let Some(done) = asked.join_next().await {
            let Ok((mut sought, answer)) = done else {
                continue;
            };
            let again = self.learn(&mut sought, answer);
            asked.spawn(look_up(names.clone(), sought, again));
        }
    }

    fn sought(&self) -> Vec<Sought> {
        let sought = |name, peer| Sought {
            name,
            peer,
            failing: false,
        };
        if let Some(name) = self.dns() {
            return vec![sought(name.clone(), None)];
        }
        let peers = self.peers();
        let names = peers.iter().filter_map(|peer| {
            let name = peer.name()?;
            Some(sought(name, Some(peer.clone())))
        });
        names.collect()
    }

    /// Takes a look-up in, and says when the next one is due.
    fn learn(&self, sought: &mut Sought, answer: Result<Answer, Unknown>) -> Duration {
        let outcome = match &answer {
            Ok(_) => Looked::Ok,
            Err(Unknown::Empty) => Looked::Empty,
            Err(Unknown::Failed(_)) => Looked::Failed,
        };
        self.metrics.looked_up(outcome);
        let (pool, name) = (&self.name, &sought.name);
        match answer {
            Ok(answer) => {
                if std::mem::take(&mut sought.failing) {
                    log::info!("upstream {pool}: {name} can be looked up again");
                }
                match &sought.peer {
                    Some(peer) => {
                        let addresses = answer.members.iter().map(|member| member.address);
                        self.resolved(peer, &addresses.collect::<Vec<SocketAddr>>());
                    }
                    None => self.found(&answer),
                }
                answer.holds + answer.holds.mul_f64(fastrand::f64() / 10.0)
            }
            Err(unknown) => {
                let has_peer = match &sought.peer {
                    Some(peer) => peer.connectable().is_some(),
                    None => !self.peers().is_empty(),
                };
                // Once, not every few seconds: the metric goes on counting.
                if !std::mem::replace(&mut sought.failing, true) {
                    let why = match unknown {
                        Unknown::Empty => "its servers know no address of it",
                        Unknown::Failed(ref why) => why,
                    };
                    let meanwhile = match has_peer {
                        true => "what was known stays",
                        false => "there is no peer",
                    };
                    log::warn!("upstream {pool}: cannot look up {name}: {why}; {meanwhile}");
                }
                if has_peer { AGAIN } else { AGAIN_SOON }
            }
        }
    }
}

async fn look_up(
    names: Names,
    sought: Sought,
    after: Duration,
) -> (Sought, Result<Answer, Unknown>) {
    tokio::time::sleep(after).await;
    let answer = names.look_up(&sought.name).await;
    (sought, answer)
}
