//! What the demo prints when everything listens: lines to paste into a shell as they are.

/// Where the demo listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub gateway: u16,
    pub admin: u16,
    pub issuer: u16,
    /// The first of three in a row.
    pub services: u16,
}

/// Every line is a command or a comment of `sh`, so that the whole text can be pasted, too. The token is cut out with
/// `sed`, because a fresh machine has no `jq`.
pub fn banner(ports: Ports) -> String {
    let Ports {
        gateway,
        admin,
        issuer,
        services,
    } = ports;
    let last = services.saturating_add(2);
    format!(
        r#"# Portcullis demo. Loopback only; every secret in it is public. Ctrl-C stops all.
#   gateway   http://127.0.0.1:{gateway}   admin http://127.0.0.1:{admin}
#   issuer    http://127.0.0.1:{issuer}/realms/eazybank   services 127.0.0.1:{services}-{last}

# A token for a machine that may read all three services:
{token}
# 200, through to each service:
{accounts}
{loans}
{cards}
# 401: nobody sent a token.
{nobody}
# 403: a good token, limited by the administrator to accounts:read.
{reader}
{forbidden}
"#,
        token = token_line(
            "TOKEN",
            issuer,
            "callcenter-cc",
            "accounts:read loans:read cards:read"
        ),
        accounts = call(gateway, "accounts", Some("TOKEN")),
        loans = call(gateway, "loans", Some("TOKEN")),
        cards = call(gateway, "cards", Some("TOKEN")),
        nobody = call(gateway, "accounts", None),
        reader = token_line("READER", issuer, "accounts-reader-cc", "accounts:read"),
        forbidden = call(gateway, "loans", Some("READER")),
    )
}

fn token_line(variable: &str, issuer: u16, client: &str, scope: &str) -> String {
    format!(
        "{variable}=$(curl -s http://127.0.0.1:{issuer}/realms/eazybank/protocol/openid-connect/token \
         -u eazybank-{client}:demo-only-{client} -d grant_type=client_credentials -d 'scope={scope}' \
         | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')"
    )
}

fn call(gateway: u16, service: &str, token: Option<&str>) -> String {
    let credential = token.map(|variable| format!("-H \"Authorization: Bearer ${variable}\" "));
    format!(
        "curl -s -o /dev/null -w '%{{http_code}}\\n' {}http://127.0.0.1:{gateway}/eazybank/{service}/api/fetch",
        credential.unwrap_or_default()
    )
}
