//! One revocation, as it is kept, listed and written.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Of a value and of a reason, in bytes. Keycloak's longest value is a `jti` of 43.
pub const MAX_TEXT: usize = 512;

/// What of a token names it in a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Jti,
    Sub,
    Sid,
    Client,
    /// Of the key that signed it.
    Kid,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Jti, Kind::Sub, Kind::Sid, Kind::Client, Kind::Kid];

    /// The member's name in JSON and the metric label.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Jti => "jti",
            Kind::Sub => "sub",
            Kind::Sid => "sid",
            Kind::Client => "client",
            Kind::Kid => "kid",
        }
    }
}

/// Who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Admin,
    Logout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The configuration's name for the issuer.
    pub issuer: Arc<str>,
    pub kind: Kind,
    pub value: Arc<str>,
    /// The first second in which it no longer holds.
    pub until: u64,
    /// Only tokens that were issued in this second or before; `None` is all of them.
    pub issued_up_to: Option<u64>,
    pub reason: Option<Box<str>>,
    pub origin: Origin,
    /// When it was made.
    pub made: u64,
}

/// The name of a revocation. It follows from what is revoked, so that every replica gives the same one and asking
/// twice makes one entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 16]);

impl Entry {
    pub fn id(&self) -> Id {
        let scope: &[u8] = match self.issued_up_to {
            None => b"all",
            Some(_) => b"earlier",
        };
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        // The value comes last: nothing before it can have a zero in it.
        for part in [
            self.issuer.as_bytes(),
            self.kind.name().as_bytes(),
            scope,
            self.value.as_bytes(),
        ] {
            digest.update(part);
            digest.update(&[0]);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&digest.finish().as_ref()[..16]);
        Id(id)
    }

    /// With whatever `other`, which is for the same tokens, has more.
    pub(super) fn extended(&self, other: Entry) -> Self {
        Entry {
            until: self.until.max(other.until),
            issued_up_to: self.issued_up_to.max(other.issued_up_to),
            reason: other.reason.or_else(|| self.reason.clone()),
            ..self.clone()
        }
    }

    /// As `GET /revocations` shows it and the file has it.
    pub fn written(&self) -> Written {
        let value = |kind| (self.kind == kind).then(|| self.value.to_string());
        Written {
            id: self.id().to_string(),
            issuer: self.issuer.to_string(),
            jti: value(Kind::Jti),
            sub: value(Kind::Sub),
            sid: value(Kind::Sid),
            client: value(Kind::Client),
            kid: value(Kind::Kid),
            until: self.until,
            issued_up_to: self.issued_up_to,
            reason: self.reason.as_deref().map(str::to_owned),
            origin: self.origin,
            made: self.made,
        }
    }
}

/// An entry in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Follows from the rest, so that nothing is made of it when it is read.
    id: String,
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    until: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_up_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    origin: Origin,
    made: u64,
}

impl Written {
    /// `None` unless exactly one member says what is revoked.
    pub(super) fn entry(self) -> Option<Entry> {
        let values = [self.jti, self.sub, self.sid, self.client, self.kid];
        let said = Kind::ALL.into_iter().zip(values);
        let mut said = said.filter_map(|(kind, value)| Some((kind, value?)));
        let ((kind, value), None) = (said.next()?, said.next()) else {
            return None;
        };
        Some(Entry {
            issuer: self.issuer.into(),
            kind,
            value: value.into(),
            until: self.until,
            issued_up_to: self.issued_up_to,
            reason: self.reason.map(Into::into),
            origin: self.origin,
            made: self.made,
        })
    }
}

impl Id {
    /// 32 hexadecimal digits, as [`Id`] shows itself.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32
            || !digits
                .iter()
                .all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|number| Id(number.to_be_bytes()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
