//! `./dev run`: builds the release binary, starts the quickstart and prints what to try.

use crate::process::{Failure, Step, say};
use crate::test;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CONFIG: &str = "crates/config/src/quickstart.yaml";
const DATA: &str = "target/quickstart-data";
const ADMIN: &str = "127.0.0.1:8001";
/// The first start may have to recover a log that earlier tries left.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

const TRY: &str = r#"
Sluicegate is running. In another terminal, try:

  # An HTTP request ends in a durable queue; 202 means it is on disk.
  curl -i http://127.0.0.1:8000/orders -H 'Content-Type: application/json' -d '{"item": "book"}'

  # A program that knows only RabbitMQ takes it out.
  python3 -m pip install --quiet pika
  python3 -c "
import pika
channel = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1')).channel()
method, properties, body = channel.basic_get('orders', auto_ack=True)
print(properties and properties.content_type, body)"

  # See it live in a browser, as guest with password guest: http://127.0.0.1:15672/
  # Metrics: curl http://127.0.0.1:8001/metrics

Ctrl-C stops it: it finishes what is in flight and syncs.
"#;

pub(crate) fn run() -> Result<(), Failure> {
    test::build_release()?;
    let mut child = Step::new("target/release/sluicegate").args(["run", CONFIG, "--data", DATA]).spawn()?;
    let deadline = Instant::now() + READY_TIMEOUT;
    while !is_ready() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::new(format!("sluicegate ended with {status} before it was ready")));
        }
        if Instant::now() > deadline {
            return Err(Failure::new("sluicegate is not ready after 30 s"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    say(TRY);
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("sluicegate ended with {status}"))),
        Err(error) => Err(Failure::new(format!("waiting for sluicegate: {error}"))),
    }
}

fn is_ready() -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(ADMIN)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /status/ready HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
