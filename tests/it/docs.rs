//! What the documentation says to do is done here.
//!
//! A block with the info string `yaml` is a whole configuration; a part of one says `yaml fragment`.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::config::{self, Mode, Overrides, System};

use crate::support::{Demo, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page: those in the root and everything in `docs/`.
fn pages() -> Vec<PathBuf> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut pages: Vec<PathBuf> = entries(root()).into_iter().filter(is_page).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

struct Block {
    /// The line of its fence, from 1.
    line: usize,
    info: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                blocks.push(Block {
                    line: number + 1,
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "a block is never closed");
    blocks
}

#[test]
fn every_configuration_in_the_pages_loads() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&text) {
            let place = format!("{}:{}", page.display(), block.line);
            match block.info.as_str() {
                "yaml" => {}
                info => {
                    let known = info == "yaml fragment" || !info.starts_with('y');
                    assert!(known, "{place}: `{info}`");
                    continue;
                }
            }
            let overrides = Overrides::default();
            let loaded = config::load_str(&place, &block.text, &overrides, &System, Mode::Offline);
            if let Err(problems) = loaded {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                panic!("{}", problems.join("\n"));
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// The commands between the title and the second heading, block by block.
fn first_screen() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let screen = text.split("\n## ").next().unwrap();
    let blocks = blocks(screen).into_iter();
    blocks
        .filter(|block| block.info == "sh")
        .map(|block| block.text)
        .collect()
}

/// The demo is the binary that these tests were built with: building a release first would take minutes and show
/// nothing more. The whole suite is this very process.
#[test]
fn the_first_screen_works() {
    let screen = first_screen();
    assert_eq!(screen.len(), 3, "{screen:?}");
    assert_eq!(screen[0], "cargo run --release -- demo\n");
    assert_eq!(screen[2], "cargo test --locked\n");
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let step = "step 'tests' cargo test --locked";
    assert!(ci.lines().any(|line| line == step));

    let mut demo = Demo::start();
    // The page has the default ports, which somebody else may hold here.
    let script = screen[1]
        .replace("127.0.0.1:8180", &format!("127.0.0.1:{}", demo.issuer))
        .replace("127.0.0.1:8072", &format!("127.0.0.1:{}", demo.gateway));
    // Each call is announced by a comment with its status.
    let announced: Vec<&str> = script
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.get(..3))
        .collect();
    assert_eq!(announced, ["200", "401", "403"]);
    let mut shell = Command::new("sh");
    shell.arg("-s");
    let finished = run(shell, &script);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let answered: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(answered, announced);
    // They are the demo's own lines.
    let banner = demo.banner().unwrap();
    for line in script.lines().filter(|line| line.contains("curl")) {
        assert!(banner.contains(line), "the demo does not print: {line}");
    }
    demo.process.signal("INT");
    assert_eq!(demo.process.exit(), Some(0));
}

/// Whoever needs these lines has no time to mend them.
#[test]
fn the_emergency_lines_work_as_pasted() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = page.split("\n## In an emergency\n").nth(1).unwrap();
    let block = blocks(section.split("\n## ").next().unwrap()).remove(0);
    let mut demo = Demo::start();
    let script = block
        .text
        .replace("127.0.0.1:9072", &format!("127.0.0.1:{}", demo.admin))
        .replace("curl -sS", "curl -sS -w '[%{http_code}]'");
    let mut shell = Command::new("sh");
    shell.arg("-s").env("ADMIN", "demo-only-admin");
    let finished = run(shell, &script);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let statuses: Vec<&str> = finished
        .stdout
        .split('[')
        .filter_map(|rest| rest.get(..4)?.strip_suffix(']'))
        .collect();
    // Five revocations; the list; `ID` stands for one that the reader fills in; the keys.
    let expected = ["201", "201", "201", "201", "201", "200", "404", "200"];
    assert_eq!(statuses, expected, "{}", finished.stdout);
    demo.process.signal("INT");
    assert_eq!(demo.process.exit(), Some(0));
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let leads = match std::fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || headings(&text).any(|slug| slug == anchor),
                Err(_) => target.is_dir() && anchor.is_empty(),
            };
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 0 && broken.is_empty(), "{broken:#?}");
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// A page's headings as anchors.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}
