//! 100 MB through the proxy, up and down at the same time, in flat memory. Alone in its binary because it looks at the
//! memory of the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use http::{Request, Response};
use sluicegate_net::Peer;
use sluicegate_net::http::{Answer, Body, HttpService, Refusal, ServerSettings};
use support::{Proxy, refuse, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BODY_BYTES: usize = 100_000_000;
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// Sends each request's body back while it arrives.
struct Mirror;

impl HttpService for Mirror {
    async fn call(&self, request: Request<Body>, _: &Peer) -> Box<Answer> {
        Response::new(request.into_body()).into()
    }

    fn refuse(&self, refusal: &Refusal, peer: &Peer) -> Response<Body> {
        refuse(refusal, peer)
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Byte `n` of the body.
fn pattern(n: usize) -> u8 {
    (n % 251) as u8
}

async fn mirror(address: std::net::SocketAddr, chunked: bool) {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let upload = tokio::spawn(async move {
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {BODY_BYTES}") };
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        while sent < BODY_BYTES {
            let piece: Vec<u8> = (sent..(sent + 100_000).min(BODY_BYTES)).map(pattern).collect();
            if chunked {
                writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            writer.write_all(&piece).await.unwrap();
            if chunked {
                writer.write_all(b"\r\n").await.unwrap();
            }
            sent += piece.len();
        }
        if chunked {
            writer.write_all(b"0\r\n\r\n").await.unwrap();
        }
        writer
    });
    let received = if chunked { read_chunked(&mut reader).await } else { read_plain(&mut reader).await };
    assert_eq!(received, BODY_BYTES);
    drop(upload.await.unwrap());
}

async fn read_head(reader: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn read_plain(reader: &mut (impl AsyncReadExt + Unpin)) -> usize {
    let head = read_head(reader).await;
    assert!(head.contains(&format!("content-length: {BODY_BYTES}\r\n")), "{head}");
    let (mut received, mut buf) = (0, vec![0; 64 * 1024]);
    loop {
        let n_bytes = reader.read(&mut buf).await.unwrap();
        if n_bytes == 0 {
            return received;
        }
        assert!(buf[..n_bytes].iter().enumerate().all(|(n, byte)| *byte == pattern(received + n)));
        received += n_bytes;
    }
}

async fn read_chunked(reader: &mut (impl AsyncReadExt + Unpin)) -> usize {
    use http1::{BodyDecoder, BodyFraming, BodyStep};
    let head = read_head(reader).await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked, u64::MAX);
    let (mut received, mut input) = (0, bytes::BytesMut::with_capacity(64 * 1024));
    loop {
        match decoder.decode(&mut input).unwrap() {
            BodyStep::Data(n_bytes) => {
                let data = input.split_to(n_bytes);
                assert!(data.iter().enumerate().all(|(n, byte)| *byte == pattern(received + n)));
                received += n_bytes;
            }
            BodyStep::NeedInput => assert_ne!(reader.read_buf(&mut input).await.unwrap(), 0),
            BodyStep::End => return received,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_megabytes_both_ways_in_flat_memory() {
    let upstream = start(Mirror, ServerSettings::default());
    let server = start(Proxy::to(upstream.address), ServerSettings::default());
    let before = peak_kib();
    mirror(server.address, false).await;
    mirror(server.address, true).await;
    let growth = peak_kib() - before;
    println!("two times 100 MB up and down; peak memory grew by {growth} KiB");
    assert!(growth < GROWTH_KIB_MAX, "memory grew by {growth} KiB");
}
