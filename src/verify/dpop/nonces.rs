//! Nonces that are not remembered: each is what our key makes of the minute it was given in (RFC 9449 sections 8 and 9).

use http::HeaderValue;
use ring::hmac;
use ring::rand::SystemRandom;

use crate::verify::jws;

/// Seconds. A nonce is good in the minute in which it was given and in the next one.
const MINUTE: u64 = 60;

/// Nobody can make a nonce of a later minute, or of another process.
pub(super) struct Nonces(hmac::Key);

/// When a nonce was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Now,
    /// The next one is due.
    Earlier,
    /// The proof has none.
    Never,
}

impl Nonces {
    pub(super) fn new() -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "the system gives no randomness".to_owned())?;
        Ok(Nonces(key))
    }

    /// What is given out at this second of the monotonic clock, which nobody sets back.
    pub(super) fn at(&self, now: u64) -> HeaderValue {
        let nonce = HeaderValue::try_from(self.of(now / MINUTE));
        // base64url is always a field value.
        nonce.unwrap_or(HeaderValue::from_static(""))
    }

    /// When it was given, and when it is void.
    pub(super) fn told(&self, nonce: &str, now: u64) -> Option<(Told, u64)> {
        let minute = now / MINUTE;
        let last = minute.checked_sub(1);
        let void = |minute: u64| (minute + 2) * MINUTE;
        // Whoever asks is given the nonce, so the comparison may take whatever time it takes.
        if nonce == self.of(minute) {
            return Some((Told::Now, void(minute)));
        }
        let last = last.filter(|last| nonce == self.of(*last))?;
        Some((Told::Earlier, void(last)))
    }

    fn of(&self, minute: u64) -> String {
        let tag = hmac::sign(&self.0, &minute.to_be_bytes());
        jws::encode(&tag.as_ref()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_minute_and_the_next() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.at(600);
        let nonce = nonce.to_str().unwrap();
        assert_eq!(nonces.at(659), nonce);
        assert_ne!(nonces.at(660), nonce);
        for (now, told) in [
            (599, None),
            (600, Some((Told::Now, 720))),
            (659, Some((Told::Now, 720))),
            (660, Some((Told::Earlier, 720))),
            (719, Some((Told::Earlier, 720))),
            (720, None),
        ] {
            assert_eq!(nonces.told(nonce, now), told, "{now}");
        }
        for other in ["", "x", &nonce[1..], &format!("{nonce}A")] {
            assert_eq!(nonces.told(other, 600), None, "{other}");
        }
        // Another process has another key.
        assert_eq!(Nonces::new().unwrap().told(nonce, 600), None);
    }

    #[test]
    fn the_first_minute_has_none_before_it() {
        let nonces = Nonces::new().unwrap();
        let nonce = nonces.at(0);
        let told = nonces.told(nonce.to_str().unwrap(), 1);
        assert_eq!(told, Some((Told::Now, 120)));
        assert_eq!(nonces.told("", 1), None);
    }
}
