//! The PROXY protocol's header, versions 1 and 2, as HAProxy's `proxy-protocol.txt` has it.
//!
//! [`parse`] is a function of the bytes alone. What it does not know for certain it refuses: the header names the
//! caller, and limits and logs believe it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Version 1 is a line of at most this many bytes, its end included.
const LINE: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 begins with its signature, version and command, family, and the length of the rest.
const FIXED: usize = 16;
/// The largest header of version 2 that we take; nginx has the same figure.
const LARGEST: usize = 4096;

const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The type of the checksum's TLV.
const CRC32C: u8 = 0x03;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    #[error("its PROXY header is malformed")]
    Malformed,
    #[error("its PROXY header is too long")]
    TooLong,
    #[error("its PROXY header has a wrong checksum")]
    Checksum,
    #[error("it ended within its PROXY header")]
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The header goes on; at least so many more bytes belong to it.
    More(usize),
    /// It is complete, and what it says of the caller: nothing, where the balancer speaks for itself (`LOCAL`) or does
    /// not know (`UNKNOWN`).
    Whole(Option<SocketAddr>),
}

/// Reads a header and not a byte beyond it.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
) -> Result<Option<SocketAddr>, Broken> {
    let mut header = Vec::with_capacity(LINE);
    loop {
        let more = match parse(&header)? {
            Parsed::Whole(source) => return Ok(source),
            Parsed::More(more) => more,
        };
        let have = header.len();
        header.resize(have + more, 0);
        let read = stream.read_exact(&mut header[have..]).await;
        read.map_err(|_| Broken::Ended)?;
    }
}

/// Reads what there is of a header. Bytes beyond its end must not be given.
///
/// # Errors
/// As soon as the bytes cannot become a header that is to be believed.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Broken> {
    let start = &bytes[..bytes.len().min(SIGNATURE.len())];
    if SIGNATURE.starts_with(start) {
        return binary(bytes);
    }
    let start = &bytes[..bytes.len().min(6)];
    if b"PROXY ".starts_with(start) {
        return line(bytes);
    }
    Err(Broken::NoHeader)
}

fn line(bytes: &[u8]) -> Result<Parsed, Broken> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes {
            [.., b'\r'] | [] => Ok(Parsed::More(1)),
            // A line ends once, and in both bytes.
            _ if bytes.contains(&b'\n') || bytes.contains(&b'\r') => Err(Broken::Malformed),
            _ if bytes.len() >= LINE => Err(Broken::TooLong),
            _ => Ok(Parsed::More(1)),
        };
    };
    if bytes.len() > LINE {
        return Err(Broken::TooLong);
    }
    let text = std::str::from_utf8(line).map_err(|_| Broken::Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    let source = match words.as_slice() {
        // The rest of such a line is to be ignored.
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, from, to] => {
            let source: Ipv4Addr = source.parse().map_err(|_| Broken::Malformed)?;
            destination
                .parse::<Ipv4Addr>()
                .map_err(|_| Broken::Malformed)?;
            port(to)?;
            Some(SocketAddr::from((source, port(from)?)))
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let source: Ipv6Addr = source.parse().map_err(|_| Broken::Malformed)?;
            destination
                .parse::<Ipv6Addr>()
                .map_err(|_| Broken::Malformed)?;
            port(to)?;
            Some(SocketAddr::from((
                IpAddr::V6(source).to_canonical(),
                port(from)?,
            )))
        }
        _ => return Err(Broken::Malformed),
    };
    Ok(Parsed::Whole(source))
}

/// Digits without a leading zero.
fn port(text: &str) -> Result<u16, Broken> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Broken::Malformed)
}

fn binary(bytes: &[u8]) -> Result<Parsed, Broken> {
    // One at a time while it may still be something else, so that nobody waits for bytes that do not come.
    if bytes.len() < SIGNATURE.len() {
        return Ok(Parsed::More(1));
    }
    let Some(fixed) = bytes.get(..FIXED) else {
        return Ok(Parsed::More(FIXED - bytes.len()));
    };
    let whole = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if whole > LARGEST {
        return Err(Broken::TooLong);
    }
    let command = fixed[12];
    if command != 0x20 && command != 0x21 {
        return Err(Broken::Malformed);
    }
    if bytes.len() < whole {
        return Ok(Parsed::More(whole - bytes.len()));
    }
    if bytes.len() > whole {
        return Err(Broken::Malformed);
    }
    // LOCAL: the balancer asks for itself, and all the rest is to be discarded.
    if command == 0x20 {
        return Ok(Parsed::Whole(None));
    }
    let rest = &bytes[FIXED..];
    let (source, addresses) = match fixed[13] {
        TCP_OVER_IPV4 => {
            let fields: &[u8; 12] = rest.first_chunk().ok_or(Broken::Malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *fields;
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::from(([a, b, c, d], port))), fields.len())
        }
        TCP_OVER_IPV6 => {
            let fields: &[u8; 36] = rest.first_chunk().ok_or(Broken::Malformed)?;
            let source: &[u8; 16] = fields.first_chunk().ok_or(Broken::Malformed)?;
            let source = IpAddr::V6(Ipv6Addr::from(*source)).to_canonical();
            let port = u16::from_be_bytes([fields[32], fields[33]]);
            (Some(SocketAddr::from((source, port))), fields.len())
        }
        // UNSPEC: unknown, as in version 1. Where its TLVs begin nobody can say.
        0x00 => return Ok(Parsed::Whole(None)),
        // A datagram, or a socket of another machine's, does not come over this connection.
        _ => return Err(Broken::Malformed),
    };
    extras(bytes, FIXED + addresses)?;
    Ok(Parsed::Whole(source))
}

/// Type, length, value, and so on to the end. Only a checksum means something to us.
fn extras(header: &[u8], mut at: usize) -> Result<(), Broken> {
    let mut checksum = None;
    while at < header.len() {
        let (Some(&kind), Some(&high), Some(&low)) =
            (header.get(at), header.get(at + 1), header.get(at + 2))
        else {
            return Err(Broken::Malformed);
        };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        if at > header.len() {
            return Err(Broken::Malformed);
        }
        if kind == CRC32C {
            let sum: [u8; 4] = header[value..at]
                .try_into()
                .map_err(|_| Broken::Malformed)?;
            if checksum.replace((value, u32::from_be_bytes(sum))).is_some() {
                return Err(Broken::Malformed);
            }
        }
    }
    match checksum {
        // It is made over the header with zeros in its own place.
        Some((place, sum)) if crc32c(&[&header[..place], &[0; 4], &header[place + 4..]]) != sum => {
            Err(Broken::Checksum)
        }
        _ => Ok(()),
    }
}

/// RFC 3309, bit by bit: a header is short and comes once a connection.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests;
