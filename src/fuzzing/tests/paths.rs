//! Generated targets: what we forward, every model reads as we do (`readings`).

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::config::plan::TargetForms;
use crate::fuzzing::readings::READINGS;
use crate::fuzzing::target::Rig;
use crate::request::Target;

/// What honest paths are made of.
const PLAIN: [&str; 20] = [
    "accounts",
    "public",
    "admin",
    "secret",
    "a",
    "caf%C3%A9",
    "%E6%97%A5",
    "a%20b",
    "1",
    "a.json",
    ".well-known",
    "a:b",
    "a%3Ab",
    "a,b=c",
    "a@b",
    "...",
    "c%23",
    "accounts%3Fx",
    "..%3F",
    "what%3F",
];

/// What hostile ones are made of.
const HOSTILE: [&str; 64] = [
    ".",
    "..",
    "...",
    "/",
    "//",
    "\\",
    ";",
    ";x=1",
    "..;",
    "..;/",
    "/./",
    "/../",
    "/..",
    "%2e",
    "%2E%2e",
    ".%2e",
    "%2e.",
    "%252e",
    "%25",
    "%2525",
    "%2f",
    "%2F",
    "%252f",
    "%5c",
    "%5C",
    "%255c",
    "%3b",
    "%3B",
    "%3f",
    "%3F",
    "%23",
    "#",
    "?",
    "?/../",
    "%00",
    "\0",
    "%0a",
    "%0d%0a",
    "%09",
    "\t",
    "%20",
    " ",
    "+",
    "%7f",
    "%",
    "%%",
    "%zz",
    "%u002f",
    "%u002e",
    "%c0%af",
    "%c0%ae",
    "%e0%80%af",
    "%c1%9c",
    "%f0%80%80%af",
    "%80",
    "%ff",
    "%61ccounts",
    "%41",
    "ACCOUNTS",
    "http://a",
    "://",
    "@",
    "*",
    "\u{ff0f}",
];

fn generated(rng: &mut Rng) -> String {
    // Most of what is mixed at random is refused at once; what is nearly honest gets further.
    let hostile = [0.0, 0.05, 0.2, 0.6][rng.usize(..4)];
    let mut raw = String::new();
    if rng.u8(..) > 4 {
        raw.push('/');
    }
    for _ in 0..rng.usize(1..7) {
        let atoms: &[&str] = match rng.f64() < hostile {
            true => &HOSTILE,
            false => &PLAIN,
        };
        raw.push_str(atoms[rng.usize(..atoms.len())]);
        if rng.f64() < 0.7 {
            raw.push('/');
        }
    }
    raw
}

/// How many targets: `PORTCULLIS_TARGETS`, or as many as cost no patience.
fn count() -> usize {
    let wanted = std::env::var("PORTCULLIS_TARGETS").ok();
    wanted.map_or(20_000, |wanted| {
        wanted.parse().expect("a number of targets")
    })
}

/// How many of so many targets would be forwarded, and what is wrong with it.
fn judged(seed: u64, count: usize) -> (usize, Vec<String>) {
    let rig = Rig::new();
    let mut rng = Rng::with_seed(seed);
    let (mut forwarded, mut faults) = (0, Vec::new());
    for _ in 0..count {
        let raw = generated(&mut rng);
        match rig.judge(b"api.example.com", raw.as_bytes()) {
            Ok(Some(_)) => forwarded += 1,
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    (forwarded, faults)
}

#[test]
fn no_target_is_forwarded_that_somebody_reads_otherwise() {
    const SHARES: usize = 4;
    let count = count();
    let shares: Vec<_> = std::thread::scope(|scope| {
        let seeds = 0..SHARES as u64;
        let share = |seed| scope.spawn(move || judged(seed, count.div_ceil(SHARES)));
        let threads: Vec<_> = seeds.map(share).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|share| share.expect("no panic")).collect()
    });
    let forwarded: usize = shares.iter().map(|(forwarded, _)| forwarded).sum();
    let faults: Vec<&String> = shares
        .iter()
        .flat_map(|(_, faults)| faults)
        .take(20)
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // Were all of them refused, nothing would have been shown.
    assert!(forwarded > count / 5, "{forwarded} forwarded");
    println!("{forwarded} of {count} targets would be forwarded, and all models agree");
}

/// Each model must have something to say: targets that we refuse and that it reads otherwise than they stand there.
#[test]
fn every_model_dissents_from_what_is_refused() {
    let rig = Rig::new();
    let mut rng = Rng::with_seed(6);
    let mut dissents: BTreeMap<&str, usize> =
        READINGS.iter().map(|reading| (reading.server, 0)).collect();
    for _ in 0..5000 {
        let raw = generated(&mut rng);
        if rig.judge(b"api.example.com", raw.as_bytes()) != Ok(None) {
            continue;
        }
        let literally = Target {
            host: "api.example.com".to_owned(),
            path: raw.split('?').next().unwrap_or_default().to_owned(),
            query: None,
            forms: TargetForms::default(),
            sent_as: None,
        };
        let place = rig.place(&literally.path).unwrap_or_default();
        for reading in rig.dissenters(raw.as_bytes(), &literally, place) {
            *dissents.entry(reading.server).or_default() += 1;
        }
    }
    // They take a path as it is; what they would disagree about is nobody's but the others'.
    for literal in ["HAProxy", "Python's urllib", "Express"] {
        dissents.remove(literal);
    }
    assert!(dissents.values().all(|times| *times > 20), "{dissents:#?}");
}
