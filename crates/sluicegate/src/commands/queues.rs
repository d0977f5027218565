//! `sluicegate queues`: what is where, over the management API.

use super::{Failure, say};
use crate::cli::QueuesArgs;
use comfy_table::presets;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// More than the queues of any broker we know take.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn run(args: &QueuesArgs) -> Result<(), Failure> {
    let body = get(args, "/api/queues").map_err(|error| Failure::new(format!("{}: {error}", args.management)))?;
    let queues: Value = serde_json::from_str(&body).map_err(|error| Failure::new(format!("the answer: {error}")))?;
    if args.json {
        say(&queues.to_string());
        return Ok(());
    }
    let Some(queues) = queues.as_array() else {
        return Err(Failure::new(queues["reason"].as_str().unwrap_or("the answer is not a list")));
    };
    if queues.is_empty() {
        say("no queues");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["VHOST", "QUEUE", "READY", "UNACKED", "CONSUMERS", "DURABLE"]);
    for queue in queues {
        let text = |name: &str| queue[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| queue[name].as_u64().unwrap_or_default().to_string();
        let durable = if queue["durable"] == true { "yes" } else { "no" };
        table.add_row([
            text("vhost"),
            text("name"),
            number("messages_ready"),
            number("messages_unacknowledged"),
            number("consumers"),
            durable.to_owned(),
        ]);
    }
    for column in 2..=4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say(&table.to_string());
    Ok(())
}

/// One request over a connection of its own; the body of a 200.
fn get(args: &QueuesArgs, path: &str) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(&args.management).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
    let credentials = base64(&format!("{}:{}", args.user.user, args.user.password));
    let host = &args.management;
    // HTTP/1.0: the answer ends with the connection, never in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Basic {credentials}\r\n\r\n")
        .map_err(text)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(text)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok(body.to_owned()),
        "401" => Err(format!("user `{}` or its password is wrong", args.user.user)),
        other => Err(format!("status {other}: {body}")),
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
