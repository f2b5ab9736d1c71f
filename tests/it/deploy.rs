//! What is shipped beside the binary. No container engine is needed: the files are read as their tools read them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis::config::{self, Mode, System};
use portcullis::demo::issuer::{Issuer, IssuerOptions};
use serde_json::Value;

use crate::support::{Origin, Running, Setup, free_ports, loopback, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap()
}

/// Instructions with their arguments, continued lines joined.
fn dockerfile() -> Vec<(String, String)> {
    let mut instructions: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in read("Dockerfile").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let text = line.strip_suffix('\\').unwrap_or(line).trim();
        match instructions.last_mut() {
            Some((_, arguments)) if open => *arguments = format!("{arguments} {text}"),
            _ => {
                let (name, arguments) = text.split_once(' ').unwrap();
                instructions.push((name.to_owned(), arguments.to_owned()));
            }
        }
        open = line.ends_with('\\');
    }
    instructions
}

/// The instructions after the last `FROM`.
fn final_stage() -> Vec<(String, String)> {
    let instructions = dockerfile();
    let from = instructions.iter().rposition(|(name, _)| name == "FROM");
    instructions[from.unwrap() + 1..].to_vec()
}

#[track_caller]
fn only<'a>(instructions: &'a [(String, String)], wanted: &str) -> &'a str {
    let mut found = instructions.iter().filter(|(name, _)| name == wanted);
    let (_, arguments) = found.next().unwrap_or_else(|| panic!("no {wanted}"));
    assert!(found.next().is_none(), "{wanted} twice");
    arguments
}

/// An image's name and tag; the tag says a version.
#[track_caller]
fn pinned(image: &str) -> (&str, &str) {
    let (name, tag) = image.rsplit_once(':').expect(image);
    assert_ne!(tag, "latest", "{image}");
    assert!(tag.contains(|c: char| c.is_ascii_digit()), "{image}");
    assert!(!tag.contains('/'), "{image}");
    (name, tag)
}

#[test]
fn the_image_is_built_in_stages_from_pinned_images() {
    let instructions = dockerfile();
    let from: Vec<&str> = instructions
        .iter()
        .filter(|(name, _)| name == "FROM")
        .map(|(_, arguments)| arguments.as_str())
        .collect();
    assert!(from.len() >= 2, "{from:?}");
    for image in &from {
        pinned(image.split(' ').next().unwrap());
    }
    // The toolchain of the image is that of the repository.
    let toolchain = read("rust-toolchain.toml");
    let (name, tag) = pinned(from[0].split(' ').next().unwrap());
    let version = tag.split('-').next().unwrap();
    assert_eq!(name, "rust");
    assert!(toolchain.contains(&format!("channel = \"{version}\"")));
    // Nothing of the builder but the binary.
    let copied: Vec<String> = final_stage()
        .into_iter()
        .filter(|(name, _)| name == "COPY" || name == "ADD")
        .map(|(_, arguments)| arguments)
        .collect();
    assert_eq!(
        copied,
        ["--from=builder /portcullis /usr/local/bin/portcullis"]
    );
}

#[test]
fn the_image_runs_as_nobody_and_exposes_one_port() {
    let stage = final_stage();
    for id in only(&stage, "USER").split(':') {
        assert_ne!(id.parse::<u32>().unwrap(), 0);
    }
    assert_eq!(only(&stage, "EXPOSE"), "8072");
    assert_eq!(only(&stage, "STOPSIGNAL"), "SIGTERM");
    let entry: Vec<String> = serde_json::from_str(only(&stage, "ENTRYPOINT")).unwrap();
    assert_eq!(entry, ["/usr/local/bin/portcullis"]);
    let command: Vec<String> = serde_json::from_str(only(&stage, "CMD")).unwrap();
    assert_eq!(
        command,
        ["run", "--config", "/etc/portcullis/portcullis.yaml"]
    );
}

/// The real command, against a real gateway and against nothing.
#[test]
fn the_health_check_tells_life_from_death() {
    let stage = final_stage();
    let (_, command) = only(&stage, "HEALTHCHECK").split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    let check = |port: u16| {
        let mut check = Command::new(&command[0]);
        for argument in &command[1..] {
            assert!(argument == "-c" || argument.contains("/127.0.0.1/9072 "));
            check.arg(argument.replace("9072", &port.to_string()));
        }
        run(check, "").code
    };
    let (issuer, origin) = (
        Issuer::start_blocking(IssuerOptions::default()).unwrap(),
        Origin::start(),
    );
    // Alive without keys: a restart would not bring any.
    issuer.set_down(true).unwrap();
    let running = Running::start(&Setup::new(&issuer, origin.address()));
    assert_eq!(check(running.admin.port()), Some(0));
    assert_ne!(check(free_ports(1)), Some(0));
    // Something answers, but not to this.
    assert_ne!(check(issuer.address().port()), Some(0));
    assert_eq!(loopback(1).ip(), running.admin.ip());
}

#[test]
fn the_build_context_holds_what_cargo_reads() {
    let ignored = read(".dockerignore");
    let kept: BTreeSet<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert!(ignored.lines().any(|line| line == "*"));
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "build.rs",
        "src",
        "conf",
        "benches",
        // Compiled in.
        "deploy/keycloak/demo-realm.json",
    ] {
        assert!(kept.contains(path), "{path} does not reach the builder");
    }
    for path in kept {
        assert!(root().join(path).exists(), "there is no {path}");
    }
}

const COMPOSE: &str = "deploy/compose.yaml";
/// What callers reach.
const PUBLISHED: [&str; 2] = ["keycloak", "gateway"];

fn compose() -> Value {
    yaml(COMPOSE)
}

fn services(compose: &Value) -> &serde_json::Map<String, Value> {
    compose["services"].as_object().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn compose_publishes_the_gateway_and_keycloak_only() {
    let compose = compose();
    let published: BTreeSet<&str> = services(&compose)
        .iter()
        .filter(|(_, service)| !service["ports"].is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(published, PUBLISHED.into());
    assert_eq!(
        texts(&compose["services"]["gateway"]["ports"]),
        ["8072:8072"]
    );
    // Development mode is for this machine alone.
    for port in texts(&compose["services"]["keycloak"]["ports"]) {
        assert!(port.starts_with("127.0.0.1:"), "{port}");
    }
}

#[test]
fn compose_keeps_the_services_where_only_the_gateway_is() {
    let compose = compose();
    for network in ["backend", "monitoring"] {
        assert_eq!(compose["networks"][network]["internal"], true, "{network}");
    }
    let on = |network: &str| -> BTreeSet<&str> {
        services(&compose)
            .iter()
            .filter(|(_, service)| texts(&service["networks"]).contains(&network))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    assert_eq!(
        on("backend"),
        ["accounts", "cards", "gateway", "loans"].into()
    );
    assert_eq!(on("monitoring"), ["gateway", "prometheus"].into());
    assert_eq!(on("edge"), PUBLISHED.into());
    for (name, service) in services(&compose) {
        // Without a list a service would be on the default network, which is not internal.
        assert!(!texts(&service["networks"]).is_empty(), "{name}");
        assert!(service["network_mode"].is_null(), "{name}");
    }
}

#[test]
fn compose_runs_pinned_images_without_privileges() {
    let compose = compose();
    for (name, service) in services(&compose) {
        match service["image"].as_str() {
            Some(image) => drop(pinned(image)),
            None => assert_eq!(service["build"], "..", "{name}"),
        }
        let user = service["user"].as_str().unwrap_or_else(|| panic!("{name}"));
        let id: u32 = user.split(':').next().unwrap().parse().unwrap();
        assert_ne!(id, 0, "{name} is root");
        for key in ["privileged", "cap_add", "pid", "ipc", "devices"] {
            assert!(service[key].is_null(), "{name}: {key}");
        }
        for volume in texts(&service["volumes"]) {
            let (from, _) = volume.split_once(':').unwrap();
            let from = root().join("deploy").join(from);
            assert!(from.is_file(), "{name}: there is no {from:?}");
            assert!(volume.ends_with(":ro"), "{name}: {volume} can be written");
        }
    }
    let gateway = &compose["services"]["gateway"];
    assert_eq!(gateway["user"], only(&final_stage(), "USER"));
    assert_eq!(gateway["read_only"], true);
    assert_eq!(texts(&gateway["cap_drop"]), ["ALL"]);
}

#[test]
fn compose_gives_the_gateway_what_its_configuration_asks_for() {
    let compose = compose();
    let given = compose["services"]["gateway"]["environment"].as_object();
    let given: Vec<&String> = given.unwrap().keys().collect();
    let configuration = read("deploy/portcullis.yaml");
    let wanted = configuration.split("${env:").skip(1);
    let wanted: Vec<&str> = wanted
        .filter_map(|rest| Some(rest.split_once('}')?.0))
        .collect();
    assert_eq!(given, wanted);
}

#[test]
fn compose_gives_the_drain_its_time() {
    let compose = compose();
    let grace = compose["services"]["gateway"]["stop_grace_period"].as_str();
    let grace: u64 = grace.unwrap().strip_suffix('s').unwrap().parse().unwrap();
    let path = root().join("deploy/portcullis.yaml");
    let plan = config::load(&path, &System, Mode::Offline).unwrap().plan;
    assert!(grace > (plan.server.pre_stop + plan.server.drain).as_secs());
}

#[test]
fn prometheus_scrapes_the_admin_listener() {
    for (file, configuration, host) in [
        ("conf/prometheus.yml", "conf/demo.yaml", "127.0.0.1"),
        ("deploy/prometheus.yml", "deploy/portcullis.yaml", "gateway"),
    ] {
        let path = root().join(configuration);
        let plan = config::load(&path, &System, Mode::Offline).unwrap().plan;
        let file = yaml(file);
        let jobs = file["scrape_configs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1);
        // No path: the default is /metrics.
        assert!(jobs[0]["metrics_path"].is_null());
        let target = format!("{host}:{}", plan.admin.address.port());
        assert_eq!(
            texts(&jobs[0]["static_configs"][0]["targets"]),
            [target.as_str()]
        );
    }
}

#[test]
fn the_realms_differ_only_in_where_the_gateway_is() {
    let local: Value = serde_json::from_str(&read("deploy/keycloak/demo-realm.json")).unwrap();
    let composed = read("deploy/keycloak/demo-realm.compose.json");
    let composed: Value = serde_json::from_str(&composed).unwrap();
    let mut differences = Vec::new();
    compare("", &local, &composed, &mut differences);
    assert!(!differences.is_empty());
    for (place, local, composed) in &differences {
        let known = place.ends_with("/adminUrl") || place.ends_with("/backchannel.logout.url");
        assert!(known, "{place}");
        let moved = local.replace("http://127.0.0.1:9072/", "http://gateway:9072/");
        assert_eq!(&moved, composed, "{place}");
    }
}

fn compare(place: &str, a: &Value, b: &Value, differences: &mut Vec<(String, String, String)>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: Vec<(&String, &String)> = a.keys().zip(b.keys()).collect();
            assert!(
                a.len() == b.len() && names.iter().all(|(a, b)| a == b),
                "{place}"
            );
            for (name, value) in a {
                compare(&format!("{place}/{name}"), value, &b[name], differences);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}/{index}"), a, b, differences);
            }
        }
        (Value::String(a), Value::String(b)) if a != b => {
            differences.push((place.to_owned(), a.clone(), b.clone()));
        }
        _ => assert_eq!(a, b, "{place}"),
    }
}

fn shipped() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("conf"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    assert!(files.len() >= 2);
    files.push(root().join("deploy/portcullis.yaml"));
    files
}

#[test]
fn every_shipped_configuration_loads() {
    for path in shipped() {
        let loaded = config::load(&path, &System, Mode::Offline).unwrap_or_else(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", problems.join("\n"))
        });
        assert!(!loaded.plan.routes.is_empty());
    }
}
