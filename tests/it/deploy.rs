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

/// The documents of a manifest.
fn manifests() -> Vec<Value> {
    ["portcullis", "config"]
        .iter()
        .flat_map(|name| {
            let text = read(&format!("deploy/kubernetes/{name}.yaml"));
            let documents: Vec<Value> = text
                .split("\n---\n")
                .map(|document| serde_yaml::from_str(document).unwrap())
                .collect();
            documents
        })
        .collect()
}

#[track_caller]
fn manifest(kind: &str) -> Value {
    let mut found = manifests().into_iter().filter(|one| one["kind"] == kind);
    let manifest = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "{kind} twice");
    assert_eq!(manifest["metadata"]["name"], "portcullis");
    manifest
}

/// A configuration whose secrets and state are somewhere else.
fn plan_of(text: &str) -> config::Plan {
    let none = config::Overrides::default();
    let loaded = config::load_str("deploy", text, &none, &System, Mode::Offline);
    loaded
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .plan
}

#[test]
fn the_pods_ports_and_probes_are_those_of_its_configuration() {
    let config = manifest("ConfigMap");
    let plan = plan_of(config["data"]["portcullis.yaml"].as_str().unwrap());
    let deployment = manifest("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let mut ports = container["ports"].as_array().unwrap().iter();
        let port = ports.find(|port| port["name"] == name).unwrap();
        port["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("http"), u64::from(plan.listeners[0].address.port()));
    assert_eq!(port("admin"), u64::from(plan.admin.address.port()));
    // The kubelet asks from outside the pod.
    assert!(plan.admin.address.ip().is_unspecified());
    for (probe, path) in [
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
        ("startupProbe", "/livez"),
    ] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(
            (&asked["path"], &asked["port"]),
            (&path.into(), &"admin".into())
        );
    }
    // Not ready for longer than it takes to be noticed, and not killed within the drain.
    let probe = &container["readinessProbe"];
    let noticed =
        probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    let (pre_stop, drain) = (plan.server.pre_stop.as_secs(), plan.server.drain.as_secs());
    assert!(pre_stop > noticed);
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > pre_stop + drain);
    let service = manifest("Service");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    let label = "app.kubernetes.io/name";
    for selector in [
        &service["spec"]["selector"],
        &manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &deployment["spec"]["selector"]["matchLabels"],
        &deployment["spec"]["template"]["metadata"]["labels"],
    ] {
        assert_eq!(selector[label], "portcullis");
    }
}

#[test]
fn the_pod_has_every_file_that_its_configuration_names() {
    let config = manifest("ConfigMap");
    let text = config["data"]["portcullis.yaml"].as_str().unwrap();
    let plan = plan_of(text);
    let deployment = manifest("Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let arguments = texts(&container["args"]);
    let mounts: Vec<&str> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            assert!(mount["subPath"].is_null(), "it would never change");
            mount["mountPath"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        arguments,
        ["run", "--config", "/etc/portcullis/portcullis.yaml"]
    );
    assert!(mounts.contains(&"/etc/portcullis"));
    let secret = manifest("Secret");
    for reference in text.split("${file:").skip(1) {
        let (path, _) = reference.split_once('}').unwrap();
        let (directory, name) = path.rsplit_once('/').unwrap();
        assert!(mounts.contains(&directory), "{path}");
        assert!(!secret["stringData"][name].is_null(), "{name}");
    }
    let written = plan.revocations.file.into_iter();
    let snapshots = plan
        .issuers
        .into_iter()
        .filter_map(|issuer| issuer.keys.snapshot);
    for file in written.chain(snapshots) {
        assert!(
            mounts.contains(&file.parent().unwrap().to_str().unwrap()),
            "{file:?}"
        );
    }
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    pinned(container["image"].as_str().unwrap());
}

#[test]
fn the_unit_runs_what_there_is() {
    let unit = read("deploy/systemd/portcullis.service");
    let all = |key: &str| -> Vec<&str> {
        let lines = unit.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .collect()
    };
    let start: Vec<&str> = all("ExecStart")[0].split(' ').collect();
    assert_eq!(
        start,
        [
            "/usr/local/bin/portcullis",
            "run",
            "--config",
            "/etc/portcullis/portcullis.yaml",
            "--upgrade"
        ]
    );
    let help = run(crate::support::portcullis(&["run", "--help"]), "").stdout;
    assert!(help.contains("--upgrade") && help.contains("--config"));
    assert_eq!(all("ExecReload")[1], "/bin/kill -HUP $MAINPID");
    assert_eq!(
        (all("Type"), all("NotifyAccess")),
        (vec!["notify"], vec!["all"])
    );
    // The places that it may write are those that its head and the pages name.
    let page = read("docs/operations.md");
    for directory in ["/run/portcullis", "/var/lib/portcullis"] {
        assert!(
            unit.contains(directory) && page.contains(directory),
            "{directory}"
        );
    }
    assert_eq!(
        (all("RuntimeDirectory"), all("StateDirectory")),
        (vec!["portcullis"], vec!["portcullis"])
    );
    // Longer than the default pre_stop and drain.
    let seconds: u64 = all("TimeoutStopSec")[0]
        .trim_end_matches('s')
        .parse()
        .unwrap();
    let plan = plan_of(&read("conf/portcullis.yaml"));
    assert!(seconds > plan.server.pre_stop.as_secs() + plan.server.drain.as_secs());
    for switched_on in [
        "NoNewPrivileges",
        "PrivateTmp",
        "LockPersonality",
        "DynamicUser",
    ] {
        assert_eq!(all(switched_on), ["yes"], "{switched_on}");
    }
}

/// What systemd is told: that this process is the service, and when it stops being one.
#[test]
fn a_service_manager_is_told() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let origin = Origin::start();
    let scratch = crate::support::Scratch::new();
    let socket = scratch.path("notify.sock");
    let heard = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    heard
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let next = || {
        let mut message = [0; 256];
        let length = heard.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let setup = Setup::new(&issuer, origin.address());
    let mut running = Running::start_with(&setup, |command| {
        command.env("NOTIFY_SOCKET", &socket);
    });
    let ready = next();
    assert!(ready.contains("READY=1"), "{ready}");
    assert!(
        ready.contains(&format!("MAINPID={}", running.process.id())),
        "{ready}"
    );
    running.process.signal("TERM");
    assert!(next().contains("STOPPING=1"));
    assert_eq!(running.process.exit(), Some(0));
}
