//! Upstreams: pools of peers and how patient we are with them.

use super::{Block, DURATION, FILE, Format, Kind, WORD, key};

const UNITS: Kind = Kind::Number {
    min: 1,
    max: 1_000_000,
};
const PERCENT: Kind = Kind::Scalar(Format::Percent);

pub(super) static UPSTREAM: Block = Block {
    name: "upstreams.NAME",
    doc: "One of `peers` and `dns` is required.",
    keys: &[
        key(
            "peers",
            Kind::List {
                of: &Kind::OneOf(&[Kind::Scalar(Format::Peer), Kind::Block(&PEER)]),
                min: 1,
            },
            "Addresses `host:port`, or maps with a weight. A name is one peer: its first address, looked up every ten seconds.",
        ),
        key(
            "dns",
            Kind::Scalar(Format::Peer),
            "A name `host:port` whose addresses, A and AAAA, are the peers. It is looked up every five seconds; a look-up \
             that brings nothing changes nothing.",
        ),
        key(
            "balance",
            Kind::Word(&["round_robin", "least_request", "random", "hash"]),
            "Which peer is next: in turn by weight; of two at random the one with fewer requests for its weight; at \
             random by weight; by a consistent hash.",
        )
        .default("round_robin"),
        key(
            "hash_on",
            Kind::OneOf(&[Kind::Word(&["client", "path"]), Kind::Block(&HASH_ON)]),
            "With `balance: hash`, what brings requests to the same peer. Where there is no client, or no such \
             header, it is the source address.",
        )
        .default("client"),
        key(
            "health",
            Kind::Block(&HEALTH),
            "Asks each peer whether it is well, and leaves out those that are not.",
        )
        .absent("off"),
        key(
            "outlier",
            Kind::Block(&OUTLIER),
            "Leaves out a peer that keeps failing; never more than half of the pool.",
        )
        .absent("off"),
        key(
            "breaker",
            Kind::Block(&BREAKER),
            "Keeps an upstream that is overloaded, or that fails, from more.",
        )
        .absent("off"),
        key(
            "fallback",
            Kind::Block(&FALLBACK),
            "What is answered while the breaker is open, in place of a 503.",
        )
        .absent("the problem body"),
        key(
            "timeouts",
            Kind::Block(&TIMEOUTS),
            "How long each step may take.",
        ),
        key(
            "retries",
            Kind::Block(&RETRIES),
            "What is tried again; never after response bytes.",
        ),
        key(
            "tls",
            Kind::Block(&TLS),
            "TLS to the peers, their name always checked.",
        )
        .absent("plain"),
        key(
            "http",
            Kind::Number { min: 1, max: 2 },
            "Version of HTTP to the peers. 2 is agreed on by ALPN where there is `tls`, and spoken at once (h2c) where \
             there is none. gRPC needs it.",
        )
        .default("1"),
    ],
    misplaced: &[
        ("servers", "the key is called `peers`"),
        ("address", "write `peers: [host:port]`"),
        ("url", "write `peers: [host:port]`, and `tls` for https"),
        (
            "timeout",
            "the key is called `timeouts`: `{ connect: 1s, read: 30s }`",
        ),
    ],
};

static PEER: Block = Block {
    name: "upstreams.NAME.peers[]",
    doc: "A peer with a weight.",
    keys: &[
        key("address", Kind::Scalar(Format::Peer), "`host:port`.").required(),
        key(
            "weight",
            Kind::Number { min: 1, max: 1000 },
            "Its share, compared with the others' weights.",
        )
        .default("1"),
    ],
    misplaced: &[],
};

static HASH_ON: Block = Block {
    name: "upstreams.NAME.hash_on",
    doc: "A header that the caller sends.",
    keys: &[key("header", Kind::Scalar(Format::HeaderName), "Its name.").required()],
    misplaced: &[],
};

static HEALTH: Block = Block {
    name: "upstreams.NAME.health",
    doc: "A 2xx is well. A peer is believed to be well until its checks say otherwise. `Host` is the peer's address, or `tls.server_name`.",
    keys: &[
        key(
            "path",
            Kind::Scalar(Format::RoutePath),
            "What is asked for.",
        )
        .required(),
        key("interval", DURATION, "Time between two questions.").default("5s"),
        key(
            "timeout",
            DURATION,
            "Time for an answer; no more than `interval`.",
        )
        .default("1s"),
        key(
            "healthy",
            UNITS,
            "Good answers in a row that bring a peer back.",
        )
        .default("2"),
        key("unhealthy", UNITS, "Bad answers in a row that take it out.").default("3"),
    ],
    misplaced: &[],
};

static OUTLIER: Block = Block {
    name: "upstreams.NAME.outlier",
    doc: "Judged by real requests: a 5xx, no answer in time, a connection that fails or breaks off.",
    keys: &[
        key("failures", UNITS, "Failures in a row that take a peer out.").default("5"),
        key(
            "eject",
            DURATION,
            "For how long the first time, twice that the second, and so on; 5 minutes at most, or this if it is more.",
        )
        .default("10s"),
    ],
    misplaced: &[],
};

static BREAKER: Block = Block {
    name: "upstreams.NAME.breaker",
    doc: "`max_in_flight` alone is a cap. Any of the other four makes it open when requests fail, and those of them that \
          are not written are then `window: 10`, `failure_rate: 50%`, `open: 10s`, `half_open: 2`. A failure is a 5xx, \
          no answer in time, a connection that fails or breaks off, and no healthy peer.",
    keys: &[
        key(
            "max_in_flight",
            UNITS,
            "Requests at the same time; more are 503.",
        )
        .absent("no bound"),
        key(
            "window",
            UNITS,
            "Requests that are looked back on; before there are so many it stays closed.",
        )
        .absent("off, or 10"),
        key("failure_rate", PERCENT, "Share of failures that opens it.").absent("off, or 50%"),
        key("open", DURATION, "Time until it tries again.").absent("off, or 10s"),
        key(
            "half_open",
            UNITS,
            "Requests of that try; the same share of failures among them opens it again.",
        )
        .absent("off, or 2"),
    ],
    misplaced: &[],
};

static FALLBACK: Block = Block {
    name: "upstreams.NAME.fallback",
    doc: "A fixed answer; needs a `breaker` that opens.",
    keys: &[
        key("status", Kind::Number { min: 200, max: 599 }, "Its status.").default("503"),
        key("body", Kind::Scalar(Format::Text), "Its body, plain text.").required(),
    ],
    misplaced: &[],
};

static TIMEOUTS: Block = Block {
    name: "upstreams.NAME.timeouts",
    doc: "Never unlimited.",
    keys: &[
        key(
            "connect",
            DURATION,
            "Time to connect, and as long again for TLS; then the next peer is tried.",
        )
        .default("1s"),
        key(
            "read",
            DURATION,
            "Time that a peer may stay silent; then 504.",
        )
        .default("30s"),
        key(
            "write",
            DURATION,
            "Time that a peer may leave our request unread; then 504.",
        )
        .default("10s"),
        key("idle", DURATION, "Time that an unused connection is kept.").default("15s"),
        key(
            "stream",
            DURATION,
            "Time that a gRPC call or an upload over HTTP/2 may see no byte of the peer, and a WebSocket no byte at all, in \
             place of `read` and of the route's `timeout`.",
        )
        .default("5m"),
    ],
    misplaced: &[],
};

static RETRIES: Block = Block {
    name: "upstreams.NAME.retries",
    doc: "A request is tried on another peer; where there is none, all but a failed connect on the same one.",
    keys: &[
        key(
            "attempts",
            Kind::Number { min: 1, max: 5 },
            "Attempts, the first included.",
        )
        .default("2"),
        key(
            "when",
            Kind::List {
                of: &Kind::Word(&["connect", "reset", "timeout", "502", "503", "504"]),
                min: 1,
            },
            "What is tried again: no connection; one that broke off before the answer; no answer in time; these \
             statuses. All but `connect` only for idempotent methods whose body has at most 64 KiB.",
        )
        .default("[connect]"),
        key(
            "budget",
            PERCENT,
            "Share of the pool's requests that may be tried again; up to ten are saved up. Failed connects do not count.",
        )
        .default("20%"),
        key(
            "backoff",
            Kind::Block(&BACKOFF),
            "Pause before another attempt, of which a random part is taken, at least half. None after a failed connect.",
        ),
    ],
    misplaced: &[],
};

static BACKOFF: Block = Block {
    name: "upstreams.NAME.retries.backoff",
    doc: "Doubles from attempt to attempt.",
    keys: &[
        key("first", DURATION, "The first pause.").default("25ms"),
        key("max", DURATION, "The longest one.").default("250ms"),
    ],
    misplaced: &[],
};

static TLS: Block = Block {
    name: "upstreams.NAME.tls",
    doc: "PEM files.",
    keys: &[
        key(
            "server_name",
            WORD,
            "The name that the peers' certificates must carry.",
        )
        .required(),
        key("ca", FILE, "Path of the authorities that are believed.").absent("public authorities"),
        key(
            "certificate",
            FILE,
            "Path of our certificate, and of those that signed it, for peers that ask for one. Read again when it changes, \
             as the other two files are.",
        )
        .absent("none"),
        key("private_key", FILE, "Path of its private key.").absent("none"),
    ],
    misplaced: &[],
};
