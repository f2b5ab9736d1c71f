//! Calls that go on by themselves while a step does something else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::gateway::{Call, Portcullis};

/// One stream of calls, each after the one before it was answered.
pub struct Lane<'a> {
    pub name: &'static str,
    pub call: Call,
    /// Between two calls: this is company, not a load test.
    pub pause: Duration,
    /// The token of the call with this number.
    pub token: Box<dyn Fn(usize) -> String + Sync + 'a>,
}

/// One call that was answered.
#[derive(Debug, Clone)]
pub struct Seen {
    pub lane: &'static str,
    pub sent: Instant,
    pub status: u16,
    /// It said when to come back.
    pub later: bool,
}

pub struct Log(Mutex<Vec<Seen>>);

impl Log {
    pub fn of(&self, lane: &str) -> Vec<Seen> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|s| s.lane == lane).cloned().collect()
    }
}

/// Drives the lanes while `run` runs. A lane that cannot reach the gateway fails the step.
pub fn beside<R>(gateway: &Portcullis, lanes: &[Lane<'_>], run: impl FnOnce(&Log) -> R) -> R {
    let log = Log(Mutex::default());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when `run` panics: the scope waits for the lanes.
        let _end = Over(&over);
        for lane in lanes {
            let (log, over) = (&log, &over);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let token = (lane.token)(number);
                    let sent = Instant::now();
                    let answer = gateway.send(lane.call, &token);
                    log.0.lock().unwrap().push(Seen {
                        lane: lane.name,
                        sent,
                        status: answer.status,
                        later: answer.header("retry-after").is_some(),
                    });
                    std::thread::sleep(lane.pause);
                }
            });
        }
        run(&log)
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often each status was seen, for a message.
pub fn counts(seen: &[Seen]) -> String {
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for seen in seen {
        *counts.entry(seen.status).or_default() += 1;
    }
    let listed = counts.iter().map(|(status, n)| format!("{n} x {status}"));
    listed.collect::<Vec<_>>().join(", ")
}
