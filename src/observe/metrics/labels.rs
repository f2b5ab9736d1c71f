//! Label values that are not names from the configuration: closed sets, one variant each.

/// Outcome of judging one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Ok,
    Refused,
    Unavailable,
}

/// Outcome of one key refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    Ok,
    /// Nothing usable came: connection, status, size, time.
    Failed,
    /// Something came that is no usable key set.
    Invalid,
}

/// Outcome of one attempt to write a snapshot of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Ok,
    Failed,
}

/// Outcome of one upstream request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    Ok,
    ConnectFailed,
    Timeout,
    Failed,
}

/// Outcome of one look-up of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    Ok,
    /// The name servers know nothing of it.
    Empty,
    /// Nobody could say.
    Failed,
}

/// Outcome of one question to an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Active,
    Inactive,
    Failed,
}

/// Outcome of one message that an issuer sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Ok,
    /// It is not what it should be.
    Refused,
    /// It could not be judged, or not be kept.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofSource {
    Cache,
    Local,
    Introspection,
}

/// Why a connection ended before its first request could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    ProxyHeader,
    Tls,
    TooSlow,
    /// The caller left by itself.
    Gone,
}

/// Why a connection was closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// Too many are open, in all or from its source.
    TooMany,
    /// Its source has flooded us too often.
    Flooded,
}

/// Outcome of one attempt to put a new configuration in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Ok,
    /// It is good, and what it needs cannot be had.
    Failed,
    /// There is a problem in it.
    Invalid,
}

impl Reload {
    pub fn label(self) -> &'static str {
        match self {
            Reload::Ok => "ok",
            Reload::Failed => "failed",
            Reload::Invalid => "invalid",
        }
    }
}
