use super::*;

fn read(values: &[&str]) -> Result<String, CredentialFault> {
    bearer(values.iter().map(|value| value.as_bytes()), 64).map(|token| token.expose().to_owned())
}

#[test]
fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
    for value in [
        "Bearer abc",
        "bearer abc",
        "BEARER abc",
        "bEaReR abc",
        "Bearer  abc",
    ] {
        assert_eq!(read(&[value]), Ok("abc".to_owned()), "{value}");
    }
    let all = "Bearer azAZ09-._~+/==";
    assert_eq!(read(&[all]), Ok("azAZ09-._~+/==".to_owned()));
}

#[test]
fn no_credential_and_another_scheme_are_missing() {
    assert_eq!(read(&[]), Err(CredentialFault::Missing));
    for value in [
        "Basic dXNlcjpwYXNz",
        "DPoP abc.def.ghi",
        "Negotiate",
        "Digest username=\"a\", realm=\"b\"",
        "BearerX abc",
        "Bear abc",
    ] {
        assert_eq!(read(&[value]), Err(CredentialFault::Missing), "{value}");
    }
}

#[test]
fn two_credentials_are_never_chosen_from() {
    for values in [
        ["Bearer abc", "Bearer abc"],
        ["Bearer abc", "Basic abc"],
        ["Basic abc", "Bearer abc"],
        ["", "Bearer abc"],
    ] {
        assert_eq!(read(&values), Err(CredentialFault::Several), "{values:?}");
    }
}

#[test]
fn a_malformed_credential_is_refused() {
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer\tabc",
        "Bearer \tabc",
        "Bearer abc ",
        "Bearer abc def",
        "Bearer abc,def",
        "Bearer abc, Bearer def",
        "Bearer, abc",
        "Bearer=abc",
        "Bearer:abc",
        "Bearer \"abc\"",
        "Bearer =abc",
        "Bearer ==",
        "Bearer a=b",
        "Bearer ab\u{e9}",
        "Bearer ab\0",
        "Bearer ab\r\nX: y",
        "Bearer abc;",
        " Bearer abc",
        "Basic\tabc",
        ",",
    ] {
        assert_eq!(read(&[value]), Err(CredentialFault::Malformed), "{value:?}");
    }
    let raw: &[u8] = b"Bearer \xff\xfe";
    assert_eq!(
        bearer([raw].into_iter(), 64),
        Err(CredentialFault::Malformed)
    );
}

#[test]
fn a_token_may_be_as_long_as_the_limit_and_no_longer() {
    let fits = format!("Bearer {}", "a".repeat(64));
    assert!(read(&[&fits]).is_ok());
    assert_eq!(
        read(&[&format!("{fits}a")]),
        Err(CredentialFault::Oversized)
    );
    // The length is looked at first: what is too long is not read any further.
    assert_eq!(
        read(&[&format!("{fits},")]),
        Err(CredentialFault::Oversized)
    );
}

#[test]
fn a_token_never_prints() {
    let token = bearer([b"Bearer secret".as_slice()].into_iter(), 64);
    assert_eq!(format!("{token:?}"), "Ok(***)");
}

#[test]
fn exactly_the_bytes_of_token68_are_let_through() {
    for byte in 0..=u8::MAX {
        let listed = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        assert_eq!(is_token68_byte(byte), listed, "{byte}");
    }
}
