//! Routes: which request goes where, and what its sender must prove.

use super::{Block, DURATION, Format, Kind, SIZE, WORDS, key};

const NAME: Kind = Kind::Scalar(Format::Name);
const NAMES: Kind = Kind::List { of: &NAME, min: 1 };
const SCOPES: Kind = Kind::List {
    of: &Kind::Scalar(Format::Scope),
    min: 1,
};
const METHODS: Kind = Kind::List {
    of: &Kind::Scalar(Format::Method),
    min: 1,
};
const HEADER_NAMES: Kind = Kind::List {
    of: &Kind::Scalar(Format::HeaderName),
    min: 1,
};

pub(super) static ROUTE: Block = Block {
    name: "routes[]",
    doc: "The longest path, then the more specific host, then header and query conditions decide alone; their order in the file does not matter.",
    keys: &[
        key("name", NAME, "Unique; a label in metrics and logs.").required(),
        key("match", Kind::Block(&MATCH), "Which requests it takes.").required(),
        key(
            "strip_prefix",
            Kind::Scalar(Format::RoutePath),
            "Beginning of the path that the upstream does not see.",
        ),
        key(
            "rewrite",
            Kind::Block(&REWRITE),
            "Another path for the upstream, by a pattern; not with `strip_prefix`.",
        ),
        key(
            "upstream",
            Kind::OneOf(&[
                NAME,
                Kind::List {
                    of: &Kind::Block(&SHARE),
                    min: 1,
                },
            ]),
            "Name of the upstream, or a split over several: each request is drawn by weight.",
        )
        .required(),
        key(
            "access",
            Kind::OneOf(&[Kind::Word(&["public"]), Kind::Block(&ACCESS)]),
            "Who may use it: `public` is everybody, `{}` every valid token of every issuer.",
        )
        .required(),
        key(
            "forward",
            Kind::Block(&FORWARD),
            "What of the token the upstream sees besides the `X-Auth-*` headers.",
        ),
        key(
            "allow_target",
            Kind::List {
                of: &Kind::Word(&[
                    "encoded_slash",
                    "encoded_backslash",
                    "encoded_percent",
                    "encoded_unreserved",
                    "double_slash",
                    "semicolon",
                ]),
                min: 1,
            },
            "Forms of a path that servers read differently and that are otherwise refused: `%2F`, `%5C`, `%25`, an escape that is not needed, `//`, and `;` or `%3B`.",
        ),
        key(
            "upgrade",
            Kind::List {
                of: &Kind::Word(&["websocket"]),
                min: 1,
            },
            "Protocols that a request may switch to, HTTP/1.1 on both sides. Such a connection ends with its token.",
        )
        .absent("none"),
        key(
            "rate_limit",
            Kind::Block(&RATE_LIMIT),
            "How often one client may call; more is 429.",
        )
        .absent("off"),
        key(
            "timeout",
            DURATION,
            "Time from the request's head to the head of the response, then between two reads; then 504.",
        )
        .default("30s"),
        key(
            "body_bytes",
            SIZE,
            "Bytes of a request's body; more is 413.",
        )
        .absent("`limits.body_bytes`"),
        key(
            "request_headers",
            Kind::Block(&EDITS),
            "Headers changed on the way to the upstream.",
        ),
        key(
            "response_headers",
            Kind::Block(&EDITS),
            "Headers changed on the way back.",
        ),
        key(
            "cors",
            Kind::Block(&CORS),
            "Requests of browsers from other origins.",
        )
        .absent("off"),
    ],
    misplaced: &[
        ("path", "it belongs under `match`"),
        ("host", "it belongs under `match`"),
        ("methods", "they belong under `match`"),
        ("method", "write `methods: […]` under `match`"),
        ("scopes", "they belong under `access`"),
        ("public", "write `access: public`"),
    ],
};

static MATCH: Block = Block {
    name: "routes[].match",
    doc: "All conditions that are written must hold.",
    keys: &[
        key(
            "host",
            Kind::Scalar(Format::Host),
            "Name in `Host`, without port; `*.example.com` is every name below it.",
        )
        .absent("any"),
        key(
            "path",
            Kind::Scalar(Format::RoutePath),
            "Covers itself and everything beneath it on segment boundaries.",
        )
        .required(),
        key("exact", Kind::Flag, "Narrows `path` to itself.").default("false"),
        key(
            "methods",
            METHODS,
            "Methods; `GET` brings `HEAD` with it. Any other on a known path is 405.",
        )
        .absent("any"),
        key(
            "headers",
            Kind::Map {
                key: Format::HeaderName,
                value: &Kind::Scalar(Format::HeaderValue),
                min: 1,
            },
            "Headers that must have these values.",
        )
        .absent("any"),
        key(
            "query",
            Kind::Map {
                key: Format::Word,
                value: &Kind::Scalar(Format::Text),
                min: 1,
            },
            "Query parameters that must have these values.",
        )
        .absent("any"),
    ],
    misplaced: &[
        ("method", "the key is called `methods` and takes a list"),
        ("prefix", "write `path`; it covers everything beneath it"),
    ],
};

static REWRITE: Block = Block {
    name: "routes[].rewrite",
    doc: "What is matched and authorised is the path that was sent, as it was spelled; the upstream gets the other one. A \
          path that the pattern does not match is 404.",
    keys: &[
        key(
            "pattern",
            Kind::Scalar(Format::Template),
            "A regular expression, as the Rust crate `regex` reads it, that must match the whole path.",
        )
        .required(),
        key(
            "to",
            Kind::Scalar(Format::Template),
            "The path that is sent; `${name}` is a group `(?<name>…)` of the pattern. The query stays.",
        )
        .required(),
    ],
    misplaced: &[],
};

static SHARE: Block = Block {
    name: "routes[].upstream[]",
    doc: "One part of a split.",
    keys: &[
        key("name", NAME, "Name of the upstream.").required(),
        key(
            "weight",
            Kind::Number { min: 1, max: 1000 },
            "Its share, compared with the others' weights.",
        )
        .default("1"),
    ],
    misplaced: &[],
};

static ACCESS: Block = Block {
    name: "routes[].access",
    doc: "Every demand that is written must be met; `{}` demands a valid token and nothing else.",
    keys: &[
        key(
            "issuers",
            NAMES,
            "Names of the issuers whose tokens are taken.",
        )
        .absent("all"),
        key("clients", WORDS, "Clients (`azp`), any of them.").absent("any"),
        key("scopes", SCOPES, "Scopes, all of them."),
        key("any_scope", SCOPES, "Scopes, any of them."),
        key("realm_roles", WORDS, "Realm roles, all of them."),
        key("any_realm_role", WORDS, "Realm roles, any of them."),
        key(
            "client_roles",
            Kind::Map {
                key: Format::Word,
                value: &WORDS,
                min: 1,
            },
            "Roles by the client that owns them, all of them.",
        ),
        key(
            "proof",
            Kind::OneOf(&[Kind::Word(&["local", "introspect"]), Kind::Block(&PROOF)]),
            "How a token is proved: by signature, or by asking the issuer.",
        )
        .default("local"),
    ],
    misplaced: &[
        (
            "public",
            "a public route has no demands: write `access: public`",
        ),
        ("roles", "write `realm_roles`, or `client_roles` by client"),
        ("scope", "the key is called `scopes` and takes a list"),
        (
            "audience",
            "the audience is the issuer's: `issuers.NAME.audience`",
        ),
    ],
};

static PROOF: Block = Block {
    name: "routes[].access.proof",
    doc: "An answer of the issuer that may be a little old.",
    keys: &[key("fresh", DURATION, "Age at most.").required()],
    misplaced: &[],
};

static FORWARD: Block = Block {
    name: "routes[].forward",
    doc: "A header named here is taken from no caller, on any route.",
    keys: &[
        key(
            "authorization",
            Kind::Word(&["drop", "keep"]),
            "Whether the upstream sees the token itself.",
        )
        .default("drop"),
        key(
            "headers",
            Kind::Map {
                key: Format::HeaderName,
                value: &Kind::Scalar(Format::JsonPointer),
                min: 1,
            },
            "Header and the claim it carries, as a JSON pointer (RFC 6901) such as `/customer_id`.",
        ),
    ],
    misplaced: &[],
};

static RATE_LIMIT: Block = Block {
    name: "routes[].rate_limit",
    doc: "A bucket that holds `burst` and gains `requests` every `every`.",
    keys: &[
        key(
            "per",
            Kind::Word(&["client", "source"]),
            "Whose requests are counted together: the token's client, or the caller's address.",
        )
        .required(),
        key(
            "requests",
            Kind::Number {
                min: 1,
                max: 10_000_000,
            },
            "Requests gained.",
        )
        .required(),
        key("every", DURATION, "In this time.").default("1s"),
        key(
            "burst",
            Kind::Number {
                min: 1,
                max: 10_000_000,
            },
            "Requests at once.",
        )
        .absent("`requests`"),
    ],
    misplaced: &[],
};

static EDITS: Block = Block {
    name: "routes[].request_headers, response_headers",
    doc: "Headers that carry identity or framing cannot be changed.",
    keys: &[
        key(
            "set",
            Kind::Map {
                key: Format::HeaderName,
                value: &Kind::Scalar(Format::HeaderValue),
                min: 1,
            },
            "Headers that get these values, whatever they had.",
        ),
        key("remove", HEADER_NAMES, "Headers that are taken away."),
    ],
    misplaced: &[("add", "the key is called `set`")],
};

static CORS: Block = Block {
    name: "routes[].cors",
    doc: "The gateway answers preflights before it asks for a token, and writes the `Access-Control-*` headers of all \
          answers, its own refusals included; those of the upstream are taken away. What is not listed is not allowed.",
    keys: &[
        key(
            "origins",
            Kind::List {
                of: &Kind::Scalar(Format::Origin),
                min: 1,
            },
            "Origins whose pages may call, compared letter by letter; `'*'` alone is every origin.",
        )
        .required(),
        key("methods", METHODS, "Methods that they may use.").absent("those of `match`"),
        key(
            "headers",
            HEADER_NAMES,
            "Headers that they may send; a token needs `authorization`.",
        ),
        key(
            "expose",
            HEADER_NAMES,
            "Headers of answers that they may read, besides `X-Request-Id`, `WWW-Authenticate` and `Retry-After`.",
        ),
        key(
            "max_age",
            DURATION,
            "Time that a browser may keep the answer to a preflight, in whole seconds.",
        )
        .absent("the browser's own"),
    ],
    misplaced: &[
        (
            "credentials",
            "a browser has none for the gateway: tokens come in `Authorization`, which a page's script sets",
        ),
        ("allow_origins", "the key is called `origins`"),
        ("allow_methods", "the key is called `methods`"),
        ("allow_headers", "the key is called `headers`"),
        ("expose_headers", "the key is called `expose`"),
    ],
};
