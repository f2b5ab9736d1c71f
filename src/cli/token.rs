//! `portcullis token`: the client-credentials grant, for trying a configuration out.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::config::plan::{IssuerPlan, KeysFrom, Plan};
use crate::config::secret::without_line_end;
use crate::config::{self, Mode, System};

/// Bad usage or configuration.
const USAGE: u8 = 64;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any discovery document or token answer.
const LONGEST_BODY: usize = 1 << 20;
const LONGEST_SECRET: u64 = 64 << 10;

/// Fetch an access token with the client-credentials grant and print it
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// The configuration that names the issuer
    #[arg(long, value_name = "FILE", default_value = "conf/portcullis.yaml")]
    pub config: PathBuf,
    /// The client's id
    #[arg(long, value_name = "ID")]
    pub client: String,
    /// The issuer's name in the configuration, if it has several
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// Where the client's secret is; standard input otherwise. Never an argument: others can read those
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Scopes to ask for, separated by blanks
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
}

pub fn run(args: TokenArgs) -> ExitCode {
    let plan = match plan(&args.config) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    let token = choose(&plan.issuers, args.issuer.as_deref())
        .map_err(TokenError::Usage)
        .and_then(|issuer| {
            let secret = read_secret(args.secret_file.as_deref())?;
            fetch_blocking(
                issuer,
                &Request {
                    client: &args.client,
                    secret: &secret,
                    scope: args.scope.as_deref(),
                },
            )
        });
    match token {
        Ok(token) => match writeln!(std::io::stdout(), "{token}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "portcullis token: {error}");
            error.exit()
        }
    }
}

fn plan(config: &Path) -> Result<Plan, ExitCode> {
    config::load(config, &System, Mode::Offline)
        .map(|loaded| loaded.plan)
        .map_err(|problems| super::check::refuse(&problems))
}

/// What the token endpoint is asked. No `Debug`: it holds the secret.
pub struct Request<'a> {
    pub client: &'a str,
    pub secret: &'a str,
    pub scope: Option<&'a str>,
}

/// Why there is no token. None of the texts holds the secret.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenError {
    Usage(String),
    Secret(String),
    /// The issuer could not be asked, or its answer not be read.
    Issuer(String),
    /// It answered, and said no.
    Refused {
        status: u16,
        error: String,
        description: Option<String>,
    },
}

impl TokenError {
    fn exit(&self) -> ExitCode {
        match self {
            TokenError::Usage(_) => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Usage(text) | TokenError::Secret(text) | TokenError::Issuer(text) => {
                f.write_str(text)
            }
            TokenError::Refused {
                status,
                error,
                description,
            } => {
                write!(f, "the issuer refused ({status}): {error}")?;
                match description {
                    Some(description) => write!(f, ": {description}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// The issuer of that name, or the only one there is.
pub fn choose<'a>(issuers: &'a [IssuerPlan], name: Option<&str>) -> Result<&'a IssuerPlan, String> {
    let known = || {
        let names: Vec<&str> = issuers.iter().map(|issuer| &*issuer.name).collect();
        names.join(", ")
    };
    match (name, issuers) {
        (_, []) => Err("the configuration has no issuer".to_owned()),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "several issuers, choose one with --issuer: {}",
            known()
        )),
        (Some(name), _) => {
            let found = issuers.iter().find(|issuer| &*issuer.name == name);
            found.ok_or_else(|| format!("no issuer {name:?}; known: {}", known()))
        }
    }
}

fn read_secret(file: Option<&Path>) -> Result<String, TokenError> {
    let (from, read) = match file {
        Some(path) => {
            let from = path.display().to_string();
            (from, std::fs::File::open(path).and_then(read_text))
        }
        None => ("standard input".to_owned(), read_text(std::io::stdin())),
    };
    let text = read.map_err(|why| TokenError::Secret(format!("no secret from {from}: {why}")))?;
    let secret = without_line_end(&text);
    if secret.is_empty() {
        return Err(TokenError::Secret(format!(
            "the secret from {from} is empty"
        )));
    }
    Ok(secret.to_owned())
}

fn read_text(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST_SECRET).read_to_string(&mut text)?;
    Ok(text)
}

fn fetch_blocking(issuer: &IssuerPlan, request: &Request<'_>) -> Result<String, TokenError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|why| TokenError::Issuer(why.to_string()))?;
    runtime.block_on(fetch(issuer, request))
}

/// Finds the token endpoint by discovery and asks it. Returns the bare access token.
pub async fn fetch(issuer: &IssuerPlan, request: &Request<'_>) -> Result<String, TokenError> {
    let client = client(issuer)?;
    let endpoint = token_endpoint(&client, issuer).await?;
    // RFC 6749, 2.3.1: both halves are form-encoded before base64.
    let pair = format!(
        "{}:{}",
        form_encode(request.client),
        form_encode(request.secret)
    );
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(request.scope.map(|scope| ("scope", scope)));
    let asked = client
        .post(&endpoint)
        .header("Authorization", format!("Basic {}", STANDARD.encode(pair)))
        .header("Accept", "application/json")
        .form(&form);
    let (status, answer) = ask(asked, &endpoint).await?;
    let text = |name: &str| {
        let member = answer.as_ref()?.get(name)?.as_str()?;
        Some(member.to_owned())
    };
    if status != 200 {
        return Err(TokenError::Refused {
            status,
            error: text("error").unwrap_or_else(|| "no reason in the answer".to_owned()),
            description: text("error_description"),
        });
    }
    text("access_token").ok_or_else(|| {
        TokenError::Issuer(format!("{endpoint} answered 200 without an access_token"))
    })
}

async fn token_endpoint(
    client: &reqwest::Client,
    issuer: &IssuerPlan,
) -> Result<String, TokenError> {
    let url = match &issuer.keys_from {
        KeysFrom::Discovery(url) => url.clone(),
        // Keys from elsewhere say nothing about the token endpoint: the standard place does.
        KeysFrom::Url(_) | KeysFrom::File(_) => {
            let base = issuer.issuer.trim_end_matches('/');
            format!("{base}/.well-known/openid-configuration")
        }
    };
    let (status, answer) = ask(client.get(&url), &url).await?;
    let fail = |why: String| Err(TokenError::Issuer(why));
    if status != 200 {
        return fail(format!("{url} answered {status}"));
    }
    let Some(document) = answer else {
        return fail(format!("{url} is not a discovery document"));
    };
    let member = |name: &str| document.get(name).and_then(Value::as_str);
    let said = member("issuer").unwrap_or_default();
    if said != issuer.issuer {
        let expected = &issuer.issuer;
        return fail(format!(
            "{url} names the issuer {said:?}, the configuration {expected:?}"
        ));
    }
    let Some(endpoint) = member("token_endpoint") else {
        return fail(format!("{url} names no token_endpoint"));
    };
    if downgrades(&url, endpoint) {
        return fail(format!(
            "{url} names the token endpoint {endpoint:?}, which is not https"
        ));
    }
    Ok(endpoint.to_owned())
}

/// A document fetched under TLS must not send the secret over an open line.
fn downgrades(document: &str, endpoint: &str) -> bool {
    document.starts_with("https://") && !endpoint.starts_with("https://")
}

/// Status and body, the latter if it is JSON. No redirect is followed: the secret goes where we sent it or nowhere.
async fn ask(
    request: reqwest::RequestBuilder,
    url: &str,
) -> Result<(u16, Option<Value>), TokenError> {
    let broken = |why: reqwest::Error| {
        TokenError::Issuer(format!("{url}: {}", root_cause(&why.without_url())))
    };
    let mut response = request.send().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > LONGEST_BODY {
            return Err(TokenError::Issuer(format!("{url}: the answer is too long")));
        }
        body.extend_from_slice(&chunk);
    }
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&body).ok()))
}

fn client(issuer: &IssuerPlan) -> Result<reqwest::Client, TokenError> {
    // Fails only if another part of the process was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT);
    if let Some(path) = &issuer.ca {
        let fail = |why: &dyn fmt::Display| {
            TokenError::Issuer(format!("no CA from {}: {why}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|why| fail(&why))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem);
        builder = builder.tls_certs_only(certificates.map_err(|why| fail(&why))?);
    }
    let built = builder.build();
    built.map_err(|why| TokenError::Issuer(root_cause(&why)))
}

/// The innermost reason ("Connection refused"), which the outer ones leave out.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// `application/x-www-form-urlencoded` of one value.
fn form_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
