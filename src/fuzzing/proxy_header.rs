//! The PROXY protocol's header.

use std::net::IpAddr;

use crate::edge::proxy_header::{Parsed, parse};

/// The bytes of a connection, given as the guard gives them: as many as the parser asks for.
pub fn proxy_header(input: &[u8]) {
    let mut have = 0;
    let source = loop {
        match parse(&input[..have]) {
            Err(_) => return,
            Ok(Parsed::Whole(source)) => break source,
            Ok(Parsed::More(more)) => {
                assert!(more > 0, "it would wait for ever");
                have += more;
                assert!(have <= 4096, "{have} bytes of a header");
                if have > input.len() {
                    return;
                }
            }
        }
    };
    let header = &input[..have];
    // No shorter part is a header of its own, however the bytes come.
    for end in 0..have {
        assert!(
            !matches!(parse(&header[..end]), Ok(Parsed::Whole(_))),
            "{header:?}"
        );
    }
    let Some(source) = source else {
        return;
    };
    match header {
        [b'P', ..] => {
            let line = String::from_utf8_lossy(header).into_owned();
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let said: Result<IpAddr, _> = words[2].parse();
            let said = said.map(|said| said.to_canonical());
            assert_eq!(said, Ok(source.ip()), "{line:?}");
            assert_eq!(words[4].parse(), Ok(source.port()), "{line:?}");
        }
        _ => {
            let mut four = [0; 4];
            let mut sixteen = [0; 16];
            // The family says how long the addresses are, and so where the port stands.
            let (said, port) = if header[13] >> 4 == 1 {
                four.copy_from_slice(&header[16..20]);
                (IpAddr::from(four), 24)
            } else {
                sixteen.copy_from_slice(&header[16..32]);
                (IpAddr::from(sixteen), 48)
            };
            assert_eq!(said.to_canonical(), source.ip(), "{header:?}");
            assert_eq!(
                header[port..port + 2],
                source.port().to_be_bytes(),
                "{header:?}"
            );
        }
    }
}
