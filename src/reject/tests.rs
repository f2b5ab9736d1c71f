#![allow(clippy::unwrap_used)]

mod answer;
mod challenge;
mod table;

use std::collections::HashSet;

use http::HeaderValue;
use pingora_proxy::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::config::plan::{Access, Policy, RoutePlan, Schemes};
use crate::credential::Scheme;
use crate::testkit::{route, words};

const NOTHING: Circumstances<'_> = Circumstances {
    route: None,
    scheme: None,
    nonce: None,
    request_id: "id-1",
    allow: None,
    retry_after: None,
    fallback: None,
    grpc: false,
};

/// What a caller that sent `request` reads, and whether the connection lives on.
struct Heard {
    head: String,
    body: String,
    lives: bool,
}

impl Heard {
    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        value
    }

    fn status(&self) -> &str {
        &self.head[9..12]
    }
}

async fn read_all(mut caller: DuplexStream) -> String {
    let mut heard = String::new();
    caller.read_to_string(&mut heard).await.unwrap();
    heard
}

async fn hear(request: &str, rejection: Rejection, circumstances: Circumstances<'_>) -> Heard {
    let (mut caller, ours) = tokio::io::duplex(1 << 20);
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut session = Session::new_h1(Box::new(ours));
    assert!(session.downstream_session.read_request().await.unwrap());
    write(&mut session, rejection, circumstances).await.unwrap();
    let reused = session.downstream_session.finish().await;
    let lives = reused.is_ok_and(|stream| stream.is_some());
    let heard = read_all(caller).await;
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    Heard {
        head: head.to_owned(),
        body: body.to_owned(),
        lives,
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
