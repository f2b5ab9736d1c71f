//! What a token is bound to (`cnf`, RFC 7800 section 3.1): whoever stole it has the token and not this.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::fault::Refusal;
use super::json::Value;

/// SHA-256 of a certificate in DER.
pub(super) type Thumbprint = [u8; 32];

/// The certificate that the caller has to show on its connection (RFC 8705 section 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding(Box<Thumbprint>);

impl Binding {
    /// Reads `cnf`. Any other confirmation, one beside the certificate's too, asks for a proof that we cannot check.
    pub(super) fn of(cnf: Option<&Value<'_>>) -> Result<Option<Self>, Refusal> {
        let Some(cnf) = cnf else { return Ok(None) };
        let mut members = cnf.as_object().map(|cnf| cnf.iter());
        let only = members.as_mut().and_then(|members| {
            let first = members.next();
            first.filter(|_| members.len() == 0)
        });
        let Some(("x5t#S256", thumbprint)) = only else {
            return Err(Refusal::SenderConstrained);
        };
        let decoded = thumbprint
            .as_text()
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .and_then(|bytes| Thumbprint::try_from(bytes).ok());
        match decoded {
            Some(thumbprint) => Ok(Some(Binding(Box::new(thumbprint)))),
            None => Err(Refusal::SenderConstrained),
        }
    }

    /// A token and its issuer's answer may each name a certificate; two that differ are nobody's.
    pub(super) fn of_both(
        token: Option<Self>,
        answer: Option<Self>,
    ) -> Result<Option<Self>, Refusal> {
        match (token, answer) {
            (Some(token), Some(answer)) if token != answer => Err(Refusal::SenderConstrained),
            (token, answer) => Ok(token.or(answer)),
        }
    }

    /// Neither is a secret, so the comparison may take whatever time it takes.
    pub(super) fn is_met_by(&self, shown: Option<&Thumbprint>) -> bool {
        shown == Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::json;

    fn read(payload: &str) -> Result<Option<Binding>, Refusal> {
        let object = json::object(payload.as_bytes()).unwrap();
        Binding::of(object.get("cnf"))
    }

    fn bound_to(byte: u8) -> Option<Binding> {
        Some(Binding(Box::new([byte; 32])))
    }

    #[test]
    fn a_certificate_binds() {
        let thumbprint = URL_SAFE_NO_PAD.encode([7; 32]);
        let payload = format!("{{\"cnf\":{{\"x5t#S256\":\"{thumbprint}\"}}}}");
        assert_eq!(read(&payload), Ok(bound_to(7)));
        assert_eq!(read("{}"), Ok(None));
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
            "{\"jkt\":\"x\"}".to_owned(),
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
            format!("{{\"x5t#S256\":\"{right}\",\"jkt\":\"x\"}}"),
            format!("{{\"jwk\":{{}},\"x5t#S256\":\"{right}\"}}"),
        ] {
            let got = read(&format!("{{\"cnf\":{cnf}}}"));
            assert_eq!(got, Err(Refusal::SenderConstrained), "{cnf}");
        }
    }

    #[test]
    fn a_token_and_an_answer_name_the_same_or_one_of_them_none() {
        let both = Binding::of_both;
        assert_eq!(both(None, None), Ok(None));
        assert_eq!(both(bound_to(1), None), Ok(bound_to(1)));
        assert_eq!(both(None, bound_to(1)), Ok(bound_to(1)));
        assert_eq!(both(bound_to(1), bound_to(1)), Ok(bound_to(1)));
        let differ = both(bound_to(1), bound_to(2));
        assert_eq!(differ, Err(Refusal::SenderConstrained));
    }

    #[test]
    fn only_the_very_certificate_meets_it() {
        let binding = bound_to(1).unwrap();
        assert!(binding.is_met_by(Some(&[1; 32])));
        assert!(!binding.is_met_by(Some(&[2; 32])));
        assert!(!binding.is_met_by(None));
    }
}
