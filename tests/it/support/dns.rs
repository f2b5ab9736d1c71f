//! A name server whose every answer the test chooses, over UDP and TCP.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// What is answered.
#[derive(Clone)]
pub enum Reply {
    Records(Vec<Record>),
    /// Over UDP only that there is more; the rest over TCP.
    Truncated(Vec<Record>),
    Code(ResponseCode),
    Silent,
}

pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    replies: HashMap<(String, RecordType), Reply>,
    asked: HashMap<(String, RecordType), usize>,
    over_tcp: usize,
}

impl NameServer {
    /// Knows nothing yet: every name is NXDOMAIN.
    pub fn start() -> Self {
        let (udp, tcp) = both();
        let server = NameServer {
            address: udp.local_addr().unwrap(),
            zone: Arc::default(),
        };
        let zone = server.zone.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&zone, &buffer[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let zone = server.zone.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept() {
                let zone = zone.clone();
                std::thread::spawn(move || serve(stream, &zone));
            }
        });
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn say(&self, name: &str, kind: RecordType, reply: Reply) {
        let mut zone = self.zone.lock().unwrap();
        zone.replies.insert((whole(name).to_ascii(), kind), reply);
    }

    /// A or AAAA, as the addresses are.
    pub fn has(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let parsed: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        for kind in [RecordType::A, RecordType::AAAA] {
            let of_kind = |ip: &&IpAddr| ip.is_ipv4() == (kind == RecordType::A);
            let records = parsed.iter().filter(of_kind);
            let records = records.map(|ip| record(name, ttl, RData::from(*ip)));
            self.say(name, kind, Reply::Records(records.collect()));
        }
    }

    /// SRV: priority, weight, port and target.
    pub fn serves(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let service = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let srv = SRV::new(*priority, *weight, *port, whole(target));
            record(name, ttl, RData::SRV(srv))
        };
        let records = services.iter().map(service).collect();
        self.say(name, RecordType::SRV, Reply::Records(records));
    }

    /// How often it was asked for this.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let zone = self.zone.lock().unwrap();
        let key = (whole(name).to_ascii(), kind);
        zone.asked.get(&key).copied().unwrap_or_default()
    }

    pub fn asked_over_tcp(&self) -> usize {
        self.zone.lock().unwrap().over_tcp
    }
}

pub fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(whole(name), ttl, data)
}

pub fn alias(name: &str, ttl: u32, target: &str) -> Record {
    record(name, ttl, RData::CNAME(CNAME(whole(target))))
}

fn whole(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

/// One port for both.
fn both() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve(mut stream: TcpStream, zone: &Mutex<Zone>) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        zone.lock().unwrap().over_tcp += 1;
        let answer = answer(zone, &question, true)?;
        let length = u16::try_from(answer.len()).unwrap();
        stream.write_all(&length.to_be_bytes()).ok()?;
        stream.write_all(&answer).ok()?;
    }
}

fn answer(zone: &Mutex<Zone>, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let name = query.name().to_lowercase().to_ascii();
    let key = (name.clone(), query.query_type());
    let mut zone = zone.lock().unwrap();
    *zone.asked.entry(key.clone()).or_default() += 1;
    let is_known = zone.replies.keys().any(|(known, _)| *known == name);
    let reply = zone.replies.get(&key).cloned();
    let reply = reply.unwrap_or(match is_known {
        true => Reply::Records(Vec::new()),
        false => Reply::Code(ResponseCode::NXDomain),
    });
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(query);
    match reply {
        Reply::Records(records) => {
            message.add_answers(records);
        }
        Reply::Truncated(records) if over_tcp => {
            message.add_answers(records);
        }
        Reply::Truncated(_) => message.metadata.truncation = true,
        Reply::Code(code) => message.metadata.response_code = code,
        Reply::Silent => return None,
    }
    message.to_vec().ok()
}
