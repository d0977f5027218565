//! Publishing: contents, confirms and returns.

use crate::script::{channel, check_after};
use expect_test::expect;

#[test]
fn publishing() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish exchange="ex" routing-key="key" mandatory=1
            C> 1 header size=11 content-type="text/plain" headers={a=1} delivery-mode=2 priority=4 correlation-id="c" reply-to="r" expiration="60000" message-id="m" timestamp=1700000000 type="t" app-id="a" cluster-id="x"
            C> 1 body "hello "
            C> heartbeat
            C> 1 body "world"
            C> 1 basic.publish routing-key="empty"
            C> 1 header size=0 headers={}
            C> 1 basic.publish routing-key="claimed"
            C> 1 header size=1 user-id="guest"
            C> 1 body "x"
            B< 1 Publish "ex" "key" 11 bytes persistent priority=4 ttl_ms=60000 headers mandatory
            B< 1 Publish "" "empty" 0 bytes
            B< 1 Publish "" "claimed" 1 bytes user=guest
        "#]],
    );
}

#[test]
fn contents_of_two_channels_interleave() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 2 channel.open
            C> 1 basic.publish routing-key="one"
            C> 2 basic.publish routing-key="two"
            C> 2 header size=3
            C> 1 header size=3
            C> 1 body "on"
            C> 2 body "two"
            C> 1 body "e"
            B< OpenChannel(ChannelId(2))
            S< 2 channel.open-ok
            B< 2 Publish "" "two" 3 bytes
            B< 1 Publish "" "one" 3 bytes
        "#]],
    );
}

#[test]
fn confirms() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 confirm.select
            C> 1 basic.publish routing-key="q"
            C> 1 header size=0
            C> 1 confirm.select nowait=1
            C> 1 basic.publish routing-key="q"
            C> 1 header size=0
            C> 1 basic.publish routing-key="q"
            C> 1 header size=0
            C> 1 basic.publish routing-key="q" mandatory=1
            C> 1 header size=0
            S< 1 confirm.select-ok
            B< 1 Publish "" "q" 0 bytes confirm=1
            B< 1 Publish "" "q" 0 bytes confirm=2
            B< 1 Publish "" "q" 0 bytes confirm=3
            B< 1 Publish "" "q" 0 bytes mandatory confirm=4
            E> confirmed 1 1 1
            S< 1 basic.ack delivery=1
            E> confirmed 1 2 3
            S< 1 basic.ack delivery=3 multiple=1
            E> returned 1 "" "q" "nobody wanted this"
            S< 1 basic.return code=312 text="NO_ROUTE" routing-key="q"
            S< 1 header size=18 delivery-mode=2
            S< 1 body "nobody wanted this"
            E> denied 1 4 4
            S< 1 basic.nack delivery=4
            C> 1 channel.close
            B< CloseChannel(ChannelId(1))
            S< 1 channel.close-ok
            E> confirmed 1 5 5
        "#]],
    );
}

#[test]
fn more_keys() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="a"
            C> 1 header size=0 headers={CC=["b", 5, "c"], x="kept", BCC=["d"]} delivery-mode=2
            C> 1 basic.publish routing-key="a"
            C> 1 header size=0 headers={CC="b"}
            B< 1 Publish "" "a" 0 bytes persistent headers keys=["b", "c", "d"]
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}" class=60 method=40
            B< CloseChannel(ChannelId(1))
            C> 1 channel.close-ok
        "#]],
    );
}

#[test]
fn a_large_body_is_delivered_in_frames_as_tuned() {
    check_after(
        r#"
C> raw "AMQP\0\0\x09\x01"

C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"

C> 0 connection.tune-ok channel-max=2047 frame-max=8192
C> 0 connection.open vhost="/"
        --
C> 1 channel.open
C> 1 basic.consume queue="q" tag="t"
--
"#,
        &expect![[r#"
            E> deliver 1 0 "" "k" "x\*20000"
            S< 1 basic.deliver tag="t" delivery=1 routing-key="k"
            S< 1 header size=20000 delivery-mode=2
            S< 1 body of 8184 bytes
            S< 1 body of 8184 bytes
            S< 1 body of 3632 bytes
            E> deliver 1 0 "" "k" "x\*8184"
            S< 1 basic.deliver tag="t" delivery=2 routing-key="k"
            S< 1 header size=8184 delivery-mode=2
            S< 1 body of 8184 bytes
            E> deliver 1 0 "" "k" "x\*8185"
            S< 1 basic.deliver tag="t" delivery=3 routing-key="k"
            S< 1 header size=8185 delivery-mode=2
            S< 1 body of 8184 bytes
            S< 1 body "x"
        "#]],
    );
}

#[test]
fn expirations_that_are_none() {
    for (expiration, why) in [
        ("abc", "no_integer"),
        ("", "no_integer"),
        ("12a", "{leftover_string,\"a\"}"),
        ("-1", "{value_negative,-1}"),
        ("4294967296", "{value_too_large,4294967296}"),
        ("99999999999999999999999", "{value_too_large,99999999999999999999999}"),
    ] {
        let script = format!(
            "{}\nC> 1 basic.publish routing-key=\"q\"\nC> 1 header size=0 expiration=\"{expiration}\"",
            channel()
        );
        let text = format!("text=\"PRECONDITION_FAILED - invalid expiration '{expiration}': {why}\"")
            .replace("{leftover_string,\"a\"}", "{leftover_string,\\\"a\\\"}")
            .replace('\'', "\\'");
        let transcript = crate::script::run(&script, false);
        let close = transcript.iter().find(|l| l.contains("channel.close ")).unwrap();
        assert!(close.contains(&text), "{close} should contain {text}");
        assert!(close.contains("code=406") && close.contains("class=60 method=40"));
    }
}

#[test]
fn content_frames_out_of_turn() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 header size=0
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected method frame, got non method frame instead"
            = Closing UNEXPECTED_FRAME - expected method frame, got non method frame instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 body "x"
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected method frame, got non method frame instead"
            = Closing UNEXPECTED_FRAME - expected method frame, got non method frame instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 basic.publish routing-key="q"
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead" class=60 method=40
            = Closing UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 body "x"
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead" class=60 method=40
            = Closing UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=5
            C> 1 header size=5
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected content body, got non content body frame instead" class=60 method=40
            = Closing UNEXPECTED_FRAME - expected content body, got non content body frame instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=2
            C> 1 body "xyz"
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - content body is longer than its header said" class=60 method=40
            = Closing UNEXPECTED_FRAME - content body is longer than its header said
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header class=50 size=2
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead" class=60 method=40
            = Closing UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 0 header size=2
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,2,0,0>>"
            = Closing UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,2,0,0>>
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 9 body "x"
            S< 0 connection.close code=505 text="UNEXPECTED_FRAME - expected method frame, got non method frame instead"
            = Closing UNEXPECTED_FRAME - expected method frame, got non method frame instead
        "#]],
    );
}

#[test]
fn messages_that_are_too_big() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=134217729
            C> 1 body "ignored"
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728" class=60 method=40
            B< CloseChannel(ChannelId(1))
            C> 1 channel.close-ok
            C> 1 channel.open
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
        "#]],
    );
}
