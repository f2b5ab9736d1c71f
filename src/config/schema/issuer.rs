//! Issuers: whose tokens are believed, and how they are proved.

use super::{Block, DURATION, FILE, Format, Kind, SIZE, URL, WORD, WORDS, key};

const UNITS: Kind = Kind::Number {
    min: 1,
    max: 1_000_000,
};

pub(super) static ISSUER: Block = Block {
    name: "issuers.NAME",
    doc: "An OpenID provider such as a Keycloak realm.",
    keys: &[
        key(
            "issuer",
            Kind::Scalar(Format::Issuer),
            "What `iss` in the tokens must say, compared byte for byte.",
        )
        .required(),
        key("discovery_url", URL, "Where the discovery document is fetched, if the issuer's own address is not reachable from here.")
            .absent("`{issuer}/.well-known/openid-configuration`"),
        key("jwks_uri", Kind::Scalar(Format::UrlOrFile), "Where the signing keys are: a URL, or `file:` and an absolute path.")
            .absent("from discovery"),
        key("introspection_endpoint", URL, "Where a token is asked about (RFC 7662).").absent("from discovery"),
        key("insecure", Kind::Flag, "Allows plain `http://` to a host that is not loopback.").default("false"),
        key("ca", FILE, "PEM file of a private certificate authority for calls to the issuer.").absent("public authorities"),
        key("audience", WORDS, "Any of these must be in a token's `aud`. `account` is refused: every Keycloak token has it.").required(),
        key("algorithms", WORDS, "Signature algorithms that are believed: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.")
            .default("[RS256]"),
        key("token_types", WORDS, "Header `typ` that is believed; an absent one counts as `JWT`; case and `application/` do not matter.")
            .default("[JWT, at+jwt]"),
        key(
            "unmarked",
            Kind::Word(&["refuse", "allow"]),
            "What happens to a token that says neither `typ: at+jwt` in its header nor `typ: Bearer` in its payload.",
        )
        .default("refuse"),
        key("leeway", Kind::Scalar(Format::DurationOrZero), "Clock difference that `exp` and `nbf` forgive, 60s at most.").default("5s"),
        key("keys", Kind::Block(&KEYS), "How the signing keys are kept."),
        key("not_before", Kind::Block(&NOT_BEFORE), "Follows the realm's not-before; `{}` takes the defaults.")
            .absent("off"),
        key("logout", Kind::Block(&LOGOUT), "Back-channel logout.").absent("off"),
        key(
            "dpop",
            Kind::Word(&["refuse", "allow", "require"]),
            "Tokens bound to a key of their client (RFC 9449): refused, taken with a proof for each request, or the only ones that are taken.",
        )
        .default("refuse"),
        key("introspection", Kind::Block(&INTROSPECTION), "Asks the issuer about a token.").absent("off"),
    ],
    misplaced: &[
        ("audiences", "the key is called `audience` and takes a list"),
        ("url", "the key is called `issuer`"),
        ("client_secret", "it belongs under `introspection`"),
        ("client_id", "it belongs under `introspection`"),
    ],
};

static KEYS: Block = Block {
    name: "issuers.NAME.keys",
    doc: "Keys are fetched before they are needed and refreshed ahead of time.",
    keys: &[
        key("refresh", DURATION, "Time between two fetches, 1s or more.").default("5m"),
        key(
            "cooldown",
            DURATION,
            "Time after an unknown `kid` fetched the keys in which no other one does, 1s or more.",
        )
        .default("10s"),
        key(
            "max_stale",
            DURATION,
            "Age at which keys that could not be refreshed are no longer believed.",
        )
        .default("24h"),
        key("timeout", DURATION, "Time for one fetch.").default("5s"),
        key(
            "snapshot",
            FILE,
            "File from which the last good keys survive a restart, `max_stale` at most. Its directory must be there and writable.",
        )
        .absent("off"),
    ],
    misplaced: &[],
};

static NOT_BEFORE: Block = Block {
    name: "issuers.NAME.not_before",
    doc: "Tokens issued before the second that Keycloak's realm document says are refused.",
    keys: &[
        key("poll", DURATION, "Time between two looks, 1s or more.").default("15s"),
        key(
            "url",
            URL,
            "The realm's public document, which has `tokens-not-before`.",
        )
        .absent("`{issuer}`"),
    ],
    misplaced: &[],
};

static LOGOUT: Block = Block {
    name: "issuers.NAME.logout",
    doc: "Heard on the admin listener, at `/issuers/NAME/backchannel-logout`.",
    keys: &[key(
        "clients",
        WORDS,
        "Clients whose logouts this gateway hears: `aud` of the logout token must be one of them.",
    )
    .required()],
    misplaced: &[],
};

static INTROSPECTION: Block = Block {
    name: "issuers.NAME.introspection",
    doc: "RFC 7662.",
    keys: &[
        key("client_id", WORD, "The gateway's own client at the issuer.").required(),
        key(
            "client_secret",
            Kind::Secret,
            "Its secret; not with `private_key_jwt`.",
        ),
        key(
            "private_key",
            Kind::Secret,
            "Its private key: PKCS#8 in PEM; RSA, P-256, P-384 or Ed25519, which sign RS256, ES256, ES384 and EdDSA. \
             Only with `private_key_jwt`.",
        ),
        key(
            "kid",
            WORD,
            "What the issuer calls that key. Needed if it holds several of the gateway's; Keycloak with one needs none.",
        ),
        key(
            "auth",
            Kind::Word(&[
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
            ]),
            "How the gateway proves itself to the issuer: with its secret, or with assertions signed by its key (RFC 7523).",
        )
        .default("client_secret_basic"),
        key(
            "when",
            Kind::List {
                of: &Kind::Word(&["opaque", "lightweight", "unknown_key", "keys_unavailable"]),
                min: 1,
            },
            "What makes the gateway ask.",
        )
        .default("[opaque, lightweight]"),
        key("timeout", DURATION, "Time for one answer.").default("2s"),
        key("max_in_flight", UNITS, "Questions at the same time.").default("64"),
        key("cache", Kind::Block(&CACHE), "Answers that are kept."),
        key(
            "breaker",
            Kind::Block(&BREAKER),
            "Stops asking an issuer that does not answer.",
        ),
    ],
    misplaced: &[],
};

static CACHE: Block = Block {
    name: "issuers.NAME.introspection.cache",
    doc: "Never longer than the token lives.",
    keys: &[
        key("ttl", DURATION, "Time that a yes is kept.").default("30s"),
        key("negative_ttl", DURATION, "Time that a no is kept.").default("5s"),
        key("max_bytes", SIZE, "Memory it may use.").default("8MiB"),
    ],
    misplaced: &[],
};

static BREAKER: Block = Block {
    name: "issuers.NAME.introspection.breaker",
    doc: "While it is open, tokens that need an answer are 503.",
    keys: &[
        key("failures", UNITS, "Failures in a row that open it.").default("5"),
        key("open", DURATION, "Time until it tries again.").default("5s"),
    ],
    misplaced: &[],
};
