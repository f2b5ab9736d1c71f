//! From a claim to the field that carries it.

use crate::verify::principal::{IdentityFields, field, field_text};

/// Texts with a NUL between them, as an issuer might write them; bytes that are no text are replaced.
pub fn claim_to_header(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    for in_list in [false, true] {
        let written = field_text(&text, in_list).into_owned();
        let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        assert!(written.bytes().all(plain), "{text:?}");
        // RFC 9110 section 5.5: a blank at an end would be lost on the way.
        assert_eq!(written.trim(), written, "{text:?}");
        assert!(!in_list || !written.contains(','), "{text:?}");
        // What can be read back was not written for anybody else.
        assert_eq!(read_back(&written), text.as_bytes(), "{text:?}");
        assert_eq!(
            field(&text, in_list).as_bytes(),
            written.as_bytes(),
            "{text:?}"
        );
    }
    let parts: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let fields = IdentityFields::of(&text, &text, &parts, &parts);
    let roles = fields.roles.map(|roles| roles.as_bytes().to_vec());
    let roles = roles.unwrap_or_default();
    let back: Vec<Vec<u8>> = roles
        .split(|byte| *byte == b',')
        .map(|role| read_back(&String::from_utf8_lossy(role)))
        .collect();
    let said: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    assert_eq!(back, said, "{text:?}");
}

fn read_back(written: &str) -> Vec<u8> {
    let mut read = Vec::new();
    let mut bytes = written.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            read.push(byte);
            continue;
        }
        let pair: String = bytes.by_ref().take(2).map(char::from).collect();
        assert_eq!(pair.to_ascii_uppercase(), pair, "{written:?}");
        let value = u8::from_str_radix(&pair, 16);
        read.push(value.expect("an escape"));
    }
    read
}
