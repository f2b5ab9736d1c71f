#![allow(clippy::unwrap_used)]

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use ring::digest::{SHA256, digest};

use super::*;
use crate::testkit::Scratch;

/// A listener's files.
struct Files {
    scratch: Scratch,
    names: ListenerTls,
}

impl Files {
    fn new() -> Self {
        let scratch = Scratch::new();
        let files = Files {
            names: ListenerTls {
                certificate: scratch.path("tls.crt"),
                private_key: scratch.path("tls.key"),
                client_ca: Some(scratch.path("ca.pem")),
            },
            scratch,
        };
        let (certificate, key) = pair();
        files.write("tls.crt", &certificate);
        files.write("tls.key", &key);
        files.write("ca.pem", &certificate);
        files
    }

    fn write(&self, name: &str, text: &str) {
        self.scratch.write(name, text);
    }

    fn broken(&self, name: &str, text: Option<&str>) -> String {
        match text {
            Some(text) => self.write(name, text),
            None => std::fs::remove_file(self.scratch.path(name)).unwrap(),
        }
        Tls::open(&self.names).err().unwrap()
    }
}

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["api.test".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_cannot_be_used_is_named() {
    let (other, other_key) = pair();
    for (name, text, said) in [
        ("tls.crt", None, "(tls.certificate)"),
        ("tls.crt", Some(""), "there is no certificate in it"),
        (
            "tls.crt",
            Some(other_key.as_str()),
            "there is no certificate in it",
        ),
        (
            "tls.crt",
            Some("-----BEGIN CERTIFICATE-----\nAA==\n"),
            "(tls.certificate)",
        ),
        (
            "tls.crt",
            Some(other.as_str()),
            "does not go with its certificate",
        ),
        ("tls.key", None, "(tls.private_key)"),
        ("tls.key", Some(""), "(tls.private_key)"),
        (
            "tls.key",
            Some(other_key.as_str()),
            "does not go with its certificate",
        ),
        ("ca.pem", None, "(tls.client_ca)"),
        ("ca.pem", Some(""), "there is no certificate in it"),
        (
            "ca.pem",
            Some(other_key.as_str()),
            "there is no certificate in it",
        ),
    ] {
        let files = Files::new();
        let why = files.broken(name, text);
        assert!(why.contains(said), "{name} {text:?}: {why}");
        assert!(!why.contains("PRIVATE KEY"), "{why}");
    }
}

#[test]
fn a_change_is_seen_once_and_a_broken_one_leaves_what_was_there() {
    let files = Files::new();
    let tls = Tls::open(&files.names).unwrap();
    let current = || Arc::as_ptr(&tls.0.value());
    let first = current();
    assert_eq!(tls.refresh(), None);
    let (certificate, key) = pair();
    // The certificate comes before its key.
    files.write("tls.crt", &certificate);
    let why = tls.refresh().unwrap().unwrap_err();
    assert!(why.contains("does not go with its certificate"), "{why}");
    assert_eq!((tls.refresh(), current()), (None, first));
    files.write("tls.key", &key);
    assert_eq!(tls.refresh(), Some(Ok(())));
    let second = current();
    assert_ne!(first, second);
    assert_eq!(tls.refresh(), None);
    // The same content once more is no change.
    files.write("tls.key", &key);
    assert_eq!((tls.refresh(), current()), (None, second));
    std::fs::remove_file(&files.names.certificate).unwrap();
    assert!(tls.refresh().unwrap().is_err());
    assert_eq!((tls.refresh(), current()), (None, second));
    // Back again: nothing was lost, and it is worth a line.
    files.write("tls.crt", &certificate);
    assert_eq!(tls.refresh(), Some(Ok(())));
    // The authorities count as well.
    files.write("ca.pem", &format!("{certificate}{}", pair().0));
    assert_eq!(tls.refresh(), Some(Ok(())));
}

#[test]
fn a_subject_is_written_as_rfc_4514_has_it() {
    let of = |names: &[(DnType, &str)]| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let certificate = ClientCertificate::of(&der).unwrap();
        let digest = digest(&SHA256, &der);
        assert_eq!(certificate.fingerprint, digest.as_ref());
        certificate.subject
    };
    assert_eq!(
        of(&[
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Bank, Eazy + Sons"),
            (DnType::CommonName, "loans"),
        ]),
        "C=DE,O=Bank\\, Eazy \\+ Sons,CN=loans"
    );
    assert_eq!(of(&[(DnType::CommonName, "a,CN=b")]), "CN=a\\,CN\\=b");
    assert_eq!(of(&[]), "");
    assert_eq!(
        of(&[(DnType::CommonName, &"\u{e9}".repeat(300))]).len(),
        255
    );
}

#[test]
fn what_is_no_certificate_has_no_subject() {
    let key = KeyPair::generate().unwrap();
    let der = CertificateParams::default().self_signed(&key).unwrap();
    let der = der.der().to_vec();
    assert!(ClientCertificate::of(&der).is_some());
    let mut longer = der.clone();
    longer.push(0);
    for bad in [&b""[..], b"x", &der[..der.len() - 1], &longer] {
        assert_eq!(ClientCertificate::of(bad), None);
    }
}
