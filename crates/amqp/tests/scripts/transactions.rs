//! Transactions (class tx).

use crate::script::{Runner, channel, check_after, text};
use expect_test::expect;
use model::Now;
use model::limits::TX_SETTLES_MAX;
use protocol::{Connection as _, Event, Outgoing};

/// A transactional channel with five deliveries.
fn transactional() -> String {
    let mut script = channel();
    script.push_str("C> 1 basic.consume queue=\"q\" tag=\"t\"\nC> 1 tx.select\n");
    for n in 1..=5 {
        script.push_str(&format!("E> deliver 1 0 \"\" \"k\" \"{n}\"\n"));
    }
    script
}

#[test]
fn a_commit_hands_over_what_was_settled_and_publishes_go_at_once() {
    check_after(
        &transactional(),
        &expect![[r#"
            C> 1 basic.publish routing-key="q"
            C> 1 header size=0
            C> 1 basic.ack delivery=2 multiple=1
            C> 1 basic.ack delivery=4
            C> 1 basic.reject delivery=3
            C> 1 basic.nack delivery=5 requeue=1
            C> 1 tx.commit
            C> 1 tx.commit
            B< 1 Publish "" "q" 0 bytes
            B< Tx(ChannelId(1), Commit([Settle { channel: ChannelId(1), settlement: Ack, receipts: [Receipt { queue: QueueId(1), seq: Seq(1), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(2), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(4), consumer: Some(ConsumerId(0)) }] }, Settle { channel: ChannelId(1), settlement: Reject, receipts: [Receipt { queue: QueueId(1), seq: Seq(3), consumer: Some(ConsumerId(0)) }] }, Settle { channel: ChannelId(1), settlement: Requeue, receipts: [Receipt { queue: QueueId(1), seq: Seq(5), consumer: Some(ConsumerId(0)) }] }]))
            S< 1 tx.commit-ok
            B< Tx(ChannelId(1), Commit([]))
            S< 1 tx.commit-ok
        "#]],
    );
}

#[test]
fn a_rollback_makes_what_was_settled_unsettled_again() {
    check_after(
        &transactional(),
        &expect![[r#"
            C> 1 basic.ack delivery=4
            C> 1 basic.ack delivery=2 multiple=1
            C> 1 basic.reject delivery=5
            C> 1 tx.rollback
            C> 1 basic.ack delivery=4 multiple=1
            C> 1 tx.commit
            B< Tx(ChannelId(1), Rollback)
            S< 1 tx.rollback-ok
            B< Tx(ChannelId(1), Commit([Settle { channel: ChannelId(1), settlement: Ack, receipts: [Receipt { queue: QueueId(1), seq: Seq(1), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(2), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(3), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(4), consumer: Some(ConsumerId(0)) }] }]))
            S< 1 tx.commit-ok
        "#]],
    );
}

#[test]
fn what_is_settled_in_a_transaction_cannot_be_settled_again() {
    check_after(
        &transactional(),
        &expect![[r#"
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=1
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 1" class=60 method=80
            B< CloseChannel(ChannelId(1))
        "#]],
    );
    check_after(
        &transactional(),
        &expect![[r#"
            C> 1 basic.ack multiple=1
            C> 1 basic.nack delivery=5 multiple=1
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 5" class=60 method=120
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn recover_requeues_at_once_and_leaves_the_transaction_alone() {
    check_after(
        &transactional(),
        &expect![[r#"
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=3
            C> 1 basic.recover requeue=1
            C> 1 tx.commit
            C> 1 basic.recover requeue=1
            B< 1 Requeue [2, 4, 5]
            S< 1 basic.recover-ok
            B< Tx(ChannelId(1), Commit([Settle { channel: ChannelId(1), settlement: Ack, receipts: [Receipt { queue: QueueId(1), seq: Seq(1), consumer: Some(ConsumerId(0)) }, Receipt { queue: QueueId(1), seq: Seq(3), consumer: Some(ConsumerId(0)) }] }]))
            S< 1 tx.commit-ok
            S< 1 basic.recover-ok
        "#]],
    );
}

#[test]
fn a_channel_that_is_not_transactional() {
    for method in ["tx.commit", "tx.rollback"] {
        let transcript = crate::script::run(&format!("{}C> 1 {method}", channel()), false);
        let closed = "S< 1 channel.close code=406 text=\"PRECONDITION_FAILED - channel is not transactional\" class=90";
        assert!(transcript.iter().any(|line| line.starts_with(closed)), "{transcript:#?}");
    }
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 confirm.select
            C> 1 tx.select
            S< 1 confirm.select-ok
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - cannot switch from confirm to tx mode" class=90 method=10
            B< CloseChannel(ChannelId(1))
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 tx.select
            C> 1 tx.select
            C> 1 confirm.select
            B< Tx(ChannelId(1), Select)
            S< 1 tx.select-ok
            B< Tx(ChannelId(1), Select)
            S< 1 tx.select-ok
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - cannot switch from tx to confirm mode" class=85 method=10
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn a_commit_that_is_refused_closes_the_channel() {
    check_after(
        &transactional(),
        &expect![[r#"
            R> refuse PreconditionFailed "too much"
            C> 1 basic.ack delivery=1
            C> 1 tx.commit
            B< Tx(ChannelId(1), Commit([Settle { channel: ChannelId(1), settlement: Ack, receipts: [Receipt { queue: QueueId(1), seq: Seq(1), consumer: Some(ConsumerId(0)) }] }]))
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - too much" class=90 method=20
            B< CloseChannel(ChannelId(1))
            C> 1 channel.close-ok
            C> 1 channel.open
            C> 1 tx.commit
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - channel is not transactional" class=90 method=20
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn a_transaction_settles_so_many_deliveries_and_no_more() {
    for (count, closed) in [(TX_SETTLES_MAX, false), (TX_SETTLES_MAX + 1, true)] {
        let mut runner = Runner::new();
        for line in transactional().lines().filter_map(|line| line.strip_prefix("C> ")) {
            runner.input(&text::encode(line));
        }
        let Event::Deliver { channel, consumer, receipt, message, .. } =
            runner.broker.event("deliver 1 0 \"\" \"k\" \"\"")
        else {
            panic!("a delivery")
        };
        for _ in 0..count {
            let event = Event::Deliver { channel, consumer, receipt, message: message.clone(), redelivered: false };
            runner.connection.handle_event(event, Now::default(), &mut runner.out);
        }
        runner.out = Outgoing::new();
        runner.transcript.clear();
        runner.input(&text::encode("1 basic.ack multiple=1"));
        let close = "S< 1 channel.close code=406 text=\"PRECONDITION_FAILED - more than 65536 deliveries settled in one \
                     transaction\" class=60 method=80";
        assert_eq!(runner.transcript.contains(&close.to_owned()), closed, "{:#?}", runner.transcript);
    }
}
