//! From one process to the next: the listening sockets themselves go over, so that a connection that waits in one of
//! them waits for whoever accepts next and none is refused (`docs/decisions/0063`).
//!
//! The one that runs listens on a Unix socket. Its successor asks there, gets the sockets, gets ready, and only then
//! takes the revocations and begins; the old one serves until that moment, and on if it never comes. Messages are JSON,
//! one a line.

mod offer;
mod takeover;

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use offer::Offer;
pub(super) use offer::{Place, Sockets};
pub(super) use takeover::Predecessor;
pub use takeover::Takeover;

/// What the kernel takes with one message is 253.
const MOST: usize = 250;
/// How long one side waits for a word of the other that has nothing to get ready for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a line: a revocation with its reason is shorter.
const LONGEST: u64 = 64 * 1024;

/// What the successor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// First: give me the sockets.
    Sockets,
    /// I am ready: give me the revocations, and the file with them.
    Revocations,
    /// I accept connections: leave.
    Serving,
}

/// The sockets go with this line, in this order.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    sockets: Vec<SocketAddr>,
}

/// So many lines follow.
#[derive(Debug, Serialize, Deserialize)]
struct Count {
    revocations: usize,
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn send(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    io::Write::write_all(&mut stream, &line)
}

fn receive<T: for<'de> Deserialize<'de>>(reader: &mut impl BufRead) -> io::Result<T> {
    let line = line(reader)?;
    serde_json::from_str(&line).map_err(broken)
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.by_ref().take(LONGEST).read_line(&mut line)?;
    if line.pop() != Some('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

/// The line is short, so it goes with the sockets in one piece.
fn send_sockets(stream: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    let addresses = sockets.iter().map(TcpListener::local_addr);
    let sent = Sent {
        sockets: addresses.collect::<io::Result<_>>()?,
    };
    let mut line = serde_json::to_vec(&sent)?;
    line.push(b'\n');
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = vec![0; rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MOST || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(broken(format!("more than {MOST} sockets")));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&line)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    match sent == line.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn receive_sockets(stream: &UnixStream) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let mut line = vec![0; LONGEST as usize];
    let mut space = vec![0; rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut read = 0;
    while !line[..read].ends_with(b"\n") {
        let mut rest = [IoSliceMut::new(&mut line[read..])];
        let got = recvmsg(stream, &mut rest, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                held.extend(fds);
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += got.bytes;
    }
    let sent: Sent = serde_json::from_slice(&line[..read]).map_err(broken)?;
    if sent.sockets.len() != held.len() {
        let (named, came) = (sent.sockets.len(), held.len());
        return Err(broken(format!("{named} sockets were named, {came} came")));
    }
    let sockets = held.into_iter().map(TcpListener::from);
    Ok(sent.sockets.into_iter().zip(sockets).collect())
}

/// Only whoever may do everything to us anyway: the same user, or root.
fn is_ours(stream: &UnixStream) -> io::Result<bool> {
    let other = rustix::net::sockopt::get_socket_peercred(stream)?;
    Ok(other.uid == rustix::process::geteuid() || other.uid.is_root())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_socket_that_went_over_takes_the_connection_that_waited() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let waiting = std::net::TcpStream::connect(address).expect("a connection");
        send_sockets(&ours, &[socket]).expect("sent");
        let mut came = receive_sockets(&theirs).expect("received");
        let (named, socket) = came.pop().expect("a socket");
        assert_eq!(named, address);
        let (_, caller) = socket.accept().expect("the connection");
        assert_eq!(Ok(caller), waiting.local_addr().map_err(|e| e.kind()));
        assert!(is_ours(&theirs).expect("known"));
    }

    #[test]
    fn a_line_that_breaks_off_or_never_ends_is_no_word() {
        let read = |text: &[u8]| receive::<Word>(&mut BufReader::new(text)).map_err(|e| e.kind());
        assert_eq!(read(b"\"serving\"\n"), Ok(Word::Serving));
        assert_eq!(read(b"\"serving\""), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(read(b"\"leave\"\n"), Err(io::ErrorKind::InvalidData));
        let endless = vec![b'x'; 2 * LONGEST as usize];
        assert_eq!(read(&endless), Err(io::ErrorKind::UnexpectedEof));
    }
}
