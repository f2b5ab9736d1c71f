//! Issuing: from a grant to signed tokens and the answer of the token endpoint.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::state::State;
use crate::demo::grant::{Grant, Session, Shape, Stamp, subject, uuid};
use crate::demo::keys::random;
use crate::demo::mint::{ClaimsEdit, Signer, Signing, at_hash, header_text};
use crate::demo::realm::{Account, Client};

/// How long a refresh token lives: Keycloak's default.
const REFRESH_SECONDS: u64 = 1800;

/// Why the handle or the token endpoint has no token to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    UnknownClient,
    NoAccount,
    UnassignedScope,
    NoKey,
    NoRandomness,
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoToken::UnknownClient => "the realm has no such client",
            NoToken::NoAccount => "the client has no service account and no user",
            NoToken::UnassignedScope => "a scope is not assigned to the client",
            NoToken::NoKey => "the realm has no such key, or it cannot sign so",
            NoToken::NoRandomness => "the system gives no randomness",
        })
    }
}

impl State {
    /// The answer that the client would get over HTTP; for the user client, alice's.
    pub(super) fn answer_for(
        &self,
        client: &str,
        scope: &str,
    ) -> Result<Map<String, Value>, NoToken> {
        self.answer(&self.grant_of(client, scope)?)
    }

    pub(super) fn mint(&self, edit: ClaimsEdit) -> Result<String, NoToken> {
        let grant = self.grant_of(&edit.client, &edit.scope)?;
        let grant = grant.bound_to(edit.bound_to);
        let (_, mut claims) = self.access_claims(&grant)?;
        if let Some(change) = edit.claims {
            change(&mut claims);
        }
        let signing = self.signing(&edit.signer, self.realm.algorithm(grant.client))?;
        let mut header = signing.header(header_type(grant.client));
        if let Some(change) = edit.header {
            change(&mut header);
        }
        sign(&signing, &header, &claims)
    }

    pub(super) fn answer(&self, grant: &Grant) -> Result<Map<String, Value>, NoToken> {
        let (lifespan, claims) = self.access_claims(grant)?;
        let signing = self.signing(&Signer::Realm, self.realm.algorithm(grant.client))?;
        let access = sign(
            &signing,
            &signing.header(header_type(grant.client)),
            &claims,
        )?;
        let refresh = self.refresh(grant)?;
        let mut answer = Map::new();
        let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
        let id = grant.openid.then(|| self.id_token(grant, &access));
        put("access_token", json!(access));
        put("expires_in", json!(lifespan));
        put(
            "refresh_expires_in",
            json!(refresh.as_ref().map_or(0, |(_, seconds)| *seconds)),
        );
        if let Some((refresh, _)) = refresh {
            put("refresh_token", json!(refresh));
        }
        put("token_type", json!(grant.token_type()));
        if let Some(id) = id.transpose()? {
            put("id_token", json!(id));
        }
        put("not-before-policy", json!(self.not_before()));
        if let Some(session) = &grant.session {
            put("session_state", json!(session.id));
        }
        put("scope", json!(grant.scope()));
        Ok(answer)
    }

    /// A login that begins now.
    pub(super) fn session(&self) -> Result<Session, NoToken> {
        let id = random::<18>().map_err(|_| NoToken::NoRandomness)?;
        Ok(Session {
            id: URL_SAFE_NO_PAD.encode(id),
        })
    }

    fn grant_of(&self, client: &str, scope: &str) -> Result<Grant<'_>, NoToken> {
        let client = self.realm.client(client).ok_or(NoToken::UnknownClient)?;
        let (account, session) = match self.realm.service_account(client) {
            Some(account) => (account, None),
            None => (self.user_of(client)?, Some(self.session()?)),
        };
        let grant = Grant::new(self.realm, client, account, scope, session);
        grant.map_err(|_| NoToken::UnassignedScope)
    }

    fn user_of(&self, client: &Client) -> Result<&Account, NoToken> {
        let alice = self.realm.account("alice");
        let alice = alice.filter(|_| client.direct_access_grants_enabled);
        alice.ok_or(NoToken::NoAccount)
    }

    /// Lifespan and claims of an access token of this grant.
    fn access_claims(&self, grant: &Grant) -> Result<(u64, Map<String, Value>), NoToken> {
        let lifespan = self.realm.lifespan(grant.client);
        let now = self.clock.unix();
        let stamp = Stamp {
            issuer: &self.issuer,
            jti: grant.jti_prefix() + &new_uuid()?,
            now,
            expires: now + lifespan,
        };
        let shape = if grant.is_lightweight() {
            Shape::Lightweight
        } else {
            Shape::Access
        };
        Ok((lifespan, grant.claims(shape, &stamp)))
    }

    fn id_token(&self, grant: &Grant, access: &str) -> Result<String, NoToken> {
        let now = self.clock.unix();
        let stamp = Stamp {
            issuer: &self.issuer,
            jti: new_uuid()?,
            now,
            expires: now + self.realm.lifespan(grant.client),
        };
        let mut claims = grant.claims(Shape::Id, &stamp);
        claims.insert("at_hash".to_owned(), json!(at_hash(access)));
        let signing = self.signing(&Signer::Realm, self.realm.default_algorithm())?;
        sign(&signing, &signing.header("JWT"), &claims)
    }

    /// A refresh or offline token and its life in seconds (0: no end): HS512 with a key that `certs` never lists.
    fn refresh(&self, grant: &Grant) -> Result<Option<(String, u64)>, NoToken> {
        let Some(session) = &grant.session else {
            return Ok(None);
        };
        let offline = grant.has_scope("offline_access");
        let (typ, seconds) = if offline {
            ("Offline", 0)
        } else {
            ("Refresh", REFRESH_SECONDS)
        };
        let now = self.clock.unix();
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        if !offline {
            put("exp", json!(now + seconds));
        }
        put("iat", json!(now));
        put("jti", json!(new_uuid()?));
        put("iss", json!(self.issuer));
        put("aud", json!(self.issuer));
        put("sub", json!(subject(grant.account)));
        put("typ", json!(typ));
        put("azp", json!(grant.client.client_id));
        put("sid", json!(session.id));
        put("scope", json!(grant.all_scopes()));
        if let Some(audience) = grant.audience() {
            put("aud_x", audience);
        }
        put("prov", json!("default"));
        let signing = self.signing(&Signer::Active("HS512".to_owned()), "HS512")?;
        let token = sign(&signing, &signing.header("JWT"), &claims)?;
        Ok(Some((token, seconds)))
    }

    fn signing(&self, signer: &Signer, realm_algorithm: &str) -> Result<Signing, NoToken> {
        let signing = Signing::resolve(&self.keys(), signer, realm_algorithm);
        signing.ok_or(NoToken::NoKey)
    }
}

fn header_type(client: &Client) -> &'static str {
    if client.flag("access.token.header.type.rfc9068") {
        "at+jwt"
    } else {
        "JWT"
    }
}

fn sign(
    signing: &Signing,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<String, NoToken> {
    let claims = Value::Object(claims.clone()).to_string();
    let token = signing.token(header_text(header).as_bytes(), claims.as_bytes());
    token.ok_or(NoToken::NoKey)
}

fn new_uuid() -> Result<String, NoToken> {
    let bytes = random::<16>().map_err(|_| NoToken::NoRandomness)?;
    Ok(uuid(bytes))
}
