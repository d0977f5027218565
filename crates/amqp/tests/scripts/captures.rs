//! What pika sent to RabbitMQ, replayed frame by frame and byte by byte: see tests/captures/README.md.

use crate::script::Runner;
use std::fmt::Write as _;
use std::path::Path;

/// Feeds a capture to a connection; `instruct` says how the broker answers (lines of `R>`), before the first frame.
fn replay(name: &str, instruct: &[&str], step: Option<usize>) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/captures/{name}.bin"));
    let bytes = std::fs::read(path).unwrap();
    let mut runner = Runner::new();
    let mut rest = &bytes[..];
    let mut first = true;
    while !rest.is_empty() {
        let len = if std::mem::take(&mut first) {
            8
        } else {
            8 + u32::from_be_bytes([rest[3], rest[4], rest[5], rest[6]]) as usize
        };
        let (frame, after) = rest.split_at(len);
        rest = after;
        // The answers are for what follows the handshake.
        if runner.connection_is_open() && runner.transcript.iter().any(|l| l.contains("channel.open-ok")) {
            for line in instruct.iter().filter(|l| frame_matches(frame, l)) {
                let (_, answer) = line.split_once(": ").unwrap();
                runner.broker.instruct(answer);
            }
        }
        for piece in frame.chunks(step.unwrap_or(frame.len())) {
            runner.input(piece);
        }
    }
    runner.transcript
}

/// `class.method: answer` is for frames of that method.
fn frame_matches(frame: &[u8], line: &str) -> bool {
    let mut id = String::new();
    let _ = write!(id, "{}.{}: ", frame[8], frame[10]);
    frame[0] == 1 && line.starts_with(&id)
}

fn check(name: &str, instruct: &[&str], expected: &[&str]) {
    let transcript = replay(name, instruct, None);
    for line in expected {
        assert!(transcript.iter().any(|l| l.starts_with(line)), "{line} in {transcript:#?}");
    }
    assert_eq!(transcript.last().map(String::as_str), Some("= Closed"), "{transcript:#?}");
    let refusals = |lines: &[String]| lines.iter().filter(|l| l.contains(".close code=")).count();
    let expected = usize::from(instruct.iter().any(|l| l.contains("refuse")));
    assert_eq!(refusals(&transcript), expected, "{transcript:#?}");
    assert_eq!(replay(name, instruct, Some(1)), transcript, "byte by byte");
}

#[test]
fn hello() {
    check("hello", &[], &["B< 1 QueueDeclaration { queue: \"hello\"", "B< 1 Publish \"\" \"hello\" 12 bytes"]);
}

#[test]
fn confirmed() {
    check(
        "confirmed",
        &[],
        &[
            "B< 1 ExchangeDeclaration { exchange: \"captured\", kind: \"direct\", passive: false, durable: true",
            "B< 1 Publish \"captured\" \"key\" 300000 bytes persistent mandatory confirm=1",
            "B< 1 Publish \"captured\" \"nobody\" 4 bytes mandatory confirm=2",
        ],
    );
}

#[test]
fn settled() {
    check(
        "settled",
        &["60.70: got \"amq.fanout\" \"\" \"message\""],
        &[
            "B< 1 Publish \"amq.fanout\" \"\" 9 bytes",
            "B< Qos { channel: ChannelId(1), prefetch: 4, global: false }",
            "B< 1 Ack [1]",
            "B< 1 Requeue [2, 3]",
            "B< 1 Reject [4]",
            "B< Recover(ChannelId(1))",
            "S< 1 basic.recover-ok",
        ],
    );
}

#[test]
fn properties() {
    check("properties", &[], &["B< 1 Publish \"\" \"properties\" 2 bytes priority=3 ttl_ms=60000 headers user=guest"]);
}

#[test]
fn refused() {
    check(
        "refused",
        &["50.10: refuse NotFound \"no queue 'nowhere' in vhost '/'\""],
        &["S< 1 channel.close code=404", "B< CloseChannel(ChannelId(1))", "B< OpenChannel(ChannelId(1))"],
    );
}
