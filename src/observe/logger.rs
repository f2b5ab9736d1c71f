//! Diagnostics on standard error, one plain line each: `TIME LEVEL target message`.
//!
//! Three things that a stock logger would not do: foreign crates never speak below their cap, because at debug Pingora
//! and its kind print headers and raw bytes; a flood of one target's warnings is thinned and counted; and every line
//! passes [`redact`](mod@super::redact) last.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{redact, timestamp};
use crate::clock::Clock;

/// The environment variable that [`level`] reads.
pub const LEVEL_VARIABLE: &str = "PORTCULLIS_LOG";

/// This crate's own targets; everything else is foreign.
const OWN: &str = "portcullis";
const PINGORA: &str = "pingora";

/// Warnings and errors that one target may write at once, and how many a second from then on.
const BURST: f64 = 20.0;
const PER_SECOND: f64 = 2.0;
/// Targets are written in code, so there are few; a surprise shares the last bucket.
const TARGETS: usize = 256;

struct Logger {
    level: AtomicUsize,
    clock: Clock,
    buckets: Mutex<HashMap<String, Bucket>>,
    out: Mutex<Box<dyn Write + Send>>,
}

struct Bucket {
    tokens: f64,
    filled: Duration,
    dropped: u64,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Makes this the process's logger. May be called again to change the level.
pub fn init(level: LevelFilter) {
    let logger = LOGGER.get_or_init(|| Logger::new(Clock::system(), Box::new(std::io::stderr())));
    logger.level.store(level as usize, Ordering::Relaxed);
    // Refused if a logger is set already: by an earlier call, or by a test that wants its own.
    let _ = log::set_logger(logger);
    log::set_max_level(level);
}

/// What `PORTCULLIS_LOG` says: `error`, `warn`, `info`, `debug` or `trace`; anything else is `info`.
pub fn level() -> LevelFilter {
    std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|word| word.trim().parse().ok())
        .filter(|level| *level != LevelFilter::Off)
        .unwrap_or(LevelFilter::Info)
}

impl Logger {
    fn new(clock: Clock, out: Box<dyn Write + Send>) -> Self {
        Logger {
            level: AtomicUsize::new(LevelFilter::Info as usize),
            clock,
            buckets: Mutex::new(HashMap::new()),
            out: Mutex::new(out),
        }
    }

    fn allows(&self, level: Level, target: &str) -> bool {
        let cap = if is_of(target, OWN) {
            LevelFilter::Trace
        } else if target.starts_with(PINGORA) {
            LevelFilter::Info
        } else {
            LevelFilter::Warn
        };
        level <= cap && level as usize <= self.level.load(Ordering::Relaxed)
    }

    /// `None`: one too many. Else how many were dropped since the last one that was not.
    fn admit(&self, level: Level, target: &str) -> Option<u64> {
        if level > Level::Warn {
            return Some(0);
        }
        let now = self.clock.monotonic();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = buckets.len() < TARGETS || buckets.contains_key(target);
        let target = if known { target } else { "" };
        if !buckets.contains_key(target) {
            let full = Bucket {
                tokens: BURST,
                filled: now,
                dropped: 0,
            };
            buckets.insert(target.to_owned(), full);
        }
        let bucket = buckets.get_mut(target)?;
        let passed = now.saturating_sub(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            bucket.dropped += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.dropped))
    }

    fn line(&self, level: Level, target: &str, message: &str) -> Vec<u8> {
        let mut line = Vec::with_capacity(64 + message.len());
        timestamp::write(&mut line, self.clock.unix_millis());
        line.extend_from_slice(format!(" {level:<5} {target} ").as_bytes());
        let message = if is_of(target, OWN) {
            redact::redact(message)
        } else {
            redact::redact_foreign(message)
        };
        // One message, one line: nobody writes a second one through a value, or commands to a terminal.
        for c in message.chars() {
            if c.is_control() {
                line.extend(c.escape_default().map(|c| c as u8));
            } else {
                line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        line.push(b'\n');
        line
    }

    fn write(&self, line: &[u8]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // There is nowhere left to complain.
        let _ = out.write_all(line);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.allows(metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        let (level, target) = (record.level(), record.target());
        if !self.allows(level, target) {
            return;
        }
        let Some(dropped) = self.admit(level, target) else {
            return;
        };
        let mut lines = Vec::new();
        if dropped > 0 {
            let note = format!("{dropped} more warnings or errors of this kind were not written");
            lines = self.line(Level::Warn, target, &note);
        }
        lines.extend(self.line(level, target, &record.args().to_string()));
        self.write(&lines);
    }

    fn flush(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.flush();
    }
}

fn is_of(target: &str, name: &str) -> bool {
    target
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Page;

    fn logger(level: LevelFilter) -> (Logger, Page, Clock) {
        let (page, clock) = (Page::default(), Clock::manual(1_795_451_384));
        let logger = Logger::new(clock.clone(), Box::new(page.clone()));
        logger.level.store(level as usize, Ordering::Relaxed);
        (logger, page, clock)
    }

    fn say(logger: &Logger, level: Level, target: &str, message: &str) {
        let record = Record::builder();
        let args = format_args!("{message}");
        logger.log(&{ record }.level(level).target(target).args(args).build());
    }

    #[test]
    fn a_line_says_when_how_grave_who_and_what() {
        let (logger, page, _) = logger(LevelFilter::Info);
        say(&logger, Level::Info, "portcullis::server", "listening");
        say(&logger, Level::Debug, "portcullis::server", "unheard");
        assert_eq!(
            page.text(),
            "2026-11-23T16:29:44.000Z INFO  portcullis::server listening\n"
        );
    }

    #[test]
    fn foreign_crates_keep_their_caps_at_every_level() {
        let (logger, _, _) = logger(LevelFilter::Trace);
        for (target, loudest) in [
            ("portcullis", Level::Trace),
            ("portcullis::verify::keys", Level::Trace),
            ("portcullis_other", Level::Warn),
            ("pingora_core::protocols::http::v1::server", Level::Info),
            ("pingora_proxy", Level::Info),
            ("h2::codec", Level::Warn),
            ("hyper_util::client", Level::Warn),
            ("rustls::server", Level::Warn),
            ("reqwest::connect", Level::Warn),
        ] {
            for level in [
                Level::Error,
                Level::Warn,
                Level::Info,
                Level::Debug,
                Level::Trace,
            ] {
                assert_eq!(
                    logger.allows(level, target),
                    level <= loudest,
                    "{target} {level}"
                );
            }
        }
    }

    #[test]
    fn a_flood_is_thinned_and_counted() {
        let (logger, page, clock) = logger(LevelFilter::Info);
        for n in 0..100 {
            say(
                &logger,
                Level::Error,
                "pingora_proxy",
                &format!("broken {n}"),
            );
        }
        say(&logger, Level::Warn, "portcullis::edge", "another's bucket");
        assert_eq!(page.text().lines().count(), 21);
        clock.advance(Duration::from_secs(1));
        say(&logger, Level::Error, "pingora_proxy", "broken again");
        let text = page.text();
        let mut last = text.lines().skip(21);
        assert!(last.next().unwrap().contains(" 80 more warnings"));
        assert!(last.next().unwrap().ends_with("broken again"));
        assert_eq!(last.next(), None);
    }

    #[test]
    fn no_credential_and_no_second_line_gets_out() {
        let (logger, page, _) = logger(LevelFilter::Trace);
        let canary = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA";
        for target in ["portcullis::x", "pingora_core"] {
            for level in [Level::Error, Level::Warn, Level::Info] {
                let message = format!("a\nINFO forged\x1b[2J {canary} Bearer opaque-canary");
                say(&logger, level, target, &message);
            }
        }
        let text = page.text();
        assert_eq!(text.lines().count(), 6);
        assert!(!text.contains("eyJ") && !text.contains("canary") && !text.contains('\x1b'));
        assert!(text.contains("a\\nINFO forged\\u{1b}[2J *** Bearer ***"));
    }

    #[test]
    fn init_may_be_called_again() {
        init(LevelFilter::Warn);
        init(LevelFilter::Info);
        assert_eq!(log::max_level(), LevelFilter::Info);
    }
}
