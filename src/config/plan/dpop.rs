//! Tokens that are bound to a key of their client (RFC 9449).

/// What an issuer's configuration makes of such tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dpop {
    /// None of them passes.
    #[default]
    Refuse,
    /// They pass with a proof, and tokens that are not bound pass too.
    Allow,
    /// Nothing else passes.
    Require,
}

/// The schemes with which a route's tokens may be sent, as its issuers leave them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Schemes {
    #[default]
    Bearer,
    Both,
    Dpop,
}

impl Schemes {
    /// Of a route that takes tokens of these issuers.
    pub fn of(issuers: impl Iterator<Item = Dpop>) -> Self {
        let (mut any, mut all) = (false, true);
        for dpop in issuers {
            any |= dpop != Dpop::Refuse;
            all &= dpop == Dpop::Require;
        }
        match (any, all) {
            (false, _) => Schemes::Bearer,
            (true, false) => Schemes::Both,
            (true, true) => Schemes::Dpop,
        }
    }

    pub fn has_bearer(self) -> bool {
        self != Schemes::Dpop
    }

    pub fn has_dpop(self) -> bool {
        self != Schemes::Bearer
    }
}

/// What callers see in front of the path that we see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port as they stand in the URL.
    pub authority: String,
    /// What a proxy before us takes off; empty, or it begins with `/` and does not end with one.
    pub prefix: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuers_of_a_route_say_how_its_tokens_come() {
        use Dpop::{Allow, Refuse, Require};
        for (issuers, schemes) in [
            (&[][..], Schemes::Bearer),
            (&[Refuse], Schemes::Bearer),
            (&[Refuse, Refuse], Schemes::Bearer),
            (&[Allow], Schemes::Both),
            (&[Refuse, Allow], Schemes::Both),
            (&[Refuse, Require], Schemes::Both),
            (&[Allow, Require], Schemes::Both),
            (&[Require], Schemes::Dpop),
            (&[Require, Require], Schemes::Dpop),
        ] {
            assert_eq!(Schemes::of(issuers.iter().copied()), schemes, "{issuers:?}");
        }
    }
}
