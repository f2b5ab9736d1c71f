//! An issuer behind TLS with a private authority.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::fetch::Web;
use super::NOW;
use super::fetch::{SET, failed, from, get, scratch};
use crate::clock::Clock;
use crate::config::plan::{IssuerPlan, KeysFrom};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

struct Authority {
    pem: String,
    server: Arc<rustls::ServerConfig>,
}

fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("an authority");
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()])
        .expect("parameters")
        .signed_by(&leaf_key, &issuer)
        .expect("a certificate");
    super::super::crypto::install();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a server");
    Authority {
        pem: ca.pem(),
        server: Arc::new(server),
    }
}

async fn serve(authority: &Authority) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(authority.server.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{SET}",
                SET.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{}/certs", address.port())
}

fn trusting(url: String, authority: &Authority, file: &str) -> IssuerPlan {
    let path = scratch(file);
    std::fs::write(&path, &authority.pem).expect("written");
    let mut plan = from(KeysFrom::Url(url));
    plan.ca = Some(path);
    plan
}

#[tokio::test]
async fn only_the_configured_authority_and_the_right_name_are_believed() {
    let (ours, theirs) = (authority("localhost"), authority("localhost"));
    let url = serve(&ours).await;
    let plan = trusting(url.clone(), &ours, "ours.pem");
    assert_eq!(get(&plan).await.as_deref(), Ok(SET));
    failed(&trusting(url, &theirs, "theirs.pem")).await;

    let misnamed = authority("sso.example.com");
    let url = serve(&misnamed).await;
    failed(&trusting(url, &misnamed, "misnamed.pem")).await;
}

/// An authority that is followed by another needs no reload: the file is looked at when its issuer is called.
#[tokio::test]
async fn a_ca_file_that_changes_alone_is_believed_from_then_on() {
    let (old, new) = (authority("localhost"), authority("localhost"));
    let (old_url, new_url) = (serve(&old).await, serve(&new).await);
    let plan = trusting(new_url.clone(), &old, "changing.pem");
    let path = plan.ca.clone().expect("a path");
    let clock = Clock::manual(NOW);
    let web = Web::new(&plan, &new_url, plan.keys.timeout, &clock).expect("a client");
    let next_look = |text: &str| {
        std::fs::write(&path, text).expect("written");
        clock.advance(std::time::Duration::from_secs(1));
    };
    assert!(web.get(&old_url).await.is_ok());
    assert!(web.get(&new_url).await.is_err());
    // One that cannot be used changes nothing.
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAA==\n"] {
        next_look(broken);
        assert!(web.get(&old_url).await.is_ok(), "{broken}");
    }
    next_look(&new.pem);
    assert!(web.get(&new_url).await.is_ok());
    assert!(web.get(&old_url).await.is_err());
    std::fs::remove_file(&path).expect("removed");
    clock.advance(std::time::Duration::from_secs(1));
    assert!(web.get(&new_url).await.is_ok());
}
