use super::*;

fn read(values: &[&str]) -> Result<String, CredentialFault> {
    let read = credential(values, Schemes::Bearer)?;
    assert_eq!(read.0, Scheme::Bearer);
    Ok(read.1)
}

fn credential(values: &[&str], schemes: Schemes) -> Result<(Scheme, String), CredentialFault> {
    let values = values.iter().map(|value| value.as_bytes());
    let read = super::read(values, 64, schemes)?;
    Ok((read.scheme, read.sent.token()?.expose().to_owned()))
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
    let read = super::read([raw].into_iter(), 64, Schemes::Bearer).unwrap();
    assert_eq!(read.sent.token(), Err(CredentialFault::Malformed));
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
    let value = b"Bearer secret".as_slice();
    let read = super::read([value].into_iter(), 64, Schemes::Bearer).unwrap();
    assert_eq!(
        format!("{read:?}"),
        "Credential { scheme: Bearer, sent: *** }"
    );
    let token = read.sent.token().unwrap();
    assert_eq!(format!("{token:?}"), "***");
}

#[test]
fn exactly_the_bytes_of_token68_are_let_through() {
    for byte in 0..=u8::MAX {
        let listed = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        assert_eq!(is_token68_byte(byte), listed, "{byte}");
    }
}

#[test]
fn a_token_with_a_proof_has_a_scheme_of_its_own_where_it_is_taken() {
    for value in ["DPoP abc", "dpop abc", "DPOP  abc"] {
        let missing = credential(&[value], Schemes::Bearer);
        assert_eq!(missing, Err(CredentialFault::Missing), "{value}");
        for schemes in [Schemes::Both, Schemes::Dpop] {
            let read = credential(&[value], schemes);
            assert_eq!(read, Ok((Scheme::Dpop, "abc".to_owned())), "{value}");
        }
    }
    for schemes in [Schemes::Both, Schemes::Dpop] {
        for value in ["DPoP", "DPoP ", "DPoP\tabc", "DPoP abc,def", "DPoP=abc"] {
            let malformed = credential(&[value], schemes);
            assert_eq!(malformed, Err(CredentialFault::Malformed), "{value}");
        }
        let several = credential(&["DPoP abc", "Bearer abc"], schemes);
        assert_eq!(several, Err(CredentialFault::Several));
        let missing = credential(&["DPoPX abc"], schemes);
        assert_eq!(missing, Err(CredentialFault::Missing));
        let long = credential(&[&format!("DPoP {}", "a".repeat(65))], schemes);
        assert_eq!(long, Err(CredentialFault::Oversized));
        // Whether it may come so is for the token to say.
        let bearer = credential(&["Bearer abc"], schemes);
        assert_eq!(bearer, Ok((Scheme::Bearer, "abc".to_owned())));
    }
}

#[test]
fn a_proof_is_one_field_that_can_be_a_jwt() {
    let proof = |values: &[&'static str]| proof(values.iter().map(|value| value.as_bytes()));
    assert_eq!(proof(&["a.b.c"]), Ok("a.b.c"));
    assert_eq!(proof(&[]), Err(CredentialFault::NoProof));
    for values in [
        &["a.b.c", "a.b.c"][..],
        &["a.b.c", ""],
        &[""],
        &["a.b.c, a.b.c"],
        &["a b"],
        &["a.b.c\u{e9}"],
        &[Box::leak("a".repeat(MAX_PROOF + 1).into_boxed_str())],
    ] {
        assert_eq!(proof(values), Err(CredentialFault::BadProof), "{values:?}");
    }
}
