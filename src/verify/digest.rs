//! What a token is known by once it was looked at: never the token itself.

use std::cell::RefCell;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// The SHA-256 of the whole token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, token);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.as_ref());
        TokenHash(hash)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The GMAC of the whole token under a key that this process drew: a third of a SHA-256's time, and each request pays
/// it. `docs/decisions` says why that is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 16]);

pub(super) struct Fingerprints(LessSafeKey);

impl Fingerprints {
    /// Fails if the system gives us no random bytes.
    pub(super) fn new() -> Result<Self, String> {
        let mut secret = [0; 16];
        let drawn = SystemRandom::new().fill(&mut secret);
        let key = drawn.and_then(|()| UnboundKey::new(&AES_128_GCM, &secret));
        let key = key.map_err(|_| "the system gives no random bytes".to_owned())?;
        Ok(Fingerprints(LessSafeKey::new(key)))
    }

    /// `None` for what is too long for anybody's token, and is then not kept.
    pub(super) fn of(&self, token: &[u8]) -> Option<Fingerprint> {
        thread_local! {
            /// The cipher works in place. What it leaves here nobody can read without the key.
            static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        ROOM.with_borrow_mut(|room| {
            room.clear();
            room.extend_from_slice(token);
            // One nonce for all: nobody ever sees what comes out, so there is nothing to compare it with.
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let sealed =
                self.0
                    .seal_in_place_separate_tag(nonce, Aad::empty(), room.as_mut_slice());
            sealed.ok()?.as_ref().try_into().ok().map(Fingerprint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_another_token() {
        let prints = Fingerprints::new().expect("random bytes");
        for length in [1, 15, 16, 17, 255, 256, 1000, 8192] {
            let token = "e".repeat(length);
            let print = prints.of(token.as_bytes()).expect("a fingerprint");
            assert_eq!(prints.of(token.as_bytes()), Some(print), "{length}");
            for at in [0, length / 2, length - 1] {
                let mut other = token.clone().into_bytes();
                other[at] ^= 1;
                assert_ne!(prints.of(&other), Some(print), "{length}, {at}");
            }
            assert_ne!(prints.of(&token.as_bytes()[1..]), Some(print), "{length}");
            assert_ne!(
                prints.of(format!("{token}e").as_bytes()),
                Some(print),
                "{length}"
            );
        }
    }

    #[test]
    fn another_process_knows_it_by_another_one() {
        let [one, other] = [(); 2].map(|()| Fingerprints::new().expect("random bytes"));
        assert_ne!(one.of(b"token"), other.of(b"token"));
    }
}
