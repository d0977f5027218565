//! Acks, nacks, rejects and recovery.

use crate::script::{Runner, channel, check_after, text};
use expect_test::expect;
use model::Now;
use model::limits::UNSETTLED_PER_CHANNEL_MAX;
use protocol::{Connection as _, Event, Outgoing};

fn five_deliveries() -> String {
    let mut script = channel();
    script.push_str("C> 1 basic.consume queue=\"q\" tag=\"t\"\n");
    for n in 1..=5 {
        script.push_str(&format!("E> deliver 1 0 \"\" \"k\" \"{n}\"\n"));
    }
    script
}

#[test]
fn runs_of_the_same_kind_are_one_request() {
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=3
            C> 1 basic.nack delivery=2 requeue=1
            C> 1 basic.reject delivery=4
            C> 1 basic.nack delivery=5
            B< 1 Ack [1, 3]
            B< 1 Requeue [2]
            B< 1 Reject [4, 5]
        "#]],
    );
}

#[test]
fn multiple() {
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.ack delivery=2
            C> 1 basic.ack delivery=3 multiple=1
            C> 1 basic.nack multiple=1 requeue=1
            C> 1 basic.ack multiple=1
            B< 1 Ack [2, 1, 3]
            B< 1 Requeue [4, 5]
        "#]],
    );
}

#[test]
fn unknown_tags() {
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=2
            B< 1 Ack [1]
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 1" class=60 method=80
            B< CloseChannel(ChannelId(1))
            C> 1 channel.close-ok
        "#]],
    );
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.nack delivery=6 multiple=1
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 6" class=60 method=120
            B< CloseChannel(ChannelId(1))
        "#]],
    );
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.reject delivery=0
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 0" class=60 method=90
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn recovering() {
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.recover requeue=1
            C> 1 basic.ack delivery=1
            B< Recover(ChannelId(1))
            S< 1 basic.recover-ok
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 1" class=60 method=80
            B< CloseChannel(ChannelId(1))
        "#]],
    );
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.recover-async requeue=1
            B< Recover(ChannelId(1))
            E> redeliver 1 0 "" "k" "1"
            S< 1 basic.deliver tag="t" delivery=6 redelivered=1 routing-key="k"
            S< 1 header size=1 delivery-mode=2
            S< 1 body "1"
            C> 1 basic.ack delivery=6
            C> 1 basic.recover
            B< 1 Ack [6]
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - requeue=false" class=60 method=110
            = Closing NOT_IMPLEMENTED - requeue=false
        "#]],
    );
    check_after(
        &five_deliveries(),
        &expect![[r#"
            C> 1 basic.recover-async
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - requeue=false" class=60 method=100
            = Closing NOT_IMPLEMENTED - requeue=false
        "#]],
    );
}

#[test]
fn nothing_is_kept_of_deliveries_without_ack() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.consume queue="q" tag="t" no-ack=1
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(0), tag: "t", no_ack: true, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="t"
            E> deliver 1 0 "" "k" "1"
            S< 1 basic.deliver tag="t" delivery=1 routing-key="k"
            S< 1 header size=1 delivery-mode=2
            S< 1 body "1"
            C> 1 basic.ack delivery=1
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 1" class=60 method=80
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn a_client_that_settles_nothing_loses_its_channel() {
    let mut runner = Runner::new();
    for line in five_deliveries().lines().filter_map(|l| l.strip_prefix("C> ")) {
        runner.input(&text::encode(line));
    }
    let Event::Deliver { channel, consumer, receipt, message, .. } = runner.broker.event("deliver 1 0 \"\" \"k\" \"\"")
    else {
        panic!("a delivery")
    };
    for n in 1..=UNSETTLED_PER_CHANNEL_MAX {
        let event = Event::Deliver { channel, consumer, receipt, message: message.clone(), redelivered: false };
        runner.connection.handle_event(event, Now::default(), &mut runner.out);
        if n % 10_000 == 0 {
            runner.out = Outgoing::new();
        }
    }
    let event = runner.broker.event("deliver 1 0 \"\" \"k\" \"\"");
    runner.transcript.clear();
    runner.event(event);
    let close = "S< 1 channel.close code=406 text=\"PRECONDITION_FAILED - more than 1000000 unsettled deliveries\"";
    assert!(runner.transcript.contains(&close.to_owned()), "{:#?}", runner.transcript);
    assert!(runner.transcript.contains(&"B< CloseChannel(ChannelId(1))".to_owned()));
}
