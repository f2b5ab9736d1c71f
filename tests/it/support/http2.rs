//! A client that speaks HTTP/2 over TLS, frame by frame where it matters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;

use super::Answer;

pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

impl Http2 {
    /// # Panics
    /// When the server did not choose HTTP/2.
    pub fn open(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        Self::open_after(b"", address, name, config)
    }

    /// The same on a connection that begins with these bytes.
    pub fn open_after(
        opening: &[u8],
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> Self {
        let runtime = super::runtime();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let sender = runtime.block_on(async {
            let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut tcp, opening)
                .await
                .unwrap();
            let tls = tokio_rustls::TlsConnector::from(config)
                .connect(name, tcp)
                .await
                .unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = h2::client::handshake(tls).await.unwrap();
            tokio::spawn(connection);
            sender.ready().await.unwrap()
        });
        Http2 { runtime, sender }
    }

    /// One request and its answer. Without `pieces` the head ends the stream; else each is a DATA frame, the last
    /// one ends it, and an empty one is an empty frame.
    pub fn ask(&self, request: Request<()>, pieces: &[&[u8]]) -> Answer {
        let pieces = pieces.iter().map(|p| Bytes::copy_from_slice(p)).collect();
        self.runtime
            .block_on(exchange(self.sender.clone(), request, pieces))
            .unwrap()
    }

    /// All at once, each on a stream of its own.
    pub fn ask_all(&self, requests: Vec<Request<()>>) -> Vec<Answer> {
        self.runtime.block_on(async {
            let asked: Vec<_> = requests
                .into_iter()
                .map(|request| tokio::spawn(exchange(self.sender.clone(), request, Vec::new())))
                .collect();
            let mut answers = Vec::new();
            for answer in asked {
                answers.push(answer.await.unwrap().unwrap());
            }
            answers
        })
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    mut request: Request<()>,
    pieces: Vec<Bytes>,
) -> Result<Answer, h2::Error> {
    *request.version_mut() = Version::HTTP_2;
    let answered = async move {
        let mut sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(request, pieces.is_empty())?;
        let last = pieces.len();
        for (place, piece) in pieces.into_iter().enumerate() {
            // An answer may come before the body has ended, and the server may refuse the rest.
            if stream.send_data(piece, place + 1 == last).is_err() {
                break;
            }
        }
        let (head, mut incoming) = response.await?.into_parts();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let mut answer = Answer {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: Vec::new(),
        };
        while let Some(data) = incoming.data().await {
            let data = data?;
            incoming.flow_control().release_capacity(data.len())?;
            answer.body.extend_from_slice(&data);
        }
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(20), answered)
        .await
        .unwrap()
}
