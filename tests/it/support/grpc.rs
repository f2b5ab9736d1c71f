//! A service and a client of gRPC, both tonic's. Messages are bytes, so nothing has to be generated.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Version};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body, BoxFuture, BoxStream, Context, Poll, Service, StdError};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Request, Response, Status, Streaming};

use super::Pair;

/// A test that waits longer for a message has failed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

/// Methods of `demo.Talk`:
/// `Echo` sends back each message; `Count` as many as its first message says; `Collect` how many bytes it got, when the
/// caller has no more; `Fail` refuses with details; `Break` does after a message; `Quiet` sends one message and is
/// silent; `Mute` sends nothing, not even a head.
#[derive(Clone, Default)]
struct Talk {
    heads: Arc<Mutex<Vec<(Version, HeaderMap)>>>,
    given_up: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl NamedService for Talk {
    const NAME: &'static str = "demo.Talk";
}

impl<B> Service<http::Request<B>> for Talk
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let head = (request.version(), request.headers().clone());
        self.heads.lock().unwrap().push(head);
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let method = Method(method, self.given_up.clone());
        Box::pin(async move {
            Ok(tonic::server::Grpc::new(Plain)
                .streaming(method, request)
                .await)
        })
    }
}

struct Method(String, Arc<AtomicUsize>);

/// Counts when the other side is gone before the end.
struct Given(Arc<AtomicUsize>, bool);

impl Given {
    fn over(&mut self) {
        self.1 = true;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Service<Request<Streaming<Bytes>>> for Method {
    type Response = Response<BoxStream<Bytes>>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let Method(method, given_up) = self;
        let (method, given_up) = (method.clone(), given_up.clone());
        Box::pin(async move {
            let mut given = Given(given_up, false);
            match method.as_str() {
                "Fail" => {
                    given.over();
                    return Err(refusal());
                }
                "Mute" => std::future::pending().await,
                _ => {}
            }
            let (sender, answers) = mpsc::channel(4);
            tokio::spawn(async move {
                let gone = sender.clone();
                tokio::select! {
                    () = gone.closed() => {}
                    () = talk(&method, request.into_inner(), &sender) => given.over(),
                }
            });
            let answers: BoxStream<Bytes> = Box::pin(ReceiverStream::new(answers));
            let mut response = Response::new(answers);
            response
                .metadata_mut()
                .insert("x-of", "head".parse().unwrap());
            Ok(response)
        })
    }
}

async fn talk(method: &str, mut said: Streaming<Bytes>, to: &mpsc::Sender<Result<Bytes, Status>>) {
    match method {
        "Echo" => {
            while let Some(Ok(message)) = said.next().await {
                let _ = to.send(Ok(message)).await;
            }
        }
        "Count" => {
            let first = said.next().await.unwrap().unwrap();
            for number in 0..first[0] {
                let _ = to.send(Ok(Bytes::from(vec![number]))).await;
            }
        }
        "Collect" => {
            let mut sum = 0;
            while let Some(Ok(message)) = said.next().await {
                sum += message.len();
            }
            let _ = to.send(Ok(Bytes::from(sum.to_string()))).await;
        }
        "Break" => {
            let _ = to.send(Ok(Bytes::from("one"))).await;
            let _ = to.send(Err(refusal())).await;
        }
        _ => {
            let _ = to.send(Ok(Bytes::from("one"))).await;
            std::future::pending().await
        }
    }
}

fn refusal() -> Status {
    let mut status = Status::failed_precondition("not like this");
    status
        .metadata_mut()
        .insert("x-of", "trailers".parse().unwrap());
    status
}

pub struct GrpcOrigin {
    address: SocketAddr,
    talk: Talk,
    _runtime: Runtime,
}

impl GrpcOrigin {
    /// HTTP/2 with prior knowledge.
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// TLS with this certificate, for clients that these authorities have signed.
    pub fn secure(pair: &Pair, clients: Option<&str>) -> Self {
        let identity = Identity::from_pem(&pair.certificate, &pair.key);
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve(Some(match clients {
            Some(pem) => tls.client_ca_root(Certificate::from_pem(pem)),
            None => tls,
        }))
    }

    fn serve(tls: Option<ServerTlsConfig>) -> Self {
        let runtime = super::runtime();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let talk = Talk::default();
        let served = talk.clone();
        let connections = talk.connections.clone();
        runtime.spawn(async move {
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            let incoming = tokio::net::TcpListener::from_std(socket).unwrap();
            let incoming = TcpIncoming::from(incoming).map(move |accepted| {
                connections.fetch_add(1, Ordering::Relaxed);
                accepted
            });
            let served = server.add_service(served).serve_with_incoming(incoming);
            served.await.unwrap();
        });
        GrpcOrigin {
            address,
            talk,
            _runtime: runtime,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of all calls that came.
    pub fn heads(&self) -> Vec<(Version, HeaderMap)> {
        self.talk.heads.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.talk.connections.load(Ordering::Relaxed)
    }

    /// Calls whose caller was gone before they were over.
    pub fn given_up(&self) -> usize {
        self.talk.given_up.load(Ordering::Relaxed)
    }
}

pub struct GrpcClient {
    runtime: Runtime,
    channel: Channel,
    token: Option<String>,
}

/// A call with both directions open.
pub struct Call<'a> {
    runtime: &'a Runtime,
    say: Option<mpsc::Sender<Bytes>>,
    pub metadata: HeaderMap,
    heard: Streaming<Bytes>,
}

impl GrpcClient {
    /// Over TLS to `name`.
    pub fn open(address: SocketAddr, name: &str, ca: &str) -> Self {
        let runtime = super::runtime();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name(name);
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(tls)
            .unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        GrpcClient {
            runtime,
            channel,
            token: None,
        }
    }

    /// From now on with this token.
    pub fn with(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    fn grpc(&self) -> Grpc<Channel> {
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(grpc.ready()).unwrap();
        grpc
    }

    /// One message each way.
    pub fn unary(&self, path: &'static str, message: &'static str) -> Result<Bytes, Status> {
        let request = self.request(Bytes::from(message));
        let mut grpc = self.grpc();
        let asked = grpc.unary(request, PathAndQuery::from_static(path), Plain);
        let answered = async { tokio::time::timeout(PATIENCE, asked).await.unwrap() };
        self.runtime.block_on(answered).map(Response::into_inner)
    }

    pub fn call(&self, path: &'static str, first: &'static str) -> Result<Call<'_>, Status> {
        let (say, said) = mpsc::channel(4);
        say.try_send(Bytes::from(first)).unwrap();
        let request = self.request(ReceiverStream::new(said));
        let mut grpc = self.grpc();
        let asked = grpc.streaming(request, PathAndQuery::from_static(path), Plain);
        let answered = async { tokio::time::timeout(PATIENCE, asked).await.unwrap() };
        let response = self.runtime.block_on(answered)?;
        let (metadata, heard, _) = response.into_parts();
        Ok(Call {
            runtime: &self.runtime,
            say: Some(say),
            metadata: metadata.into_headers(),
            heard,
        })
    }
}

impl Call<'_> {
    pub fn say(&self, message: impl Into<Bytes>) {
        let said = self.say.as_ref().unwrap().send(message.into());
        self.runtime.block_on(said).unwrap();
    }

    /// Nothing more to say.
    pub fn end(&mut self) {
        self.say = None;
    }

    /// The next message, `None` at a good end.
    pub fn hear(&mut self) -> Result<Option<Bytes>, Status> {
        let next = self.heard.message();
        let next = async { tokio::time::timeout(PATIENCE, next).await.unwrap() };
        self.runtime.block_on(next)
    }
}
