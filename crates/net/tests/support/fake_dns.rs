//! A name server on ports the system chose, UDP and TCP, that says what a test tells it and counts what it is asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// Record types.
pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;

/// What the server does about a question.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Answer with these.
    Records(Vec<Record>),
    /// Answer with this code and no records.
    Code(u8),
    /// Say nothing.
    Silence,
    /// By UDP only that there is more than fits.
    Truncated(Vec<Record>),
    /// First garbage, an answer with another id and one to another question; then the records.
    Spoofed(Vec<Record>),
}

/// Owner, type, TTL and data.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) owner: &'static str,
    pub(crate) kind: u16,
    pub(crate) ttl_s: u32,
    pub(crate) data: Vec<u8>,
}

type Zone = Arc<Mutex<HashMap<(String, u16), Reaction>>>;

/// The server. Names it was told nothing of do not exist.
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    zone: Zone,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

pub(crate) fn a(owner: &'static str, ttl_s: u32, ip: [u8; 4]) -> Record {
    Record { owner, kind: A, ttl_s, data: Ipv4Addr::from(ip).octets().to_vec() }
}

pub(crate) fn aaaa(owner: &'static str, ttl_s: u32, ip: Ipv6Addr) -> Record {
    Record { owner, kind: AAAA, ttl_s, data: ip.octets().to_vec() }
}

pub(crate) fn cname(owner: &'static str, ttl_s: u32, target: &str) -> Record {
    Record { owner, kind: CNAME, ttl_s, data: wire_name(target) }
}

pub(crate) fn srv(owner: &'static str, ttl_s: u32, [priority, weight, port]: [u16; 3], target: &str) -> Record {
    let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
    Record { owner, kind: SRV, ttl_s, data: [numbers, wire_name(target)].concat() }
}

impl FakeDns {
    pub(crate) async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let (zone, asked) = (Zone::default(), Arc::<Mutex<Vec<_>>>::default());
        let (seen, log) = (Arc::clone(&zone), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                let question = &buffer[..length];
                let key = question_of(question);
                log.lock().unwrap().push(key.clone());
                for answer in udp_answers(question, &key, &reaction(&seen, &key)) {
                    udp.send_to(&answer, client).await.unwrap();
                }
            }
        });
        let seen = Arc::clone(&zone);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                let key = question_of(&question);
                if let Reaction::Truncated(records) | Reaction::Records(records) = reaction(&seen, &key) {
                    let answer = message(&question, 0x8180, &records);
                    stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        Self { address, zone, asked }
    }

    /// From now on it says this.
    pub(crate) fn tell(&self, name: &str, kind: u16, reaction: Reaction) {
        self.zone.lock().unwrap().insert((name.to_owned(), kind), reaction);
    }

    pub(crate) fn records(&self, name: &str, kind: u16, records: &[Record]) {
        self.tell(name, kind, Reaction::Records(records.to_vec()));
    }

    /// What it was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn reaction(zone: &Zone, key: &(String, u16)) -> Reaction {
    let zone = zone.lock().unwrap();
    let is_known = zone.keys().any(|(name, _)| *name == key.0);
    let none = if is_known { Reaction::Records(Vec::new()) } else { Reaction::Code(3) };
    zone.get(key).cloned().unwrap_or(none)
}

fn udp_answers(question: &[u8], key: &(String, u16), reaction: &Reaction) -> Vec<Vec<u8>> {
    match reaction {
        Reaction::Records(records) => vec![message(question, 0x8180, records)],
        Reaction::Code(code) => vec![message(question, 0x8180 | u16::from(*code), &[])],
        Reaction::Silence => Vec::new(),
        Reaction::Truncated(_) => vec![message(question, 0x8380, &[])],
        Reaction::Spoofed(records) => {
            let evil = [Record { owner: "evil.example", ..a("evil.example", 60, [6, 6, 6, 6]) }];
            let mut other_id = message(question, 0x8180, &evil);
            other_id[0] ^= 1;
            let mut other_question = question.to_vec();
            let at = question.len() - 5 - key.0.len();
            other_question[at] ^= 1;
            vec![
                b"garbage".to_vec(),
                vec![0xff; 512],
                other_id,
                message(&other_question, 0x8180, &evil),
                message(question, 0x8180, records),
            ]
        }
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn message(question: &[u8], flags: u16, records: &[Record]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    for record in records {
        message.extend_from_slice(&wire_name(record.owner));
        message.extend_from_slice(&record.kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&record.ttl_s.to_be_bytes());
        message.extend_from_slice(&u16::try_from(record.data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&record.data);
    }
    message
}

fn question_of(message: &[u8]) -> (String, u16) {
    let (mut at, mut labels) = (12, Vec::new());
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8(message[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    (labels.join("."), u16::from_be_bytes([message[at + 1], message[at + 2]]))
}
