//! Bodies that are too large for memory, in and out.

use crate::script::{channel, check_after};
use expect_test::{Expect, expect};

/// Bodies of 20 bytes and more are large.
fn check(script: &Expect) {
    check_after(&format!("L> 20\n{}", channel()), script);
}

/// A consumer on channel 1, and a channel 2.
fn check_consuming(script: &Expect) {
    let more = "C> 1 basic.consume queue=\"q\" tag=\"c\"\n--\nC> 2 channel.open\n--\n";
    check_after(&format!("L> 20\n{}{more}", channel()), script);
}

#[test]
fn a_large_body_is_handed_on_as_it_comes() {
    check(&expect![[r#"
        C> 1 confirm.select
        C> 1 basic.publish routing-key="large" mandatory=1
        C> 1 header size=20 delivery-mode=2
        C> 1 body "0123456789"
        C> 1 body "abcdefghij"
        C> 1 basic.publish routing-key="small"
        C> 1 header size=19
        C> 1 body "0123456789abcdefghi"
        S< 1 confirm.select-ok
        B< 1 BeginBody 20 bytes
        B< 1 AppendBody "0123456789abcdefghij"
        B< 1 PublishLarge "large"
        B< 1 Publish "" "small" 19 bytes confirm=2
    "#]]);
}

#[test]
fn one_of_another_channel_goes_in_between() {
    check(&expect![[r#"
        C> 2 channel.open
        C> 1 basic.publish routing-key="large"
        C> 1 header size=20
        C> 1 body "0123456789"
        C> 2 basic.publish routing-key="small"
        C> 2 header size=1
        C> 2 body "x"
        C> 1 body "abcdefghij"
        B< OpenChannel(ChannelId(2))
        S< 2 channel.open-ok
        B< 1 BeginBody 20 bytes
        B< 2 Publish "" "small" 1 bytes
        B< 1 AppendBody "0123456789abcdefghij"
        B< 1 PublishLarge "large"
    "#]]);
}

#[test]
fn what_does_not_fit_beside_others_counts_as_large() {
    check_after(
        &format!("L> 100000000\n{}", channel()),
        &expect![[r#"
            C> 2 channel.open
            C> 1 basic.publish routing-key="fits"
            C> 1 header size=16777216
            C> 2 basic.publish routing-key="does not"
            C> 2 header size=1
            C> 2 body "x"
            B< OpenChannel(ChannelId(2))
            S< 2 channel.open-ok
            B< 2 BeginBody 1 bytes
            B< 2 AppendBody "x"
            B< 2 PublishLarge "does not"
        "#]],
    );
}

#[test]
fn a_body_longer_than_it_was_said_to_be() {
    check(&expect![[r#"
        C> 1 basic.publish routing-key="large"
        C> 1 header size=20
        C> 1 body "0123456789"
        C> 1 body "0123456789x"
        B< 1 BeginBody 20 bytes
        S< 0 connection.close code=505 text="UNEXPECTED_FRAME - content body is longer than its header said" class=60 method=40
        = Closing UNEXPECTED_FRAME - content body is longer than its header said
    "#]]);
}

#[test]
fn a_body_that_is_refused_ends_the_connection() {
    check(&expect![[r#"
        R> refuse InternalError "the disk is gone"
        C> 1 basic.publish routing-key="large"
        C> 1 header size=20
        C> 1 body "0123456789"
        B< 1 BeginBody 20 bytes
        S< 0 connection.close code=541 text="INTERNAL_ERROR - the disk is gone" class=60 method=40
        = Closing INTERNAL_ERROR - the disk is gone
    "#]]);
}

#[test]
fn a_large_body_goes_piece_by_piece_and_its_channel_waits() {
    check_consuming(&expect![[r#"
        E> deliver-large 1 0 "ex" "key" 20
        S< 1 basic.deliver tag="c" delivery=1 exchange="ex" routing-key="key"
        S< 1 header size=20 delivery-mode=2
        B< ReadBody at 0
        C> 1 basic.qos prefetch=1
        C> 2 basic.qos prefetch=1
        B< Qos { channel: ChannelId(1), prefetch: 1, global: false }
        B< Qos { channel: ChannelId(2), prefetch: 1, global: false }
        S< 2 basic.qos-ok
        E> deliver 1 0 "ex" "key" "behind"
        E> piece "0123456789"
        S< 1 body "0123456789"
        B< ReadBody at 10
        E> confirmed 1 1 1
        E> piece "abcdefghij"
        S< 1 body "abcdefghij"
        S< 1 basic.qos-ok
        S< 1 basic.deliver tag="c" delivery=2 exchange="ex" routing-key="key"
        S< 1 header size=6 delivery-mode=2
        S< 1 body "behind"
        S< 1 basic.ack delivery=1
    "#]]);
}

#[test]
fn large_bodies_go_one_after_the_other() {
    check_consuming(&expect![[r#"
        E> deliver-large 1 0 "ex" "one" 20
        S< 1 basic.deliver tag="c" delivery=1 exchange="ex" routing-key="one"
        S< 1 header size=20 delivery-mode=2
        B< ReadBody at 0
        R> got-large "ex" "two" 21
        C> 2 basic.get queue="q"
        B< Get { channel: ChannelId(2), queue: "q", no_ack: false }
        S< 2 basic.get-ok delivery=1 exchange="ex" routing-key="two" messages=7
        S< 2 header size=21 delivery-mode=2
        E> deliver-large 1 0 "ex" "three" 22
        E> piece "01234567890123456789"
        S< 1 body "01234567890123456789"
        S< 1 basic.deliver tag="c" delivery=2 exchange="ex" routing-key="three"
        S< 1 header size=22 delivery-mode=2
        B< ReadBody at 0
        E> piece "012345678901234567890"
        S< 2 body "012345678901234567890"
        B< ReadBody at 0
        E> piece "0123456789012345678901"
        S< 1 body "0123456789012345678901"
    "#]]);
}

#[test]
fn a_channel_that_is_closed_gets_the_rest_first() {
    check_consuming(&expect![[r#"
        E> deliver-large 1 0 "ex" "key" 20
        S< 1 basic.deliver tag="c" delivery=1 exchange="ex" routing-key="key"
        S< 1 header size=20 delivery-mode=2
        B< ReadBody at 0
        C> 1 channel.close code=200
        B< CloseChannel(ChannelId(1))
        E> piece "0123456789"
        S< 1 body "0123456789"
        B< ReadBody at 10
        E> piece "abcdefghij"
        S< 1 body "abcdefghij"
        S< 1 channel.close-ok
    "#]]);
}

#[test]
fn a_damaged_body_ends_the_connection() {
    check_consuming(&expect![[r#"
        E> deliver-large 1 0 "ex" "key" 20
        S< 1 basic.deliver tag="c" delivery=1 exchange="ex" routing-key="key"
        S< 1 header size=20 delivery-mode=2
        B< ReadBody at 0
        E> piece "0123456789"
        S< 1 body "0123456789"
        B< ReadBody at 10
        E> lost-piece
        S< 0 connection.close code=541 text="INTERNAL_ERROR - the body of a message cannot be read from the disk"
        = Closing INTERNAL_ERROR - the body of a message cannot be read from the disk
        E> piece "late"
    "#]]);
}

#[test]
fn a_connection_that_is_closed_sends_nothing_more() {
    check_consuming(&expect![[r#"
        E> deliver-large 1 0 "ex" "key" 20
        S< 1 basic.deliver tag="c" delivery=1 exchange="ex" routing-key="key"
        S< 1 header size=20 delivery-mode=2
        B< ReadBody at 0
        C> 0 connection.close code=200
        S< 0 connection.close-ok
        = Closed
        E> piece "0123456789"
    "#]]);
}
