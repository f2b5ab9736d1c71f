//! Revoking by hand: listed, added, taken out (contract section 7).

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{self, Answer, no_content, problem};
use super::{AdminState, body};
use crate::observe::timestamp;
use crate::request::RequestId;
use crate::verify::revoked::{Entry, Id, Kind, MAX_TEXT, Origin, Unkept, Written};

/// What precedes an issuer's name in the name of its pushed not-before.
const PUSH: &str = "not-before-";
/// The last second of the year 9999. Later ones are milliseconds by mistake.
const LATEST: u64 = 253_402_300_799;

/// What is posted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    issuer: Option<String>,
    jti: Option<String>,
    sub: Option<String>,
    sid: Option<String>,
    client: Option<String>,
    kid: Option<String>,
    until: Option<Value>,
    reason: Option<String>,
}

/// What is listed.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Entry(Written),
    Push {
        id: String,
        issuer: String,
        not_before: u64,
        origin: &'static str,
    },
}

pub(super) async fn list<S: AdminState>(state: &S, id: &RequestId) -> Answer {
    let store = state.revocations().clone();
    // With a hundred thousand of them it takes a while, and a probe wants its answer.
    let listed = tokio::task::spawn_blocking(move || {
        let pushes = store
            .pushes()
            .into_iter()
            .map(|(issuer, not_before)| Listed::Push {
                id: format!("{PUSH}{issuer}"),
                issuer: issuer.to_string(),
                not_before,
                origin: "push",
            });
        let entries = store.list();
        let entries = entries.iter().map(|entry| Listed::Entry(entry.written()));
        let all: Vec<Listed> = pushes.chain(entries).collect();
        answer::json(StatusCode::OK, &all)
    });
    listed.await.unwrap_or_else(|_| broken(id))
}

pub(super) async fn add<S: AdminState>(
    state: &S,
    session: &mut ServerSession,
    id: &RequestId,
) -> Answer {
    let body = match body::read(session).await {
        Ok(body) => body,
        Err(fault) => return fault.answer(id),
    };
    let entry = match read(&body, &state.issuer_names(), state.clock().unix()) {
        Ok(entry) => entry,
        Err(why) => {
            let detail = format!("This is no revocation: {why}.");
            return problem(StatusCode::BAD_REQUEST, &detail, id);
        }
    };
    let store = state.revocations().clone();
    let max = store.max();
    let kept = tokio::task::spawn_blocking(move || store.revoke(entry)).await;
    let (made, status) = match kept {
        Ok(Ok((made, true))) => (made, StatusCode::CREATED),
        Ok(Ok((made, false))) => (made, StatusCode::OK),
        Ok(Err(Unkept::Full)) => {
            let detail = format!(
                "{max} revocations hold already: take some out, or raise `revocations.max`."
            );
            return problem(StatusCode::SERVICE_UNAVAILABLE, &detail, id);
        }
        Ok(Err(Unkept::Unwritten(_))) => {
            let detail = "It is in force until the gateway stops, but could not be written to \
                          `revocations.file`. The log says why. Send it again when that is mended.";
            return problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id);
        }
        Err(_) => return broken(id),
    };
    let name = made.id();
    log::warn!(
        "issuer {}: {name} revokes by {} until {}",
        made.issuer,
        made.kind.name(),
        made.until
    );
    let mut answer = answer::json(status, &made.written());
    if let Ok(location) = HeaderValue::from_str(&format!("/revocations/{name}")) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

pub(super) async fn remove<S: AdminState>(state: &S, name: &str, id: &RequestId) -> Answer {
    let store = state.revocations().clone();
    let taken = match name.strip_prefix(PUSH) {
        Some(issuer) => {
            let issuer = issuer.into();
            tokio::task::spawn_blocking(move || store.forget_push(&issuer)).await
        }
        None => match Id::read(name) {
            Some(entry) => tokio::task::spawn_blocking(move || store.restore(&entry)).await,
            None => Ok(Ok(false)),
        },
    };
    match taken {
        Ok(Ok(true)) => {
            log::warn!("revocation {name} was taken out");
            no_content()
        }
        Ok(Ok(false)) => {
            let detail = "There is no revocation of this name.";
            problem(StatusCode::NOT_FOUND, detail, id)
        }
        Ok(Err(_)) => {
            let detail = "It holds on: `revocations.file` could not be written. The log says why.";
            problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id)
        }
        Err(_) => broken(id),
    }
}

fn broken(id: &RequestId) -> Answer {
    let detail = "The gateway could not do it.";
    problem(StatusCode::INTERNAL_SERVER_ERROR, detail, id)
}

/// What is to be revoked, or what would make it one.
fn read(body: &[u8], issuers: &[Arc<str>], now: u64) -> Result<Entry, String> {
    let ask: Ask = serde_json::from_slice(body).map_err(|error| unread(&error))?;
    let issuer = ask.issuer.unwrap_or_default();
    let issuer = issuers.iter().find(|known| ***known == *issuer);
    let issuer = issuer.ok_or_else(|| format!("`issuer` must be one of {}", issuers.join(", ")))?;
    let values = [ask.jti, ask.sub, ask.sid, ask.client, ask.kid];
    let said = Kind::ALL.into_iter().zip(values);
    let mut said = said.filter_map(|(kind, value)| Some((kind, value?)));
    let (Some((kind, value)), None) = (said.next(), said.next()) else {
        return Err("it needs exactly one of `jti`, `sub`, `sid`, `client` and `kid`".to_owned());
    };
    if value.is_empty() || value.len() > MAX_TEXT {
        let name = kind.name();
        return Err(format!("`{name}` must have 1 to {MAX_TEXT} bytes"));
    }
    let reason = ask.reason.filter(|reason| !reason.is_empty());
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_TEXT)
    {
        return Err(format!("`reason` may have {MAX_TEXT} bytes at most"));
    }
    Ok(Entry {
        issuer: issuer.clone(),
        kind,
        value: value.into(),
        until: until(ask.until, now)?,
        issued_up_to: None,
        reason: reason.map(Into::into),
        origin: Origin::Admin,
        made: now,
    })
}

/// Without a word of what was sent: somebody may have pasted a token.
fn unread(error: &serde_json::Error) -> String {
    let what = match error.is_data() {
        true => "another member, one twice, or one of another type",
        false => "no JSON object",
    };
    format!(
        "at line {} column {} there is {what}; it takes `issuer`, one of `jti`, `sub`, `sid`, `client` and `kid`, \
         `until` and `reason`",
        error.line(),
        error.column()
    )
}

fn until(said: Option<Value>, now: u64) -> Result<u64, String> {
    let until = match said {
        Some(Value::Number(seconds)) => seconds.as_u64(),
        Some(Value::String(text)) => timestamp::read(&text),
        _ => None,
    };
    let until = until.ok_or(
        "`until` must be whole seconds since 1970, or a time such as \"2026-11-23T16:30:00Z\"",
    )?;
    if until > LATEST {
        return Err(
            "`until` is after the year 9999: seconds are meant, not milliseconds".to_owned(),
        );
    }
    match until > now {
        true => Ok(until),
        false => Err(format!("`until` is past: it is {now} now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn asked(body: &str) -> Result<Entry, String> {
        read(body.as_bytes(), &["keycloak".into(), "other".into()], NOW)
    }

    #[test]
    fn what_is_asked_for_is_read_strictly() {
        let entry = asked(r#"{"issuer":"other","kid":"k1","until":1790000060,"reason":"lost"}"#);
        let expected = Entry {
            issuer: "other".into(),
            kind: Kind::Kid,
            value: "k1".into(),
            until: NOW + 60,
            issued_up_to: None,
            reason: Some("lost".into()),
            origin: Origin::Admin,
            made: NOW,
        };
        assert_eq!(entry, Ok(expected));
        let later = asked(r#"{"issuer":"keycloak","jti":"a","until":"2026-09-21T18:14:20+04:00"}"#);
        assert_eq!(later.map(|entry| entry.until), Ok(NOW + 60));

        let long = "x".repeat(513);
        for (body, says) in [
            (String::new(), "no JSON object"),
            ("[]".to_owned(), "another member"),
            (
                r#"{"issuer":"keycloak","jti":"a","until":1790000060} x"#.to_owned(),
                "no JSON object",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","untl":1790000060}"#.to_owned(),
                "at line 1 column 37 there is another member",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","jti":"b","until":1790000060}"#.to_owned(),
                "one twice",
            ),
            (
                r#"{"issuer":"keycloak","jti":1,"until":1790000060}"#.to_owned(),
                "of another type",
            ),
            (
                r#"{"jti":"a","until":1790000060}"#.to_owned(),
                "one of keycloak, other",
            ),
            (
                r#"{"issuer":"Keycloak","jti":"a","until":1790000060}"#.to_owned(),
                "one of keycloak, other",
            ),
            (
                r#"{"issuer":"keycloak","until":1790000060}"#.to_owned(),
                "exactly one of",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","sub":"b","until":1790000060}"#.to_owned(),
                "exactly one of",
            ),
            (
                r#"{"issuer":"keycloak","jti":"","until":1790000060}"#.to_owned(),
                "1 to 512 bytes",
            ),
            (
                format!(r#"{{"issuer":"keycloak","sid":"{long}","until":1790000060}}"#),
                "`sid` must have",
            ),
            (
                format!(
                    r#"{{"issuer":"keycloak","sid":"a","until":1790000060,"reason":"{long}"}}"#
                ),
                "512 bytes at most",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a"}"#.to_owned(),
                "whole seconds",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":null}"#.to_owned(),
                "whole seconds",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":1790000060.5}"#.to_owned(),
                "whole seconds",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":-1}"#.to_owned(),
                "whole seconds",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":"tomorrow"}"#.to_owned(),
                "whole seconds",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":1790000000}"#.to_owned(),
                "past: it is 1790000000 now",
            ),
            (
                r#"{"issuer":"keycloak","jti":"a","until":1790000060000}"#.to_owned(),
                "not milliseconds",
            ),
        ] {
            let why = asked(&body).expect_err(&body);
            assert!(why.contains(says), "{body}: {why}");
        }
    }
}
