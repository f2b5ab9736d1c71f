//! The demo's issuer stands in for Keycloak in every other test, so it has to answer like it.
//!
//! Left out is what the demo does not do: grants of browsers, certificates in the key set.

mod proofs;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::demo::{Issuer, IssuerOptions};
use serde_json::{Map, Value, json};

use crate::World;
use crate::http1::Connection;
use crate::keycloak::{credentials, member, opened};
use crate::proof::Holder;
use crate::say::say;

const REALM: &str = "/realms/eazybank";
const PROTOCOL: &str = "/realms/eazybank/protocol/openid-connect";
/// What differs from one answer of the same server to the next.
const VOLATILE: [&str; 15] = [
    "access_token",
    "at_hash",
    "exp",
    // One less when a second ends meanwhile; the token's own times say how long it lives.
    "expires_in",
    "iat",
    "id_token",
    // Each side has a holder of its own.
    "jkt",
    "kid",
    "public_key",
    "refresh_expires_in",
    "refresh_token",
    "session_state",
    "sid",
    "sub",
    "jti",
];

type Form<'a> = &'a [(&'a str, &'a str)];
/// Form fields after the credentials of a client, if any: `name`, or `name=secret` to lie about the secret.
type Case<'a> = (&'a str, Option<&'a str>, Form<'a>);

const MACHINE: (&str, &str) = ("grant_type", "client_credentials");
const PASSWORD: (&str, &str) = ("grant_type", "password");
const PERSON: (&str, &str) = ("client_id", "eazybank-user-demo");
const ALICE: (&str, &str) = ("username", "alice");
const SECRET: (&str, &str) = ("password", "demo-only-alice");

#[rustfmt::skip]
const FORMS: &[Case] = &[
    ("token", Some("callcenter-cc"), &[]),
    ("token", Some("callcenter-cc"), &[("grant_type", "")]),
    ("token", Some("callcenter-cc"), &[("grant_type", "magic")]),
    ("token", None, &[]),
    ("token", None, &[MACHINE]),
    ("token", None, &[MACHINE, ("client_id", "")]),
    ("token", None, &[MACHINE, ("client_id", "eazybank-callcenter-cc")]),
    ("token", None, &[MACHINE, PERSON]),
    ("token", Some("nobody"), &[MACHINE]),
    ("token", Some("gateway"), &[MACHINE]),
    ("token", Some("dpop-cc"), &[MACHINE]),
    ("token", Some("callcenter-cc=wrong"), &[MACHINE]),
    ("token", Some("callcenter-cc=wrong"), &[MACHINE, ("client_secret", "demo-only-callcenter-cc")]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("client_id", "eazybank-no-roles-cc")]),
    ("token", Some("callcenter-cc"), &[MACHINE]),
    ("token", Some("callcenter-cc"), &[MACHINE, MACHINE]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("x", "1"), ("x", "2")]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("scope", "")]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("scope", "admin")]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("scope", "accounts:read admin")]),
    ("token", Some("callcenter-cc"), &[MACHINE, ("scope", "openid accounts:read accounts:write")]),
    ("token", Some("accounts-reader-cc"), &[MACHINE, ("scope", "loans:read")]),
    ("token", Some("callcenter-cc"), &[PASSWORD, ALICE, SECRET]),
    ("token", None, &[PASSWORD, PERSON]),
    ("token", None, &[PASSWORD, PERSON, ALICE]),
    ("token", None, &[PASSWORD, PERSON, ALICE, ("password", "wrong")]),
    ("token", None, &[PASSWORD, PERSON, ("username", "nobody"), SECRET]),
    ("token", None, &[PASSWORD, PERSON, ALICE, SECRET, ("scope", "")]),
    ("token", None, &[PASSWORD, PERSON, ALICE, SECRET, ("scope", "admin")]),
    ("token", None, &[PASSWORD, PERSON, ALICE, SECRET]),
    ("token", None, &[PASSWORD, PERSON, ALICE, SECRET, ("scope", "openid offline_access")]),
    ("token/introspect", Some("gateway"), &[]),
    ("token/introspect", Some("gateway"), &[("token", "")]),
    ("token/introspect", Some("gateway"), &[("token", "garbage")]),
    ("token/introspect", Some("gateway"), &[("token", "$access")]),
    ("token/introspect", Some("gateway"), &[("token", "$light")]),
    ("token/introspect", Some("gateway"), &[("token", "$person")]),
    ("token/introspect", Some("gateway"), &[("token", "$id")]),
    ("token/introspect", Some("gateway"), &[("token", "$refresh")]),
    ("token/introspect", Some("gateway"), &[("token", "$access"), ("token", "$access")]),
    ("token/introspect", Some("gateway"), &[("token", "$access"), ("token_type_hint", "access_token")]),
    ("token/introspect", Some("gateway"), &[("token", "$access"), ("token_type_hint", "refresh_token")]),
    ("token/introspect", Some("gateway"), &[("token", "$access"), ("token_type_hint", "")]),
    ("token/introspect", Some("gateway"), &[("token", "$access"), ("token_type_hint", "foo")]),
    ("token/introspect", Some("gateway=wrong"), &[("token", "$access")]),
    ("token/introspect", Some("nobody"), &[("token", "$access")]),
    ("token/introspect", Some("accounts-api"), &[("token", "$access")]),
    ("token/introspect", None, &[("token", "$access")]),
    ("token/introspect", None, &[("token", "$access"), ("client_id", "eazybank-gateway")]),
    ("token/introspect", None, &[("token", "$access"), PERSON]),
    ("revoke", Some("callcenter-cc"), &[]),
    ("revoke", Some("callcenter-cc"), &[("token", "")]),
    ("revoke", Some("callcenter-cc"), &[("token", "garbage")]),
    ("revoke", Some("callcenter-cc"), &[("token", "$access"), ("token", "$access")]),
    ("revoke", Some("callcenter-cc=wrong"), &[("token", "$access")]),
    ("revoke", Some("accounts-reader-cc"), &[("token", "$access")]),
    ("revoke", Some("nobody"), &[("token", "$access")]),
    ("revoke", None, &[("token", "$access")]),
    ("revoke", None, &[("token", "$access"), PERSON]),
    ("revoke", None, &[("token", "$id"), PERSON]),
    ("revoke", Some("callcenter-cc"), &[("token", "$access")]),
    ("token/introspect", Some("gateway"), &[("token", "$access")]),
    ("revoke", Some("callcenter-cc"), &[("token", "$access")]),
    ("revoke", None, &[("token", "$refresh"), PERSON]),
    ("token/introspect", Some("gateway"), &[("token", "$person")]),
];

#[rustfmt::skip]
const BARE: &[(&str, &str)] = &[
    ("GET", "/realms/eazybank/protocol/openid-connect/token"),
    ("OPTIONS", "/realms/eazybank/protocol/openid-connect/token"),
    ("DELETE", "/realms/eazybank/protocol/openid-connect/token"),
    ("POST", "/realms/eazybank/protocol/openid-connect/token"),
    ("PUT", "/realms/eazybank/protocol/openid-connect/token/introspect"),
    ("GET", "/realms/eazybank/protocol/openid-connect/revoke"),
    ("POST", "/realms/eazybank/protocol/openid-connect/certs"),
    ("OPTIONS", "/realms/eazybank/protocol/openid-connect/certs"),
    ("POST", "/realms/eazybank/.well-known/openid-configuration"),
    ("POST", "/realms/eazybank"),
    ("GET", "/realms/eazybank"),
    ("GET", "/realms/eazybank/"),
    ("GET", "/realms/eazybank/nothing"),
    ("GET", "/realms/eazybank/.well-known/nothing"),
    ("GET", "/realms/eazybank/protocol/nothing"),
    ("GET", "/realms/eazybank/protocol/openid-connect"),
    ("GET", "/realms/eazybank/protocol/openid-connect/nothing"),
    ("GET", "/realms/eazybank//protocol/openid-connect/certs"),
    ("GET", "/realms/eazybank/../eazybank"),
    ("GET", "/realms/eazybank;a=b"),
    ("GET", "/realms/nobodys"),
    ("GET", "/realms/nobodys/protocol/openid-connect/certs"),
    ("GET", "/realms"),
    ("GET", "/realms/"),
    ("GET", "/nothing"),
];

/// One of the two servers.
struct Side {
    address: SocketAddr,
    /// What the placeholders in [`FORMS`] stand for here.
    tokens: Vec<(&'static str, String)>,
    holder: Holder,
}

pub fn all(world: &World) {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let keycloak = Side::new(([127, 0, 0, 1], world.keycloak.port).into());
    let demo = Side::new(issuer.address());
    let mut differences = Vec::new();
    let mut compare = |what: String, keycloak: Value, demo: Value| {
        if keycloak != demo {
            differences.push(format!("{what}\n  Keycloak {keycloak}\n  demo     {demo}"));
        }
    };

    for client in [
        "accounts-reader-cc",
        "callcenter-cc",
        "eddsa-cc",
        "es256-cc",
        "lightweight-cc",
        "no-audience-cc",
        "no-roles-cc",
        "ps256-cc",
        "short-cc",
    ] {
        let form = [MACHINE, ("scope", "accounts:read openid")];
        let [theirs, ours] = [&keycloak, &demo].map(|side| side.granted(Some(client), &form));
        compare(client.to_owned(), theirs, ours);
    }
    for scope in ["openid accounts:read", "offline_access"] {
        let form = [PASSWORD, PERSON, ALICE, SECRET, ("scope", scope)];
        let [theirs, ours] = [&keycloak, &demo].map(|side| side.granted(None, &form));
        compare(format!("alice, {scope}"), theirs, ours);
    }
    for case in FORMS {
        let [theirs, ours] = [&keycloak, &demo].map(|side| side.form(case));
        compare(format!("{case:?}"), theirs, ours);
    }
    for (method, path) in BARE {
        let [theirs, ours] = [&keycloak, &demo].map(|side| side.ask(method, path, "", ""));
        compare(format!("{method} {path}"), theirs, ours);
    }
    let mut proofs = 0;
    for client in ["dpop-cc", "callcenter-cc", "lightweight-cc"] {
        let [theirs, ours] = [&keycloak, &demo].map(|side| side.bound(client));
        compare(format!("{client}, bound to a key"), theirs, ours);
        proofs += 1;
    }
    let [theirs, ours] = [&keycloak, &demo].map(Side::proofs);
    for ((what, theirs), (_, ours)) in theirs.into_iter().zip(ours) {
        compare(format!("a proof: {what}"), theirs, ours);
        proofs += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let compared = 11 + FORMS.len() + BARE.len() + proofs;
    say!("{compared} grants and answers are the same but for what always differs");

    discovery(&keycloak, &demo);
    key_set(&keycloak, &demo);
}

/// The demo says less, but nothing else.
fn discovery(keycloak: &Side, demo: &Side) {
    let path = format!("{REALM}/.well-known/openid-configuration");
    let [theirs, ours] = [keycloak, demo].map(|side| side.ask("GET", &path, "", ""));
    assert_eq!(theirs["cache"], ours["cache"]);
    let ours = ours["body"].as_object().unwrap();
    for (name, ours) in ours {
        let theirs = &theirs["body"][name];
        let same = match (theirs, ours) {
            (Value::Array(theirs), Value::Array(ours)) => {
                ours.iter().all(|value| theirs.contains(value))
            }
            _ => theirs == ours,
        };
        assert!(same, "{name}: {theirs} {ours}");
    }
    say!(
        "discovery: {} members, each as Keycloak says it",
        ours.len()
    );
}

fn key_set(keycloak: &Side, demo: &Side) {
    let path = format!("{PROTOCOL}/certs");
    let kinds = |side: &Side| {
        let answer = side.ask("GET", &path, "", "");
        let keys = answer["body"]["keys"].as_array().unwrap().clone();
        let kind = |key: &Value| ["kty", "alg", "use", "crv"].map(|name| key[name].to_string());
        let mut kinds: Vec<_> = keys.iter().map(kind).collect();
        kinds.sort();
        let members = keys
            .iter()
            .flat_map(|key| key.as_object().unwrap().keys().cloned());
        (kinds, members.collect::<BTreeSet<String>>())
    };
    let (theirs, ours) = (kinds(keycloak), kinds(demo));
    assert_eq!(theirs.0, ours.0);
    let certificates: Vec<&String> = theirs.1.difference(&ours.1).collect();
    assert_eq!(certificates, ["x5c", "x5t", "x5t#S256"]);
    assert!(ours.1.is_subset(&theirs.1));
    say!(
        "key set: the same {} kinds, in the demo without certificates",
        ours.0.len()
    );
}

impl Side {
    fn new(address: SocketAddr) -> Self {
        let mut side = Side {
            address,
            tokens: Vec::new(),
            holder: Holder::new(),
        };
        let scope = ("scope", "accounts:read openid");
        let machine = side.post(&("token", Some("callcenter-cc"), &[MACHINE, scope]));
        let light = side.post(&("token", Some("lightweight-cc"), &[MACHINE, scope]));
        let person = side.post(&("token", None, &[PASSWORD, PERSON, ALICE, SECRET, scope]));
        side.tokens = vec![
            ("$access", member(&machine, "access_token")),
            ("$light", member(&light, "access_token")),
            ("$person", member(&person, "access_token")),
            ("$id", member(&person, "id_token")),
            ("$refresh", member(&person, "refresh_token")),
        ];
        side
    }

    /// Every token of a grant opened, and the rest of the answer.
    fn granted(&self, client: Option<&str>, form: Form) -> Value {
        self.opened(&self.post(&("token", client, form)))
    }

    fn opened(&self, answer: &Value) -> Value {
        let mut seen = Map::new();
        for name in ["access_token", "id_token", "refresh_token"] {
            if let Some(token) = answer.get(name).and_then(Value::as_str) {
                let (header, claims) = opened(token);
                let lives = claims["exp"]
                    .as_u64()
                    .map(|exp| exp - claims["iat"].as_u64().unwrap());
                let opened = json!({
                    "header": self.normal("", &header), "claims": self.normal("", &claims), "lives": lives,
                });
                seen.insert(name.to_owned(), opened);
            }
        }
        seen.insert("answer".to_owned(), self.normal("", answer));
        Value::Object(seen)
    }

    fn form(&self, case: &Case) -> Value {
        let (path, headers, body) = self.request(case);
        self.ask("POST", &path, &headers, &body)
    }

    fn post(&self, case: &Case) -> Value {
        let (path, headers, body) = self.request(case);
        self.raw("POST", &path, &headers, &body).1
    }

    fn request(&self, (endpoint, client, fields): &Case) -> (String, String, String) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in *fields {
            let token = self
                .tokens
                .iter()
                .find(|(placeholder, _)| placeholder == value);
            form.append_pair(name, token.map_or(*value, |(_, token)| token));
        }
        let mut headers = "Content-Type: application/x-www-form-urlencoded\r\n".to_owned();
        if let Some(client) = client {
            let (name, lie) = match client.split_once('=') {
                Some((name, lie)) => (name, Some(lie)),
                None => (*client, None),
            };
            let (id, secret) = credentials(name);
            let pair = STANDARD.encode(format!("{id}:{}", lie.unwrap_or(&secret)));
            headers.push_str(&format!("Authorization: Basic {pair}\r\n"));
        }
        (format!("{PROTOCOL}/{endpoint}"), headers, form.finish())
    }

    /// All of an answer that should be the same on both sides.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Value {
        let (answer, body) = self.raw(method, path, headers, body);
        json!({
            "status": answer.status,
            "kind": answer.header("content-type"),
            "cache": answer.header("cache-control"),
            "pragma": answer.header("pragma"),
            "body": self.normal("", &body),
        })
    }

    fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (crate::http1::Answer, Value) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = Connection::open(self.address).send(request).answer();
        let text = answer.text().to_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (answer, body)
    }

    /// Without what differs each time, and in an order that does not matter.
    fn normal(&self, name: &str, value: &Value) -> Value {
        if name == "jti" {
            let prefix = value.as_str().unwrap().rsplit_once(':');
            return json!(prefix.map(|(prefix, _)| prefix));
        }
        if VOLATILE.contains(&name) {
            return Value::Null;
        }
        match value {
            Value::Object(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort();
                let members = names
                    .into_iter()
                    .map(|name| (name.clone(), self.normal(name, &members[name])));
                Value::Object(members.collect())
            }
            Value::Array(values) => {
                let mut values: Vec<Value> = values.iter().map(|v| self.normal("", v)).collect();
                values.sort_by_key(Value::to_string);
                Value::Array(values)
            }
            Value::String(text) if name == "scope" => {
                let mut words: Vec<&str> = text.split(' ').collect();
                words.sort_unstable();
                json!(words.join(" "))
            }
            Value::String(text) => json!(text.replace(&self.address.to_string(), "$address")),
            other => other.clone(),
        }
    }
}
