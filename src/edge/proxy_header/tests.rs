#![allow(clippy::unwrap_used)]

use super::*;

/// Given bit by bit, as it is read: never more than was asked for.
fn fed(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), Broken> {
    let mut have = 0;
    loop {
        match parse(&bytes[..have])? {
            Parsed::Whole(source) => return Ok((source, have)),
            Parsed::More(more) => {
                assert!(more > 0);
                have += more;
                if have > bytes.len() {
                    return Err(Broken::Ended);
                }
            }
        }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_line_names_the_caller() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    for (header, source) in [
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            address("192.0.2.1:56324"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            address("255.255.255.255:65535"),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", address("0.0.0.0:0")),
        (
            "PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
            address("[2001:db8::1]:1"),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            address("192.0.2.1:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN anything at all\r\n", None),
        (longest.as_str(), None),
    ] {
        let behind = format!("{header}GET / HTTP/1.1\r\n");
        assert_eq!(
            fed(behind.as_bytes()),
            Ok((source, header.len())),
            "{header:?}"
        );
    }
}

#[test]
fn a_line_with_a_doubt_is_broken() {
    let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
    for (header, broken) in [
        ("GET / HTTP/1.1\r\n", Broken::NoHeader),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::NoHeader),
        ("PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::NoHeader),
        (" PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::NoHeader),
        ("\u{16}\u{3}\u{1}", Broken::NoHeader),
        ("PROXY \r\n", Broken::Malformed),
        ("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY UNKNOWNX\r\n", Broken::Malformed),
        ("PROXY TCP4\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Broken::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            Broken::Malformed,
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", Broken::Malformed),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n", Broken::NoHeader),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", Broken::Malformed),
        (
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            Broken::Malformed,
        ),
        ("PROXY TCP4 192.0.2.1 x 1 2\r\n", Broken::Malformed),
        (
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            Broken::Malformed,
        ),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Broken::Malformed),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Broken::Malformed),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", Broken::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            Broken::Malformed,
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n", Broken::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", Broken::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
            Broken::Malformed,
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX", Broken::Malformed),
        ("PROXY UNKNOWN\n", Broken::Malformed),
        ("PROXY UNKNOWN a\rb\r\n", Broken::Malformed),
        (endless.as_str(), Broken::TooLong),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2", Broken::Ended),
        ("PRO", Broken::Ended),
        ("", Broken::Ended),
    ] {
        assert_eq!(fed(header.as_bytes()), Err(broken), "{header:?}");
    }
}

fn binary_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap();
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(rest);
    header
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

fn ipv6() -> Vec<u8> {
    let one: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let other: Ipv6Addr = "2001:db8::2".parse().unwrap();
    [&one.octets()[..], &other.octets()[..], &[0xdc, 4, 1, 0xbb]].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// With a checksum that is right.
fn summed(mut header: Vec<u8>) -> Vec<u8> {
    let length = header.len() - FIXED + 7;
    header[14..16].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    header.extend(tlv(CRC32C, &[0; 4]));
    let sum = crc32c(&[&header]);
    let place = header.len() - 4;
    header[place..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn a_binary_header_names_the_caller() {
    let source = address("192.0.2.1:56324");
    let with_extras = [
        &IPV4[..],
        &tlv(1, b"h2"),
        &tlv(4, b""),
        &tlv(0xea, &[1; 300]),
    ]
    .concat();
    for (header, source) in [
        (binary_header(0x21, 0x11, &IPV4), source),
        (binary_header(0x21, 0x11, &with_extras), source),
        (summed(binary_header(0x21, 0x11, &IPV4)), source),
        (summed(binary_header(0x21, 0x11, &with_extras)), source),
        (
            binary_header(0x21, 0x21, &ipv6()),
            address("[2001:db8::1]:56324"),
        ),
        (
            summed(binary_header(0x21, 0x21, &ipv6())),
            address("[2001:db8::1]:56324"),
        ),
        (
            binary_header(0x21, 0x11, &[&IPV4[..], &tlv(4, &[0; 4096 - 31])].concat()),
            source,
        ),
        // The balancer for itself: whatever else it says is not to be read.
        (binary_header(0x20, 0x00, b""), None),
        (binary_header(0x20, 0x11, &IPV4), None),
        (binary_header(0x20, 0xff, b"rubbish"), None),
        // Unknown.
        (binary_header(0x21, 0x00, b""), None),
        (binary_header(0x21, 0x00, b"rubbish"), None),
    ] {
        let behind = [&header[..], b"GET"].concat();
        let shown = header.escape_ascii();
        assert_eq!(fed(&behind), Ok((source, header.len())), "{shown}");
    }
    let mapped = [
        &Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets()[..],
        &[0; 16],
        &[0, 1, 0, 2],
    ];
    let mapped = binary_header(0x21, 0x21, &mapped.concat());
    assert_eq!(fed(&mapped).unwrap().0, address("192.0.2.1:1"));
}

#[test]
fn a_binary_header_with_a_doubt_is_broken() {
    let flipped = |at: usize| {
        let mut header = summed(binary_header(0x21, 0x11, &IPV4));
        header[at] ^= 1;
        header
    };
    let with = |extras: &[u8]| binary_header(0x21, 0x11, &[&IPV4[..], extras].concat());
    for (header, broken) in [
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Broken::NoHeader),
        (b"\r\n\r\nGET / HTTP/1.1".to_vec(), Broken::NoHeader),
        // Another version, another command.
        (binary_header(0x11, 0x11, &IPV4), Broken::Malformed),
        (binary_header(0x31, 0x11, &IPV4), Broken::Malformed),
        (binary_header(0x22, 0x11, &IPV4), Broken::Malformed),
        // Datagrams, sockets of a machine, families of tomorrow.
        (binary_header(0x21, 0x12, &IPV4), Broken::Malformed),
        (binary_header(0x21, 0x10, &IPV4), Broken::Malformed),
        (binary_header(0x21, 0x22, &ipv6()), Broken::Malformed),
        (binary_header(0x21, 0x31, &[b'x'; 216]), Broken::Malformed),
        (binary_header(0x21, 0x41, &IPV4), Broken::Malformed),
        // Too short for their addresses.
        (binary_header(0x21, 0x11, &IPV4[..11]), Broken::Malformed),
        (binary_header(0x21, 0x21, &ipv6()[..35]), Broken::Malformed),
        (binary_header(0x21, 0x11, b""), Broken::Malformed),
        // Extras that do not come out even.
        (with(&[1]), Broken::Malformed),
        (with(&[1, 0]), Broken::Malformed),
        (with(&[1, 0, 1]), Broken::Malformed),
        (with(&[1, 0xff, 0xff, b'x']), Broken::Malformed),
        (with(&[&tlv(4, b"x")[..], &[0]].concat()), Broken::Malformed),
        // Checksums.
        (with(&tlv(CRC32C, &[0; 4])), Broken::Checksum),
        (with(&tlv(CRC32C, &[0; 3])), Broken::Malformed),
        (
            with(&[tlv(CRC32C, &[0; 4]), tlv(CRC32C, &[0; 4])].concat()),
            Broken::Malformed,
        ),
        (flipped(16), Broken::Checksum),
        (flipped(27), Broken::Checksum),
        (flipped(34), Broken::Checksum),
        // Lengths.
        (binary_header(0x21, 0x11, &[0; 4081]), Broken::TooLong),
        (binary_header(0x20, 0x00, &[0; 65535]), Broken::TooLong),
        (
            binary_header(0x21, 0x11, &IPV4)[..20].to_vec(),
            Broken::Ended,
        ),
        (SIGNATURE.to_vec(), Broken::Ended),
    ] {
        let shown = header[..header.len().min(60)].escape_ascii();
        assert_eq!(fed(&header), Err(broken), "{shown}");
    }
}

#[test]
fn the_checksum_is_the_registered_one() {
    // RFC 3720 appendix B.4.
    assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
    assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let starts = [&b"PROXY "[..], b"PROXY TCP4 ", SIGNATURE, b""];
    for round in 0..20_000 {
        let mut bytes = starts[round % starts.len()].to_vec();
        bytes.extend((0..random.usize(..60)).map(|_| random.u8(..)));
        let _ = fed(&bytes);
        let _ = parse(&bytes);
    }
}

#[tokio::test]
async fn not_a_byte_beyond_it_is_read() {
    for header in [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        summed(binary_header(0x21, 0x11, &IPV4)),
    ] {
        let sent = [&header[..], b"GET"].concat();
        let mut stream = &sent[..];
        assert!(read(&mut stream).await.unwrap().is_some());
        assert_eq!(stream, b"GET");
    }
    assert_eq!(read(&mut &b"PROXY TC"[..]).await, Err(Broken::Ended));
}
