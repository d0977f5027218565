//! The smuggling corpus over a real socket: every attack is answered with its status and a closed connection.

mod support;

use http1::corpus::{Verdict, cases};
use sluicegate_net::http::ServerSettings;
use support::{Collect, read_to_end, send_and_read_to_end, start};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_is_refused_and_the_connection_closed() {
    let server = start(Collect, ServerSettings::default());
    let (mut n_refused, mut n_accepted) = (0, 0);
    let mut failures = Vec::new();
    for case in cases() {
        let (received, fine) = match case.verdict {
            Verdict::Refuse(status) => {
                n_refused += 1;
                let received = send_and_read_to_end(server.address, case.raw).await;
                let one = received.matches("HTTP/1.1 ").count() == 1;
                let named = received.starts_with(&format!("HTTP/1.1 {status} "));
                let closes = received.contains("\r\nconnection: close\r\n") && received.contains("\r\n\r\nrefused: ");
                (received, one && named && closes)
            }
            Verdict::Accept { method, target, body } => {
                n_accepted += 1;
                let mut stream = TcpStream::connect(server.address).await.unwrap();
                stream.write_all(case.raw).await.unwrap();
                stream.shutdown().await.unwrap();
                let received = read_to_end(&mut stream).await;
                let (body, target) = (String::from_utf8_lossy(body), String::from_utf8_lossy(target.as_bytes()));
                let answered = received.starts_with("HTTP/1.1 200 OK\r\n")
                    && received.contains(&format!("x-method: {method}\r\n"))
                    && received.contains(&format!("x-target: {target}\r\n"))
                    && received.contains(&format!("\r\n\r\n{body}"));
                (received, answered)
            }
        };
        if !fine {
            failures.push(format!("{}: {received:?}, not {:?}", case.name, case.verdict));
        }
    }
    println!("over a socket: {n_refused} attacks refused and closed, {n_accepted} requests served");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_refused >= 80);
}
