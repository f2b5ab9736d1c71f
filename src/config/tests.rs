use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::plan::KeysFrom;

/// Variables and files that exist only here.
#[derive(Default)]
struct Pretend {
    vars: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, String>,
}

impl Environment for Pretend {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| (*value).to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_directory(&self, path: &Path) -> bool {
        ["/var/lib/portcullis", "/etc/portcullis", "."]
            .map(Path::new)
            .contains(&path)
    }
}

/// What the fixtures find.
fn pretend() -> Pretend {
    let ((certificate, its_key), (past, past_key)) = (pair(2100), pair(2000));
    Pretend {
        vars: BTreeMap::from([
            ("PORT", "8072"),
            ("EMPTY", ""),
            ("CANARY", "canary-in-a-variable"),
            ("ADMIN_TOKEN", "canary-admin-token"),
            ("PORTCULLIS_DEMO_ADMIN_TOKEN", "canary-demo"),
            ("PORTCULLIS_DEMO_GATEWAY_SECRET", "canary-demo"),
        ]),
        files: [
            ("/run/secrets/admin", "canary-from-file\n".to_owned()),
            ("/run/secrets/empty", "\n".to_owned()),
            ("/run/secrets/gateway.pem", key()),
            (
                "/run/secrets/old.pem",
                key().replace(" PRIVATE", " RSA PRIVATE"),
            ),
            ("/etc/portcullis/tls.crt", "certificate".to_owned()),
            ("/etc/portcullis/tls.key", "canary-key".to_owned()),
            ("/etc/portcullis/ca.pem", "certificate".to_owned()),
            ("/etc/portcullis/client.crt", certificate),
            ("/etc/portcullis/client.key", its_key),
            ("/etc/portcullis/past.crt", past),
            ("/etc/portcullis/past.key", past_key),
            ("/etc/portcullis/jwks.json", "{\"keys\":[]}".to_owned()),
        ]
        .into(),
    }
}

/// Made when it is needed, as every key here.
fn key() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    key.serialize_pem()
}

/// A certificate that is good until this year, and its key.
fn pair(until: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params =
        rcgen::CertificateParams::new(vec!["gateway.test".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(1999, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with a file, or writes it when `PORTCULLIS_BLESS` is set.
fn golden(path: &Path, actual: &str) {
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(path, actual).expect("the golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; run again with PORTCULLIS_BLESS=1 if this is right:\n{actual}",
        path.display()
    );
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// A fixture whose name says so is checked offline.
fn load_fixture(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.file_name().expect("a name").to_string_lossy();
    let text = std::fs::read_to_string(path).expect("a fixture");
    let mode = match name.contains("offline") {
        true => Mode::Offline,
        false => Mode::Online,
    };
    load_str(&name, &text, &Overrides::default(), &pretend(), mode)
}

fn printed(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

#[test]
fn good_fixtures_become_the_plan_beside_them() {
    for path in fixtures("ok") {
        let loaded = load_fixture(&path)
            .unwrap_or_else(|problems| panic!("{}\n{}", path.display(), printed(&problems)));
        let mut text = summary(&loaded.plan);
        let threads = format!("threads: {},", loaded.plan.server.threads);
        for warning in &loaded.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        // As many as this machine has cores, unless the fixture says so.
        let plan = format!("\n{:#?}\n", loaded.plan).replace(&threads, "threads: …,");
        text.push_str(&plan);
        assert!(!text.contains("canary"), "{}", path.display());
        assert!(!text.contains("PRIVATE"), "{}", path.display());
        golden(&path.with_extension("plan"), &text);
    }
}

#[test]
fn bad_fixtures_give_the_diagnostics_beside_them() {
    for path in fixtures("err") {
        let problems = load_fixture(&path).expect_err(&path.display().to_string());
        let text = printed(&problems);
        assert!(!text.contains("canary"), "{}:\n{text}", path.display());
        golden(&path.with_extension("txt"), &text);
    }
}

#[test]
fn shipped_files_load() {
    const NOT_OURS: [&str; 1] = ["prometheus.yml"];
    for entry in std::fs::read_dir(root().join("conf")).expect("conf/") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if !yaml || NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        for mode in [Mode::Online, Mode::Offline] {
            let loaded = load(&path, &pretend(), mode)
                .unwrap_or_else(|problems| panic!("{}", printed(&problems)));
            assert_eq!(printed(&loaded.warnings), "", "{name}");
        }
    }
}

#[test]
fn generated_files_are_up_to_date() {
    golden(&root().join("conf/schema.json"), &reference::json_schema());
    golden(&root().join("docs/config.md"), &reference::manual());
}

#[test]
fn every_reference_in_the_schema_leads_somewhere() {
    let schema: serde_json::Value = serde_json::from_str(&reference::json_schema()).expect("JSON");
    fn references<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(|r| r.as_str()));
                fields.values().for_each(|value| references(value, found));
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| references(item, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let name = reference.strip_prefix("#/$defs/").expect("local");
        assert!(schema["$defs"][name].is_object(), "{reference}");
    }
}

#[test]
fn every_default_is_a_value_of_its_key() {
    let env = Pretend::default();
    for block in schema::blocks() {
        for key in block.keys {
            let schema::Presence::Default(text) = key.presence else {
                continue;
            };
            let mut report = Report::new("default");
            let mut node = tree::parse(text).expect("YAML");
            walk::check_value(&mut node, &key.kind, &env, &mut report);
            let problems = report.finish().err().unwrap_or_default();
            assert_eq!(printed(&problems), "", "{}.{}", block.name, key.name);
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let missing = load(Path::new("/nowhere/at/all.yaml"), &pretend(), Mode::Offline);
    let problems = missing.expect_err("not there");
    assert_eq!(
        printed(&problems),
        "/nowhere/at/all.yaml:1:1: cannot be read: it does not exist\n  hint: name the file with `--config FILE`\n"
    );
}

#[test]
fn the_demo_moves_its_ports() {
    let text = include_str!("../../conf/demo.yaml");
    let overrides = Overrides::default()
        .replace("127.0.0.1:8072", "127.0.0.1:18072")
        .replace("127.0.0.1:8083", "127.0.0.1:18083")
        .replace(
            "http://127.0.0.1:8180/realms/eazybank",
            "http://127.0.0.1:18180/realms/eazybank",
        );
    let loaded = load_str("demo.yaml", text, &overrides, &pretend(), Mode::Online)
        .unwrap_or_else(|problems| panic!("{}", printed(&problems)));
    let plan = loaded.plan;
    assert_eq!(plan.listeners[0].address.port(), 18072);
    assert_eq!(&*plan.listeners[0].name, "127.0.0.1:18072");
    assert_eq!(plan.upstreams[2].peers[0].address, "127.0.0.1:18083");
    assert_eq!(
        plan.issuers[0].keys_from,
        KeysFrom::Discovery(
            "http://127.0.0.1:18180/realms/eazybank/.well-known/openid-configuration".to_owned()
        )
    );
    let stale = Overrides::default().replace("127.0.0.1:1", "127.0.0.1:2");
    load_str("demo.yaml", text, &stale, &pretend(), Mode::Online).expect_err("replaces nothing");
}

#[test]
fn secrets_resolve_and_never_print() {
    let text = include_str!("../../conf/demo.yaml").replace(
        "${env:PORTCULLIS_DEMO_ADMIN_TOKEN}",
        "${file:/run/secrets/admin}",
    );
    let loaded = load_str(
        "demo.yaml",
        &text,
        &Overrides::default(),
        &pretend(),
        Mode::Online,
    )
    .unwrap_or_else(|problems| panic!("{}", printed(&problems)));
    let token = loaded.plan.admin.token.as_ref().expect("a token");
    assert_eq!(token.expose(), "canary-from-file");
    assert_eq!(token.file(), Some(&PathBuf::from("/run/secrets/admin")));
    assert!(!format!("{:?}", loaded.plan).contains("canary"));
    let unset = Pretend::default();
    let demo = include_str!("../../conf/demo.yaml");
    load_str(
        "demo.yaml",
        demo,
        &Overrides::default(),
        &unset,
        Mode::Online,
    )
    .expect_err("unset");
    load_str(
        "demo.yaml",
        demo,
        &Overrides::default(),
        &unset,
        Mode::Offline,
    )
    .expect("offline");
}

#[test]
fn an_inline_secret_is_shown_by_no_kind_of_mistake() {
    let canaries = [
        "admin: { token: canary }",
        "admin: { token: [canary] }",
        "admin: { token: { canary-x: canary } }",
        "admin: { token: '${env:canary-x}' }",
        "admin: { token: '${file:/x}canary' }",
        "admin: { tokn: canary }",
        "admin: { token: &a canary, address: *a }",
        "issuers: { k: { introspection: { client_id: g, client_secret: canary } } }",
        "issuers: { k: { issuer: 'https://u:canary@sso.example.com/r' } }",
        "issuers: { k: { client_secret: canary } }",
        "listeners: [{ address: '${env:CANARY}' }]",
        "upstreams: { a: { peers: ['canary@host:80'] } }",
        "listeners: [{ address: 0.0.0.0:1, tls: { certificate: a, private_key: \"-----BEGIN X-----\\ncanary\" } }]",
        "admin: { token: \"canary\\q\" }",
        "admin: { token: 'canary",
        "admin:\n  token: canary: canary",
        "admin: { token: !canary canary }",
        "admin: { token: *canary }",
        "routes: [{ request_headers: { set: { X-Key: \"canary\\n\" } } }]",
    ];
    for text in canaries {
        for mode in [Mode::Online, Mode::Offline] {
            let problems =
                load_str("f", text, &Overrides::default(), &pretend(), mode).expect_err(text);
            let shown = printed(&problems).replace("canary-x", "");
            assert!(!shown.contains("canary"), "{text}\n{shown}");
        }
    }
}

#[test]
fn units_are_read_exactly() {
    use super::format::{duration, size};
    use std::time::Duration;
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
    assert_eq!(duration("24h"), Ok(Duration::from_secs(86400)));
    for wrong in [
        "",
        "5",
        "5 s",
        "1.5s",
        "-1s",
        "5d",
        "5S",
        "s",
        "99999999999999999999s",
        "9000h",
    ] {
        duration(wrong).expect_err(wrong);
    }
    assert_eq!(size("512B"), Ok(512));
    assert_eq!(size("64KiB"), Ok(65536));
    assert_eq!(size("10MiB"), Ok(10 << 20));
    assert_eq!(size("0"), Ok(0));
    for (wrong, hint) in [
        ("64KB", "write `64KiB`"),
        ("10M", "write `10MiB`"),
        ("7", "write `7B`"),
    ] {
        assert_eq!(size(wrong).expect_err(wrong).hint.as_deref(), Some(hint));
    }
    for wrong in ["", "KiB", "1.5MiB", "-1B", "18446744073709551615GiB"] {
        size(wrong).expect_err(wrong);
    }
}
