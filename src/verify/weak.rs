//! Keys that verify what their owner did not sign.

use super::json::{Object, Value};

/// The primes of the ROCA fingerprint (CVE-2017-15361, Nemec et al. 2017, section 4).
const PRIMES: [u16; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// The `y` coordinates of the points of order 1, 2, 4 and 8 on Curve25519, little end first, the sign bit clear; the
/// last two are the encodings of 0 and 1 that were not reduced. A signature by such a key can be made by anybody.
const SMALL_ORDER: [[u8; 32]; 7] = [
    edge(0x00, 0x00, 0x00),
    edge(0x01, 0x00, 0x00),
    edge(0xec, 0xff, 0x7f),
    edge(0xed, 0xff, 0x7f),
    edge(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn edge(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// What only the owner of a key may know (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1): of RSA's, a prime is as good as all.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Whether the owner has given something of it away.
pub(super) fn is_private(key: &Object<'_>) -> bool {
    // Some libraries write `null` for what is not there.
    let has = |member: &&str| !matches!(key.get(member), None | Some(Value::Null));
    PRIVATE.iter().any(has)
}

/// A modulus made by the flawed generator of CVE-2017-15361: modulo each small prime it is a power of 65537. A sound
/// modulus passes for one with a probability below 2^-27.
pub(super) fn rsa(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| {
        let prime = u32::from(prime);
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            let hit = power == rest;
            power = power * (65537 % prime) % prime;
            hit
        })
    })
}

/// A point of small order, RFC 8032 section 5.1.7 and the list that libsodium refuses.
pub(super) fn ed25519(point: &[u8]) -> bool {
    let mut y = [0; 32];
    if point.len() != y.len() {
        return false;
    }
    y.copy_from_slice(point);
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y)
}
