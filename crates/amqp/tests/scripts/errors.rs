//! What goes wrong on the broker's side, and frames that are none.

use crate::script::{OPEN, channel, check, check_after, run};
use expect_test::expect;

#[test]
fn a_refused_request_closes_the_channel_and_drops_what_was_behind_it() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 2 channel.open
            B< OpenChannel(ChannelId(2))
            S< 2 channel.open-ok
            R> refuse NotFound "no queue 'q' in vhost '/'"
            C> 1 queue.declare queue="q" passive=1
            C> 1 queue.declare queue="dropped"
            C> 2 queue.declare queue="kept"
            C> 1 queue.declare queue="ignored"
            B< 1 QueueDeclaration { queue: "q", generated: None, passive: true, durable: false, exclusive: false, auto_delete: false, arguments: Table([]) }
            S< 1 channel.close code=404 text="NOT_FOUND - no queue \'q\' in vhost \'/\'" class=50 method=10
            B< CloseChannel(ChannelId(1))
            B< 2 QueueDeclaration { queue: "kept", generated: None, passive: false, durable: false, exclusive: false, auto_delete: false, arguments: Table([]) }
            S< 2 queue.declare-ok queue="kept" messages=5 consumers=2
            C> 1 channel.close-ok
            C> 1 channel.open
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
        "#]],
    );
}

#[test]
fn a_refused_publish_names_the_method() {
    check_after(
        &channel(),
        &expect![[r#"
            R> refuse NotFound "no exchange 'nowhere' in vhost '/'"
            C> 1 basic.publish exchange="nowhere" routing-key="k"
            C> 1 header size=0
            C> 1 queue.delete queue="must not be deleted"
            B< 1 Publish "nowhere" "k" 0 bytes
            S< 1 channel.close code=404 text="NOT_FOUND - no exchange \'nowhere\' in vhost \'/\'" class=60 method=40
            B< CloseChannel(ChannelId(1))
            C> 1 channel.close-ok
        "#]],
    );
}

#[test]
fn closes_that_cross() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.ack delivery=1
            C> 1 channel.close
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 1" class=60 method=80
            B< CloseChannel(ChannelId(1))
            S< 1 channel.close-ok
            C> 1 channel.close-ok
            C> 1 channel.open
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            R> hold
            C> 1 channel.close
            B< CloseChannel(ChannelId(1))
            E> refused 1 NotFound "no exchange 'late' in vhost '/'"
            S< 1 channel.close-ok
        "#]],
    );
}

#[test]
fn every_kind_of_refusal_has_its_code() {
    for (kind, code, hard) in [
        ("AccessRefused", "403 text=\"ACCESS_REFUSED", false),
        ("NotFound", "404 text=\"NOT_FOUND", false),
        ("ResourceLocked", "405 text=\"RESOURCE_LOCKED", false),
        ("PreconditionFailed", "406 text=\"PRECONDITION_FAILED", false),
        ("NotAllowed", "530 text=\"NOT_ALLOWED", true),
        ("CommandInvalid", "503 text=\"COMMAND_INVALID", true),
        ("NotImplemented", "540 text=\"NOT_IMPLEMENTED", true),
        ("ResourceError", "506 text=\"RESOURCE_ERROR", true),
        ("InternalError", "541 text=\"INTERNAL_ERROR", true),
    ] {
        let script = format!("{}R> refuse {kind} \"why\"\nC> 1 basic.qos prefetch=1", channel());
        let transcript = run(&script, false);
        let close = if hard { "0 connection.close" } else { "1 channel.close" };
        let expected = format!("S< {close} code={code} - why\" class=60 method=10");
        assert!(transcript.contains(&expected), "{expected} in {transcript:#?}");
    }
}

#[test]
fn a_long_reason_is_cut_to_a_short_string() {
    let script = format!("{}R> refuse NotFound \"{}\"\nC> 1 basic.qos prefetch=1", channel(), "é".repeat(200));
    let transcript = run(&script, false);
    let close = transcript.iter().find(|l| l.contains("channel.close")).unwrap();
    let shown = format!("NOT_FOUND - {}", "\\xc3\\xa9".repeat(121));
    assert!(close.contains(&format!("text=\"{shown}\"")), "{close}");
}

#[test]
fn immediate_is_refused() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q" immediate=1
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - immediate=true" class=60 method=40
            = Closing NOT_IMPLEMENTED - immediate=true
        "#]],
    );
}

#[test]
fn frames_that_are_none() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> raw "\x01\0\0\0\0\x20\x01"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=501 text="FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}"
        = Closing FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,8193,8184}
    "#]]);
    check_after(
        OPEN,
        &expect![[r#"
            C> raw "\x01\0\0\0\x02\0\x01"
            C> raw "and nothing after that can be understood"
            S< 0 connection.close code=501 text="FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}"
            = Closing FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}
            T> 1
            = Closed FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> raw "\x08\0\0\0\0\0\0\xcd"
            S< 0 connection.close code=501 text="FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,205}"
            = Closing FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,205}
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> frame 8 1 ""
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - type 8, all octets = <<>>"
            = Closing UNEXPECTED_FRAME - type 8, all octets = <<>>
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> frame 9 0 "what is this, I wonder?"
            S< 0 connection.close code=501 text="FRAME_ERROR - type 9, first 16 octets = <<\"what is this, I \">>: unknown_frame"
            = Closing FRAME_ERROR - type 9, first 16 octets = <<"what is this, I ">>: unknown_frame
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> frame 8 0 "a heartbeat with a payload"
            S< 0 connection.close code=501 text="FRAME_ERROR - type 8, first 16 octets = <<\"a heartbeat with\">>: unknown_frame"
            = Closing FRAME_ERROR - type 8, first 16 octets = <<"a heartbeat with">>: unknown_frame
        "#]],
    );
}

#[test]
fn methods_that_are_none() {
    check_after(
        &channel(),
        &expect![[r#"
            C> frame 1 1 "\0\x3c\x03\xe7"
            S< 0 connection.close code=503 text="COMMAND_INVALID - unimplemented method" class=60 method=999
            = Closing COMMAND_INVALID - unimplemented method
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> frame 1 1 "\0\x3c\0\x3c"
            S< 0 connection.close code=503 text="COMMAND_INVALID - unimplemented method" class=60 method=60
            = Closing COMMAND_INVALID - unimplemented method
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> frame 1 1 "\0"
            S< 0 connection.close code=502 text="SYNTAX_ERROR - a value reaches over the end of its frame or table"
            = Closing SYNTAX_ERROR - a value reaches over the end of its frame or table
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> frame 1 1 "\0\x3c\0\x50\0"
            S< 0 connection.close code=502 text="SYNTAX_ERROR - a value reaches over the end of its frame or table" class=60 method=80
            = Closing SYNTAX_ERROR - a value reaches over the end of its frame or table
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> frame 1 1 "\0\x55\0\x0a\0more"
            S< 0 connection.close code=502 text="SYNTAX_ERROR - bytes are left over behind the last value" class=85 method=10
            = Closing SYNTAX_ERROR - bytes are left over behind the last value
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 queue.declare queue="\xff\xfe"
            S< 0 connection.close code=502 text="SYNTAX_ERROR - a name is not UTF-8" class=50 method=10
            = Closing SYNTAX_ERROR - a name is not UTF-8
        "#]],
    );
}

#[test]
fn headers_that_are_none() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=1 flags=1 content-type="more flags follow"
            S< 0 connection.close code=502 text="SYNTAX_ERROR - unknown property flags" class=60 method=40
            = Closing SYNTAX_ERROR - unknown property flags
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=1 flags=32768
            S< 0 connection.close code=502 text="SYNTAX_ERROR - a value reaches over the end of its frame or table" class=60 method=40
            = Closing SYNTAX_ERROR - a value reaches over the end of its frame or table
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=1 headers={bad=z:5}
            S< 0 connection.close code=502 text="SYNTAX_ERROR - unknown field type 122" class=60 method=40
            = Closing SYNTAX_ERROR - unknown field type 122
        "#]],
    );
}

/// The content of the outermost of `depth` tables, each the only field of the one around it.
fn nested(depth: u32) -> Vec<u8> {
    let field = |inside: u32| [&[1, b'n', b'F'][..], &(7 * inside).to_be_bytes()].concat();
    (0..depth - 1).rev().flat_map(field).collect()
}

#[test]
fn ten_thousand_nested_tables_are_a_syntax_error() {
    use crate::script::{Runner, text};
    for (depth, fine) in [(32, true), (33, false), (10_000, false)] {
        let table = nested(depth);
        let mut declare = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
        declare.extend_from_slice(&(table.len() as u32).to_be_bytes());
        declare.extend_from_slice(&table);
        let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0];
        header.extend_from_slice(&(table.len() as u32).to_be_bytes());
        header.extend_from_slice(&table);
        let publish = text::encode("1 basic.publish routing-key=\"q\"");
        for input in [text::frame(1, 1, &declare), [publish, text::frame(2, 1, &header)].concat()] {
            let mut runner = Runner::new();
            for line in channel().lines().filter_map(|l| l.strip_prefix("C> ")) {
                runner.input(&text::encode(line));
            }
            runner.input(&input);
            let error = "code=502 text=\"SYNTAX_ERROR - tables are nested deeper than 32 levels\"";
            let refused = runner.transcript.iter().any(|l| l.contains(error));
            assert_eq!(refused, !fine, "{depth}: {:#?}", runner.transcript);
        }
    }
}
