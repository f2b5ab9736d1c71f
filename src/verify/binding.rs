//! What a token is bound to (`cnf`, RFC 7800 section 3.1): whoever stole it has the token and not this.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::fault::Refusal;
use super::json::Value;
use crate::config::plan::Dpop;

/// SHA-256 of a certificate in DER, or of a key as RFC 7638 writes it.
pub(super) type Thumbprint = [u8; 32];

/// What whoever shows the token has to show beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding(Box<Parts>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parts {
    /// The certificate of the caller's connection (RFC 8705 section 3.1).
    certificate: Option<Thumbprint>,
    /// The key that a proof is signed with (RFC 9449 section 6.1).
    key: Option<Thumbprint>,
}

impl Binding {
    /// What one takes outside of itself.
    pub(super) const BYTES: usize = size_of::<Parts>();

    /// Reads `cnf`. Any other confirmation, beside one of ours too, asks for a proof that we cannot check; a key does so
    /// where the issuer's `dpop` is `refuse`.
    pub(super) fn of(cnf: Option<&Value<'_>>, dpop: Dpop) -> Result<Option<Self>, Refusal> {
        let Some(cnf) = cnf else { return Ok(None) };
        let members = cnf.as_object().ok_or(Refusal::SenderConstrained)?.iter();
        let mut parts = Parts::default();
        let mut named = false;
        for (name, value) in members {
            let text = value.as_text().ok_or(Refusal::SenderConstrained)?;
            match name {
                "x5t#S256" => parts.certificate = Some(thumbprint(text)?),
                "jkt" if dpop != Dpop::Refuse => parts.key = Some(thumbprint(text)?),
                // Keycloak's note on how it came to bind the token.
                "kc-jkt-type" if text == "DPoP" => named = true,
                _ => return Err(Refusal::SenderConstrained),
            }
        }
        let nothing = parts == Parts::default() || named && parts.key.is_none();
        match nothing {
            true => Err(Refusal::SenderConstrained),
            false => Ok(Some(Binding(Box::new(parts)))),
        }
    }

    /// A token and its issuer's answer may each name a certificate and a key; two that differ are nobody's.
    pub(super) fn of_both(
        token: Option<Self>,
        answer: Option<Self>,
    ) -> Result<Option<Self>, Refusal> {
        let (Some(token), Some(answer)) = (&token, &answer) else {
            return Ok(token.or(answer));
        };
        let same = |a: Option<Thumbprint>, b: Option<Thumbprint>| match (a, b) {
            (Some(a), Some(b)) if a != b => Err(Refusal::SenderConstrained),
            (a, b) => Ok(a.or(b)),
        };
        Ok(Some(Binding(Box::new(Parts {
            certificate: same(token.0.certificate, answer.0.certificate)?,
            key: same(token.0.key, answer.0.key)?,
        }))))
    }

    /// All that is known of a token: an issuer with `dpop: require` wants a key.
    pub(super) fn demanded(bound_to: Option<Self>, dpop: Dpop) -> Result<Option<Self>, Refusal> {
        let key = bound_to.as_ref().and_then(Self::key);
        match key.is_none() && dpop == Dpop::Require {
            true => Err(Refusal::Unbound),
            false => Ok(bound_to),
        }
    }

    /// Whether this certificate is enough, or none is wanted. Neither thumbprint is a secret, so the comparison may take
    /// whatever time it takes.
    pub(super) fn is_met_by(&self, shown: Option<&Thumbprint>) -> bool {
        let wanted = self.0.certificate.as_ref();
        wanted.is_none_or(|wanted| shown == Some(wanted))
    }

    pub(super) fn key(&self) -> Option<&Thumbprint> {
        self.0.key.as_ref()
    }
}

fn thumbprint(text: &str) -> Result<Thumbprint, Refusal> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok();
    decoded
        .and_then(|bytes| Thumbprint::try_from(bytes).ok())
        .ok_or(Refusal::SenderConstrained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::json;

    fn read(payload: &str, dpop: Dpop) -> Result<Option<Binding>, Refusal> {
        let object = json::object(payload.as_bytes()).unwrap();
        Binding::of(object.get("cnf"), dpop)
    }

    fn bound_to(certificate: Option<u8>, key: Option<u8>) -> Option<Binding> {
        let thumbprint = |byte: u8| [byte; 32];
        Some(Binding(Box::new(Parts {
            certificate: certificate.map(thumbprint),
            key: key.map(thumbprint),
        })))
    }

    #[test]
    fn a_certificate_binds_and_a_key_where_it_is_allowed() {
        let seven = URL_SAFE_NO_PAD.encode([7; 32]);
        let eight = URL_SAFE_NO_PAD.encode([8; 32]);
        let certificate = format!("{{\"cnf\":{{\"x5t#S256\":\"{seven}\"}}}}");
        let key = format!("{{\"cnf\":{{\"jkt\":\"{eight}\"}}}}");
        let keycloak = format!("{{\"cnf\":{{\"jkt\":\"{eight}\",\"kc-jkt-type\":\"DPoP\"}}}}");
        let both = format!("{{\"cnf\":{{\"jkt\":\"{eight}\",\"x5t#S256\":\"{seven}\"}}}}");
        for dpop in [Dpop::Refuse, Dpop::Allow, Dpop::Require] {
            assert_eq!(read("{}", dpop), Ok(None));
            assert_eq!(read(&certificate, dpop), Ok(bound_to(Some(7), None)));
            for (payload, parts) in [
                (&key, bound_to(None, Some(8))),
                (&keycloak, bound_to(None, Some(8))),
                (&both, bound_to(Some(7), Some(8))),
            ] {
                let expected = match dpop {
                    Dpop::Refuse => Err(Refusal::SenderConstrained),
                    Dpop::Allow | Dpop::Require => Ok(parts),
                };
                assert_eq!(read(payload, dpop), expected, "{payload}");
            }
        }
    }

    #[test]
    fn nothing_else_does() {
        let right = URL_SAFE_NO_PAD.encode([7; 32]);
        let short = URL_SAFE_NO_PAD.encode([7; 31]);
        for cnf in [
            "null".to_owned(),
            "\"x\"".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            format!("{{\"x5t\":\"{right}\"}}"),
            format!("{{\"X5T#S256\":\"{right}\"}}"),
            format!("{{\"x5t#S256\":[\"{right}\"]}}"),
            "{\"x5t#S256\":null}".to_owned(),
            "{\"x5t#S256\":\"\"}".to_owned(),
            format!("{{\"x5t#S256\":\"{short}\"}}"),
            format!("{{\"x5t#S256\":\"{right}=\"}}"),
            format!("{{\"x5t#S256\":\"{right} \"}}"),
            // Bits beyond the end, as in the RFC's own example.
            "{\"x5t#S256\":\"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2\"}".to_owned(),
            format!("{{\"jwk\":{{}},\"x5t#S256\":\"{right}\"}}"),
            "{\"jkt\":\"x\"}".to_owned(),
            "{\"jkt\":null}".to_owned(),
            format!("{{\"jkt\":[\"{right}\"]}}"),
            format!("{{\"jkt\":\"{short}\"}}"),
            format!("{{\"JKT\":\"{right}\"}}"),
            format!("{{\"jkt\":\"{right}\",\"kid\":\"x\"}}"),
            format!("{{\"jkt\":\"{right}\",\"kc-jkt-type\":\"other\"}}"),
            format!("{{\"jkt\":\"{right}\",\"kc-jkt-type\":true}}"),
            format!("{{\"jkt\":\"{right}\",\"x5t#S256\":\"{short}\"}}"),
            "{\"kc-jkt-type\":\"DPoP\"}".to_owned(),
            format!("{{\"kc-jkt-type\":\"DPoP\",\"x5t#S256\":\"{right}\"}}"),
        ] {
            for dpop in [Dpop::Refuse, Dpop::Allow] {
                let got = read(&format!("{{\"cnf\":{cnf}}}"), dpop);
                assert_eq!(got, Err(Refusal::SenderConstrained), "{cnf} {dpop:?}");
            }
        }
    }

    #[test]
    fn a_token_and_an_answer_name_the_same_or_one_of_them_none() {
        let both = Binding::of_both;
        let one = || bound_to(Some(1), None);
        let key = || bound_to(None, Some(3));
        assert_eq!(both(None, None), Ok(None));
        assert_eq!(both(one(), None), Ok(one()));
        assert_eq!(both(None, one()), Ok(one()));
        assert_eq!(both(one(), one()), Ok(one()));
        assert_eq!(both(one(), key()), Ok(bound_to(Some(1), Some(3))));
        assert_eq!(both(key(), key()), Ok(key()));
        for differ in [
            both(one(), bound_to(Some(2), None)),
            both(key(), bound_to(None, Some(4))),
            both(bound_to(Some(1), Some(3)), bound_to(Some(1), Some(4))),
        ] {
            assert_eq!(differ, Err(Refusal::SenderConstrained));
        }
    }

    #[test]
    fn an_issuer_may_want_a_key() {
        let demanded = Binding::demanded;
        let bindings = [None, bound_to(Some(1), None), bound_to(None, Some(3))];
        for binding in bindings.clone() {
            for dpop in [Dpop::Refuse, Dpop::Allow] {
                assert_eq!(demanded(binding.clone(), dpop), Ok(binding.clone()));
            }
        }
        let [none, certificate, key] = bindings;
        assert_eq!(demanded(none, Dpop::Require), Err(Refusal::Unbound));
        assert_eq!(demanded(certificate, Dpop::Require), Err(Refusal::Unbound));
        assert_eq!(demanded(key.clone(), Dpop::Require), Ok(key));
    }

    #[test]
    fn only_the_very_certificate_meets_it() {
        for key in [None, Some(1)] {
            let binding = bound_to(Some(1), key).unwrap();
            assert!(binding.is_met_by(Some(&[1; 32])));
            assert!(!binding.is_met_by(Some(&[2; 32])));
            assert!(!binding.is_met_by(None));
        }
        let key = bound_to(None, Some(1)).unwrap();
        assert!(key.is_met_by(None) && key.is_met_by(Some(&[2; 32])));
        assert_eq!(key.key(), Some(&[1; 32]));
    }
}
