//! What a gateway on Pingora cannot do without, and nothing else: bare Pingora that writes as many fields as the
//! contract asks for, of the same length but always the same, and has deadlines. It judges nobody. docs/performance.md
//! has what it costs beside the gateway.
//!
//! `floor LISTEN_ADDRESS PEER_ADDRESS`

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[path = "../src/allocator.rs"]
mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

const DEADLINE: Duration = Duration::from_secs(30);

const FIELDS: [(&str, &str); 10] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "127.0.0.1:18080"),
    ("x-request-id", "6f9619ff8b86d011b42d00c04fc964ff"),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    ("x-auth-issuer", "http://127.0.0.1:19080/realms/bench"),
    ("x-auth-client", "client-00001"),
    ("x-auth-subject", "0af76519-16cd-43dd-8448-eb211c80319c"),
    ("x-auth-scope", "accounts:read profile email"),
    ("x-auth-roles", "default-roles-bench,offline_access"),
];

struct Floor {
    peer: String,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(&self, session: &mut Session, (): &mut ()) -> Result<()> {
        session.set_read_timeout(Some(DEADLINE));
        session.set_write_timeout(Some(DEADLINE));
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.peer.as_str(), false, String::new());
        peer.options.connection_timeout = Some(DEADLINE);
        peer.options.read_timeout = Some(DEADLINE);
        peer.options.write_timeout = Some(DEADLINE);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        let (nothing, ()) = http::Request::new(()).into_parts();
        let mut parts: http::request::Parts = std::mem::replace(head, nothing.into()).into();
        parts.headers.reserve(FIELDS.len());
        for (name, value) in FIELDS {
            let value = HeaderValue::from_static(value);
            parts.headers.insert(HeaderName::from_static(name), value);
        }
        *head = parts.into();
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        head: &mut ResponseHeader,
        (): &mut (),
    ) -> Result<()> {
        let (name, value) = FIELDS[3];
        head.insert_header(name, HeaderValue::from_static(value))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut address = || {
        arguments
            .next()
            .expect("usage: floor LISTEN_ADDRESS PEER_ADDRESS")
    };
    let (listen, peer) = (address(), address());
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        upstream_keepalive_pool_size: 256,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf: Arc<ServerConf> = server.configuration.clone();
    let mut service = http_proxy_service(&conf, Floor { peer });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
