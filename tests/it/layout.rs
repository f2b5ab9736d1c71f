//! The shape of the source: rules that a compiler cannot hold, each with the reason why it is one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A source file with its path from the root, `src/verify/jwk.rs`.
struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source {
                    text: std::fs::read_to_string(&path).unwrap(),
                    path: relative(&path),
                });
            }
        }
    }
    assert!(sources.len() > 50);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap();
    path.to_str().unwrap().to_owned()
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path == "src/testkit.rs"
            // What only fuzzers and tests are built with.
            || self.path.contains("/fuzzing")
    }

    /// `src/verify.rs` and everything in `src/verify/`.
    fn is_of(&self, room: &str) -> bool {
        self.path
            .strip_prefix("src/")
            .and_then(|path| path.strip_prefix(room))
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// The lines that are in the product, numbered, without comments. Tests stand last in a file.
    fn code(&self) -> Vec<(usize, &str)> {
        let text = match self.text.find("#[cfg(test)]\nmod tests {") {
            Some(tests) => &self.text[..tests],
            None => &self.text,
        };
        let lines = text.lines().enumerate();
        lines
            .map(|(number, line)| (number + 1, uncommented(line)))
            .collect()
    }
}

fn uncommented(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// Every line of the product outside these rooms that holds one of the words.
fn found(words: &[&str], looked_at: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        if source.is_test() || !looked_at(&source) {
            continue;
        }
        for (number, line) in source.code() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

/// They take small views, so tests, benches and fuzzers need no server; and a change of the server cannot change who
/// may do what.
#[test]
fn those_who_decide_know_no_pingora() {
    let rooms = [
        "cors",
        "credential",
        "verify",
        "authorize",
        "route",
        "config",
    ];
    let decides = |source: &Source| rooms.iter().any(|room| source.is_of(room));
    assert!(sources().iter().filter(|source| decides(source)).count() > 20);
    let lines = found(&["pingora", "Pingora"], decides);
    assert!(lines.is_empty(), "{lines:#?}");
}

#[test]
fn one_file_names_the_metrics() {
    let lines = found(&["portcullis_"], |source| {
        source.path != "src/observe/metrics/families.rs"
    });
    assert!(lines.is_empty(), "{lines:#?}");
}

/// One place decides what a refusal looks like. What the admin listener answers is no refusal of a caller, a preflight's
/// answer is none at all, and the demo's issuer and services are somebody else.
#[test]
fn one_room_writes_refusals() {
    let mut lines = found(
        &[
            "respond_error",
            "ResponseHeader::build",
            "write_response_header",
            "write_error_response",
            "Response::new(",
            "Response::builder(",
            "StatusCode::",
            "\"HTTP/1.1 ",
        ],
        |source| {
            let rooms = ["reject", "demo", "observe/admin", "gateway/preflight"];
            !rooms.iter().any(|room| source.is_of(room))
        },
    );
    // The edge recognises Pingora's own refusals, to send ours instead.
    lines.retain(|line| !line.contains("starts_with("));
    assert!(lines.is_empty(), "{lines:#?}");
}

/// A permit that could be made elsewhere would be no proof that a policy was met.
#[test]
fn one_room_makes_permits() {
    let lines = found(&["Permit {", "Permit("], |source| {
        !source.is_of("authorize")
    });
    let made: Vec<&String> = lines
        .iter()
        .filter(|line| !line.contains("struct ") && !line.contains("enum "))
        .collect();
    assert!(made.is_empty(), "{made:#?}");
}

#[test]
fn the_names_tell_a_requests_life() {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let expected = [
        // The process.
        "cli",
        "config",
        "server",
        "reload",
        "background",
        "clock",
        // A request.
        "edge",
        "gateway",
        "request",
        "route",
        "cors",
        "credential",
        "verify",
        "authorize",
        "limit",
        "upstream",
        "forward",
        "reject",
        "observe",
        // Not the product.
        "demo",
        "fuzzing",
    ];
    assert_eq!(modules, expected, "moving a module is a design change");
}

/// Files that may have more than [`LONG`] lines, and why.
const REASONS: [(&str, &str); 2] = [
    (
        "src/demo/issuer/protocol.rs",
        "Keycloak's answers, one after the other: split, nobody could hold them beside the real ones",
    ),
    (
        "src/observe/metrics/families.rs",
        "one place for every metric is its point",
    ),
];
const LONG: usize = 400;
/// With a reason; and a list of cases is one.
const TOO_LONG: usize = 450;

#[test]
fn no_file_is_long_without_a_reason() {
    for source in sources() {
        let lines = source.text.lines().count();
        let reason = REASONS.iter().find(|(path, _)| *path == source.path);
        let most = match source.is_test() || reason.is_some() {
            true => TOO_LONG,
            false => LONG,
        };
        assert!(
            lines <= most,
            "{} has {lines} lines: split it, or give a reason",
            source.path
        );
    }
}

/// What git has, or nothing where there is no git: a source archive has passed this test before it was made.
fn tracked() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    let names = String::from_utf8(output.stdout).unwrap();
    let paths = names.split('\0').filter(|name| !name.is_empty());
    paths.map(|name| root().join(name)).collect()
}

/// What builds here builds elsewhere: nothing points at the machine of whoever wrote it.
#[test]
fn nothing_points_at_one_machine() {
    // In pieces, because this file is tracked, too.
    let homes = ["work", "root", "Users"].map(|home| format!("/{home}/"));
    let own_home = std::env::var("HOME").unwrap_or_default();
    let mirrors =
        ["arti factory", "nex us", "mir ror", "pro xy."].map(|word| word.replace(' ', ""));
    for path in tracked() {
        // A file that was deleted but not yet committed.
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        let name = relative(&path);
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{name}:{}: {line}", number + 1);
            for home in &homes {
                assert!(!line.contains(home), "{}", place());
            }
            let at_home = own_home.len() > 1 && line.contains(&format!("{own_home}/"));
            assert!(!at_home, "{}", place());
            for host in hosts(line) {
                let private = mirrors.iter().any(|word| host.contains(word));
                assert!(!private, "{}", place());
            }
        }
    }
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: Vec<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .collect();
    assert!(sources.len() > 100);
    // One registry, as cargo itself names it: no mirror, no branch of a repository.
    assert!(sources[0].starts_with("\"registry+"));
    assert!(sources.iter().all(|source| *source == sources[0]));
}

/// The host of every URL in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !".-".contains(c));
        &rest[..end.unwrap_or(rest.len())]
    })
}
