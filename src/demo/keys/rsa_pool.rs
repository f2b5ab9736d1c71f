//! RSA keys. ring cannot make them, the `rsa` crate can; it does nothing else here.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::{TryCryptoRng, TryRng, UnwrapErr};

use super::KeySource;

/// What Keycloak's `rsa-generated` makes unless told otherwise.
const BITS: usize = 2048;

pub(super) struct RsaDer {
    pub(super) pkcs8: Vec<u8>,
    pub(super) spki: Vec<u8>,
}

/// The key at `place` of the shared pool, or one that nobody else has.
pub(super) fn take(source: KeySource, place: usize) -> io::Result<Arc<RsaDer>> {
    match source {
        KeySource::Fresh => generate().map(Arc::new),
        KeySource::Shared => {
            let slot = slot(place);
            let mut held = slot.lock().unwrap_or_else(|e| e.into_inner());
            match &*held {
                Some(der) => Ok(der.clone()),
                None => Ok(held.insert(Arc::new(generate()?)).clone()),
            }
        }
    }
}

type Slot = Arc<Mutex<Option<Arc<RsaDer>>>>;

/// A lock for each place, so that the keys of the first issuer are made in parallel.
fn slot(place: usize) -> Slot {
    static POOL: OnceLock<Mutex<Vec<Slot>>> = OnceLock::new();
    let pool = POOL.get_or_init(Mutex::default);
    let mut slots = pool.lock().unwrap_or_else(|e| e.into_inner());
    while slots.len() <= place {
        slots.push(Slot::default());
    }
    slots[place].clone()
}

fn generate() -> io::Result<RsaDer> {
    let mut random = UnwrapErr(Random(SystemRandom::new()));
    let key = rsa::PrivateKey::new(&mut random, BITS).map_err(io::Error::other)?;
    let pkcs8 = key.to_pkcs8_der().map_err(io::Error::other)?;
    let spki = key.to_public_key().to_public_key_der();
    Ok(RsaDer {
        pkcs8: pkcs8.as_bytes().to_vec(),
        spki: spki.map_err(io::Error::other)?.as_bytes().to_vec(),
    })
}

/// ring's generator, in the words of the `rsa` crate.
struct Random(SystemRandom);

impl TryRng for Random {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> Result<u32, io::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, io::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), io::Error> {
        let filled = self.0.fill(bytes);
        filled.map_err(|_| io::Error::other("the system gives no randomness"))
    }
}

impl TryCryptoRng for Random {}
