//! The file itself and what concerns the process as a whole.

use super::issuer::ISSUER;
use super::route::ROUTE;
use super::upstream::UPSTREAM;
use super::{Block, DURATION, FILE, Format, Key, Kind, SIZE, URL, key};

pub(in crate::config) static ROOT: Block = Block {
    name: "file",
    doc: "The file is one YAML map.",
    keys: &[
        key("server", Kind::Block(&SERVER), "Threads and shutdown."),
        key(
            "listeners",
            Kind::List {
                of: &Kind::Block(&LISTENER),
                min: 1,
            },
            "Where callers connect.",
        )
        .required(),
        key(
            "admin",
            Kind::Block(&ADMIN),
            "The private listener for health, metrics and operations.",
        ),
        key("limits", Kind::Block(&LIMITS), "What one caller may cost."),
        key(
            "issuers",
            Kind::Map {
                key: Format::Name,
                value: &Kind::Block(&ISSUER),
                min: 0,
            },
            "Who signs the tokens, by a name of your choice. Required unless every route is public.",
        ),
        key(
            "token_cache",
            Kind::Block(&TOKEN_CACHE),
            "Memory for tokens that were already proved.",
        ),
        key(
            "revocations",
            Kind::Block(&REVOCATIONS),
            "Tokens that are refused before they expire.",
        ),
        key(
            "access_log",
            Kind::Block(&ACCESS_LOG),
            "One JSON line per request on standard output.",
        ),
        key(
            "upstreams",
            Kind::Map {
                key: Format::Name,
                value: &Kind::Block(&UPSTREAM),
                min: 1,
            },
            "Pools of peers that serve the same thing, by a name of your choice.",
        )
        .required(),
        key(
            "routes",
            Kind::List {
                of: &Kind::Block(&ROUTE),
                min: 1,
            },
            "Which requests go where, and who may send them. What no route covers is 404.",
        )
        .required(),
    ],
    misplaced: &[
        ("route", "the list is called `routes`"),
        (
            "issuer",
            "issuers are named: `issuers: { keycloak: { issuer: … } }`",
        ),
    ],
};

static SERVER: Block = Block {
    name: "server",
    doc: "A change here needs a restart.",
    keys: &[
        key(
            "threads",
            Kind::OneOf(&[Kind::Word(&["auto"]), Kind::Number { min: 1, max: 1024 }]),
            "Worker threads; `auto` is the number of cores.",
        )
        .default("auto"),
        key("shutdown", Kind::Block(&SHUTDOWN), "What SIGTERM starts."),
        key(
            "handover",
            FILE,
            "Unix socket where a process started with `run --upgrade` takes the listening sockets over. The gateway makes it: its directory must be writable, for the gateway's user alone.",
        )
        .absent("off"),
    ],
    misplaced: &[("address", "addresses stand under `listeners`")],
};

static SHUTDOWN: Block = Block {
    name: "server.shutdown",
    doc: "First readiness fails, then the listeners close, then requests in flight finish.",
    keys: &[
        key(
            "pre_stop",
            Kind::Scalar(Format::DurationOrZero),
            "How long readiness fails before the listeners close, so that balancers notice.",
        )
        .default("0s"),
        key(
            "drain",
            DURATION,
            "How long requests in flight have to finish.",
        )
        .default("20s"),
    ],
    misplaced: &[],
};

const NETWORKS: Kind = Kind::List {
    of: &Kind::Scalar(Format::Network),
    min: 0,
};

static LISTENER: Block = Block {
    name: "listeners[]",
    doc: "Without `tls` a listener speaks HTTP/1.1 only; with it HTTP/1.1 and HTTP/2 by ALPN. A change here needs a restart.",
    keys: &[
        key(
            "address",
            Kind::Scalar(Format::Address),
            "IP address and port, such as `0.0.0.0:8072`.",
        )
        .required(),
        key("tls", Kind::Block(&LISTENER_TLS), "Certificate and key.").absent("plain"),
        key(
            "proxy_protocol",
            Kind::Block(&PROXY_PROTOCOL),
            "Whose connections start with the PROXY protocol.",
        )
        .absent("off"),
        key(
            "trusted_proxies",
            NETWORKS,
            "Networks whose `X-Forwarded-*` are believed.",
        ),
        key(
            "public_url",
            URL,
            "What callers see in front of the path; the `htu` of DPoP proofs is held against it.",
        )
        .absent("from `Host`, and from the `X-Forwarded-*` of trusted proxies"),
    ],
    misplaced: &[("port", "write `address: 0.0.0.0:8072`")],
};

static LISTENER_TLS: Block = Block {
    name: "listeners[].tls",
    doc: "PEM files. They are read again when they change; what is broken leaves what was there.",
    keys: &[
        key(
            "certificate",
            FILE,
            "Path of the certificate chain, our own first.",
        )
        .required(),
        key("private_key", FILE, "Path of its private key.").required(),
        key(
            "client_ca",
            FILE,
            "Path of the authorities that sign the callers' certificates; without one of theirs a handshake fails.",
        )
        .absent("callers show no certificate"),
    ],
    misplaced: &[],
};

static PROXY_PROTOCOL: Block = Block {
    name: "listeners[].proxy_protocol",
    doc: "Required from these sources and refused from all others.",
    keys: &[key(
        "from",
        Kind::List {
            of: &Kind::Scalar(Format::Network),
            min: 1,
        },
        "Networks of the balancers.",
    )
    .required()],
    misplaced: &[],
};

static ADMIN: Block = Block {
    name: "admin",
    doc: "Plain HTTP, never on a public listener. A change here needs a restart.",
    keys: &[
        key(
            "address",
            Kind::Scalar(Format::Address),
            "IP address and port.",
        )
        .default("127.0.0.1:9072"),
        key(
            "token",
            Kind::Secret,
            "Bearer token for fetching keys now and for revocations.",
        )
        .absent("those calls are off"),
    ],
    misplaced: &[],
};

const MANY: Kind = Kind::Number {
    min: 1,
    max: 10_000_000,
};

static LIMITS: Block = Block {
    name: "limits",
    doc: "Hold on every listener.",
    keys: &[
        key(
            "header_timeout",
            DURATION,
            "Time for a request's whole head; slower is 408. As long again for what comes before the first: a PROXY header, the TLS handshake.",
        )
        .default("10s"),
        key(
            "header_bytes",
            SIZE,
            "Bytes of a request's head, request line included; more is 431.",
        )
        .default("32KiB"),
        key(
            "header_fields",
            Kind::Number { min: 1, max: 256 },
            "Header fields in a request; more is 431.",
        )
        .default("128"),
        key(
            "body_bytes",
            SIZE,
            "Bytes of a request's body; more is 413. A route may set its own.",
        )
        .default("10MiB"),
        key(
            "body_min_rate",
            Kind::Scalar(Format::SizeOrZero),
            "Bytes a second that a body must bring after its first ten seconds; `0` is off.",
        )
        .default("1KiB"),
        key(
            "write_timeout",
            DURATION,
            "Time that a caller may leave a response unread.",
        )
        .default("60s"),
        key(
            "keep_alive",
            DURATION,
            "Time that an idle connection stays open.",
        )
        .default("75s"),
        key("connections", MANY, "Connections in all.").default("20000"),
        key(
            "connections_per_source",
            MANY,
            "Connections from one address.",
        )
        .default("1000"),
        key(
            "floods_per_source",
            Kind::Block(&FLOODS),
            "How often one address may have connections ended because they flood HTTP/2; beyond it new ones are closed at once.",
        )
        .absent("off"),
        key("token_bytes", SIZE, "Bytes of a bearer token; more is 400.").default("8KiB"),
        key("http2", Kind::Block(&HTTP2), "HTTP/2 alone."),
    ],
    misplaced: &[(
        "timeout",
        "a request's timeout is set per route: `routes[].timeout`",
    )],
};

static FLOODS: Block = Block {
    name: "limits.floods_per_source",
    doc: "A bucket for each source that holds `burst` and gains `connections` every `every`. Floods are resets, CONTINUATION without end, empty DATA and header bombs. Leave it off where many callers come from one address.",
    keys: &[
        key("connections", MANY, "Flooded connections gained.").required(),
        key("every", DURATION, "In this time.").default("1s"),
        key("burst", MANY, "Flooded connections at once.").absent("`connections`"),
    ],
    misplaced: &[],
};

static HTTP2: Block = Block {
    name: "limits.http2",
    doc: "Hold on TLS listeners.",
    keys: &[
        key(
            "streams",
            Kind::Number {
                min: 1,
                max: 10_000,
            },
            "Concurrent streams on a connection.",
        )
        .default("100"),
        key("header_list", SIZE, "Bytes of a decoded header list.").default("64KiB"),
        key(
            "idle",
            DURATION,
            "Time that a connection without streams stays open.",
        )
        .default("60s"),
    ],
    misplaced: &[],
};

static TOKEN_CACHE: Block = Block {
    name: "token_cache",
    doc: "Proofs are kept by the hash of the whole token.",
    keys: &[
        key("max_bytes", SIZE, "Memory it may use.").default("32MiB"),
        key(
            "max_age",
            DURATION,
            "Time after which a token is proved anew.",
        )
        .default("5m"),
    ],
    misplaced: &[],
};

static REVOCATIONS: Block = Block {
    name: "revocations",
    doc: "Set and listed through the admin listener, and set by back-channel logout.",
    keys: &[
        key(
            "file",
            FILE,
            "Where they survive a restart, each issuer's not-before with them. The gateway makes it, and `.new` and \
             `.lock` beside it: its directory must be writable. One for each process.",
        )
        .absent("in memory only"),
        key(
            "max",
            MANY,
            "How many may hold at a time. When that many do, another one is refused and none is dropped.",
        )
        .default("100000"),
    ],
    misplaced: &[],
};

static ACCESS_LOG: Block = Block {
    name: "access_log",
    doc: "No token, no secret and no query string is ever in it.",
    keys: &[ENABLED],
    misplaced: &[],
};

const ENABLED: Key = key("enabled", Kind::Flag, "Whether it is written.").default("true");
