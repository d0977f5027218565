//! Channels, exchanges, queues and consumers.

use crate::script::{OPEN, channel, check_after};
use expect_test::expect;

#[test]
fn channels_open_and_close() {
    check_after(
        OPEN,
        &expect![[r#"
            C> 1 channel.open
            C> 2 channel.open
            C> 2 channel.flow active=1
            C> 2 access.request realm="/data"
            C> 1 channel.close code=200
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
            B< OpenChannel(ChannelId(2))
            S< 2 channel.open-ok
            S< 2 channel.flow-ok active=1
            S< 2 access.request-ok ticket=1
            B< CloseChannel(ChannelId(1))
            S< 1 channel.close-ok
            C> 1 channel.open
            C> 2 channel.close
            C> 2 channel.close-ok
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
            B< CloseChannel(ChannelId(2))
            S< 2 channel.close-ok
        "#]],
    );
}

#[test]
fn channel_mistakes_end_the_connection() {
    check_after(
        OPEN,
        &expect![[r#"
            C> 1 basic.qos prefetch=1
            S< 0 connection.close code=504 text="CHANNEL_ERROR - expected \'channel.open\'" class=60 method=10
            = Closing CHANNEL_ERROR - expected 'channel.open'
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 channel.open
            S< 0 connection.close code=504 text="CHANNEL_ERROR - second \'channel.open\' seen" class=20 method=10
            = Closing CHANNEL_ERROR - second 'channel.open' seen
        "#]],
    );
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 channel.flow
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - active=false" class=20 method=20
            = Closing NOT_IMPLEMENTED - active=false
        "#]],
    );
}

#[test]
fn no_more_channels_than_agreed() {
    check_after(
        r#"
C> raw "AMQP\0\0\x09\x01"

C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"

C> 0 connection.tune-ok channel-max=2 frame-max=131072
C> 0 connection.open vhost="/"
--
"#,
        &expect![[r#"
            C> 1 channel.open
            C> 65535 channel.open
            C> 7 channel.open
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
            B< OpenChannel(ChannelId(65535))
            S< 65535 channel.open-ok
            S< 0 connection.close code=530 text="NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"
            = Closing NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)
        "#]],
    );
}

#[test]
fn exchanges() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 exchange.declare exchange="logs\r\n" type="fanout" durable=1 arguments={alternate-exchange="rest"}
            C> 1 exchange.declare exchange="logs" passive=1
            C> 1 exchange.declare exchange="deep" type="topic" auto-delete=1 internal=1 nowait=1
            C> 1 exchange.bind destination="logs" source="amq.topic" routing-key="a.#" arguments={n=1}
            C> 1 exchange.bind destination="logs" source="amq.topic" routing-key="b" nowait=1
            C> 1 exchange.unbind destination="logs" source="amq.topic" routing-key="a.#"
            C> 1 exchange.unbind destination="logs" source="amq.topic" routing-key="a.#" nowait=1
            C> 1 exchange.delete exchange="logs" if-unused=1
            C> 1 exchange.delete exchange="deep" nowait=1
            B< 1 ExchangeDeclaration { exchange: "logs", kind: "fanout", passive: false, durable: true, auto_delete: false, internal: false, arguments: Table([("alternate-exchange", Text(b"rest"))]) }
            S< 1 exchange.declare-ok
            B< 1 ExchangeDeclaration { exchange: "logs", kind: "", passive: true, durable: false, auto_delete: false, internal: false, arguments: Table([]) }
            S< 1 exchange.declare-ok
            B< 1 ExchangeDeclaration { exchange: "deep", kind: "topic", passive: false, durable: false, auto_delete: true, internal: true, arguments: Table([]) }
            B< 1 Bind "amq.topic" "a.#" exchange "logs" 1 arguments
            S< 1 exchange.bind-ok
            B< 1 Bind "amq.topic" "b" exchange "logs" 0 arguments
            B< 1 Unbind "amq.topic" "a.#" exchange "logs" 0 arguments
            S< 1 exchange.unbind-ok
            B< 1 Unbind "amq.topic" "a.#" exchange "logs" 0 arguments
            B< DeleteExchange { channel: ChannelId(1), exchange: "logs", if_unused: true }
            S< 1 exchange.delete-ok
            B< DeleteExchange { channel: ChannelId(1), exchange: "deep", if_unused: false }
        "#]],
    );
}

#[test]
fn queues() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 queue.declare queue="tasks" durable=1 arguments={x-max-priority=10, x-message-ttl=l:60000}
            C> 1 queue.declare queue="tasks" passive=1
            C> 1 queue.declare queue="mine" exclusive=1 auto-delete=1 nowait=1
            C> 1 queue.bind queue="tasks" exchange="logs" routing-key="k" arguments={x-match="all", flag=true}
            C> 1 queue.bind queue="tasks" exchange="logs" nowait=1
            C> 1 queue.unbind queue="tasks" exchange="logs" routing-key="k"
            C> 1 queue.purge queue="tasks"
            C> 1 queue.purge queue="tasks" nowait=1
            C> 1 queue.delete queue="tasks" if-unused=1 if-empty=1
            C> 1 queue.delete queue="tasks" nowait=1
            B< 1 QueueDeclaration { queue: "tasks", generated: None, passive: false, durable: true, exclusive: false, auto_delete: false, arguments: Table([("x-max-priority", I32(10)), ("x-message-ttl", I64(60000))]) }
            S< 1 queue.declare-ok queue="tasks" messages=5 consumers=2
            B< 1 QueueDeclaration { queue: "tasks", generated: None, passive: true, durable: false, exclusive: false, auto_delete: false, arguments: Table([]) }
            S< 1 queue.declare-ok queue="tasks" messages=5 consumers=2
            B< 1 QueueDeclaration { queue: "mine", generated: None, passive: false, durable: false, exclusive: true, auto_delete: true, arguments: Table([]) }
            B< 1 Bind "logs" "k" queue "tasks" 2 arguments
            S< 1 queue.bind-ok
            B< 1 Bind "logs" "" queue "tasks" 0 arguments
            B< 1 Unbind "logs" "k" queue "tasks" 0 arguments
            S< 1 queue.unbind-ok
            B< PurgeQueue { channel: ChannelId(1), queue: "tasks" }
            S< 1 queue.purge-ok messages=4
            B< PurgeQueue { channel: ChannelId(1), queue: "tasks" }
            B< DeleteQueue { channel: ChannelId(1), queue: "tasks", if_unused: true, if_empty: true }
            S< 1 queue.delete-ok messages=3
            B< DeleteQueue { channel: ChannelId(1), queue: "tasks", if_unused: false, if_empty: false }
        "#]],
    );
}

#[test]
fn an_empty_queue_name_is_the_one_declared_last() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 queue.declare exclusive=1
            C> 1 queue.bind exchange="logs"
            C> 1 queue.bind exchange="logs" routing-key="k"
            C> 1 basic.consume tag="t"
            C> 1 basic.get
            C> 1 queue.purge
            C> 1 queue.unbind exchange="logs"
            C> 1 queue.delete
            C> 2 channel.open
            C> 2 queue.purge
            C> 1 queue.declare queue="other"
            B< 1 QueueDeclaration { queue: "", generated: Some("amq.gen-nxujlFajr7bwcJQis3iCRC"), passive: false, durable: false, exclusive: true, auto_delete: false, arguments: Table([]) }
            S< 1 queue.declare-ok queue="amq.gen-nxujlFajr7bwcJQis3iCRC" messages=5 consumers=2
            B< 1 Bind "logs" "amq.gen-nxujlFajr7bwcJQis3iCRC" queue "amq.gen-nxujlFajr7bwcJQis3iCRC" 0 arguments
            S< 1 queue.bind-ok
            B< 1 Bind "logs" "k" queue "amq.gen-nxujlFajr7bwcJQis3iCRC" 0 arguments
            S< 1 queue.bind-ok
            B< 1 ConsumeRequest { queue: "amq.gen-nxujlFajr7bwcJQis3iCRC", consumer: ConsumerId(0), tag: "t", no_ack: false, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="t"
            B< Get { channel: ChannelId(1), queue: "amq.gen-nxujlFajr7bwcJQis3iCRC", no_ack: false }
            S< 1 basic.get-empty
            B< PurgeQueue { channel: ChannelId(1), queue: "amq.gen-nxujlFajr7bwcJQis3iCRC" }
            S< 1 queue.purge-ok messages=4
            B< 1 Unbind "logs" "amq.gen-nxujlFajr7bwcJQis3iCRC" queue "amq.gen-nxujlFajr7bwcJQis3iCRC" 0 arguments
            S< 1 queue.unbind-ok
            B< DeleteQueue { channel: ChannelId(1), queue: "amq.gen-nxujlFajr7bwcJQis3iCRC", if_unused: false, if_empty: false }
            S< 1 queue.delete-ok messages=3
            B< OpenChannel(ChannelId(2))
            S< 2 channel.open-ok
            S< 2 channel.close code=404 text="NOT_FOUND - no previously declared queue" class=50 method=30
            B< CloseChannel(ChannelId(2))
            B< 1 QueueDeclaration { queue: "other", generated: None, passive: false, durable: false, exclusive: false, auto_delete: false, arguments: Table([]) }
            S< 1 queue.declare-ok queue="other" messages=5 consumers=2
            C> 2 channel.close-ok
        "#]],
    );
}

#[test]
fn qos() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.qos prefetch=10
            C> 1 basic.qos prefetch=100 global=1
            C> 1 basic.qos prefetch-size=4096
            B< Qos { channel: ChannelId(1), prefetch: 10, global: false }
            S< 1 basic.qos-ok
            B< Qos { channel: ChannelId(1), prefetch: 100, global: true }
            S< 1 basic.qos-ok
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - prefetch_size!=0 (4096)" class=60 method=10
            = Closing NOT_IMPLEMENTED - prefetch_size!=0 (4096)
        "#]],
    );
}

#[test]
fn consumers_start_and_end() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.consume queue="q" tag="mine" exclusive=1 arguments={x-priority=5}
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(0), tag: "mine", no_ack: false, exclusive: true, arguments: Table([("x-priority", I32(5))]) }
            S< 1 basic.consume-ok tag="mine"
            E> deliver 1 0 "ex" "key" "hello"
            S< 1 basic.deliver tag="mine" delivery=1 exchange="ex" routing-key="key"
            S< 1 header size=5 delivery-mode=2
            S< 1 body "hello"
            E> redeliver 1 0 "" "key" ""
            S< 1 basic.deliver tag="mine" delivery=2 redelivered=1 routing-key="key"
            S< 1 header size=0 delivery-mode=2
            C> 1 basic.consume queue="q" no-ack=1
            C> 1 basic.consume queue="q" tag="quiet" nowait=1
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(1), tag: "amq.ctag-nxujlFajr7bwcJQis3iCRC", no_ack: true, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="amq.ctag-nxujlFajr7bwcJQis3iCRC"
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(2), tag: "quiet", no_ack: false, exclusive: false, arguments: Table([]) }
            E> deliver 1 1 "" "key" "unacknowledged"
            S< 1 basic.deliver tag="amq.ctag-nxujlFajr7bwcJQis3iCRC" delivery=3 routing-key="key"
            S< 1 header size=14 delivery-mode=2
            S< 1 body "unacknowledged"
            C> 1 basic.cancel tag="mine"
            B< Cancel { channel: ChannelId(1), consumer: ConsumerId(0) }
            S< 1 basic.cancel-ok tag="mine"
            E> deliver 1 0 "" "key" "too late"
            C> 1 basic.consume queue="q" tag="mine"
            C> 1 basic.cancel tag="quiet" nowait=1
            C> 1 basic.cancel tag="never heard of"
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(3), tag: "mine", no_ack: false, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="mine"
            B< Cancel { channel: ChannelId(1), consumer: ConsumerId(2) }
            S< 1 basic.cancel-ok tag="never heard of"
            E> lost 1 3
            S< 1 basic.cancel tag="mine" nowait=1
            E> lost 1 3
            C> 1 basic.consume queue="q" tag="mine"
            C> 1 basic.consume queue="q" tag="mine"
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(4), tag: "mine", no_ack: false, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="mine"
            S< 0 connection.close code=530 text="NOT_ALLOWED - attempt to reuse consumer tag \'mine\'" class=60 method=20
            = Closing NOT_ALLOWED - attempt to reuse consumer tag 'mine'
        "#]],
    );
}

#[test]
fn a_delivery_that_was_on_its_way_when_its_consumer_was_cancelled_still_arrives() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.consume queue="q" tag="mine"
            B< 1 ConsumeRequest { queue: "q", consumer: ConsumerId(0), tag: "mine", no_ack: false, exclusive: false, arguments: Table([]) }
            S< 1 basic.consume-ok tag="mine"
            R> hold
            C> 1 basic.cancel tag="mine"
            B< Cancel { channel: ChannelId(1), consumer: ConsumerId(0) }
            E> deliver 1 0 "" "key" "in time"
            S< 1 basic.deliver tag="mine" delivery=1 routing-key="key"
            S< 1 header size=7 delivery-mode=2
            S< 1 body "in time"
            R> release
            S< 1 basic.cancel-ok tag="mine"
            C> 1 basic.ack delivery=1
            B< 1 Ack [1]
        "#]],
    );
}

#[test]
fn those_who_do_not_understand_a_cancel_do_not_get_one() {
    check_after(
        r#"
C> raw "AMQP\0\0\x09\x01"

C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"

C> 0 connection.tune-ok channel-max=2 frame-max=131072
C> 0 connection.open vhost="/"
        --
C> 1 channel.open
C> 1 basic.consume queue="q" tag="t"
--
"#,
        &expect![[r#"
            E> lost 1 0
            E> blocked
            C> 1 basic.cancel tag="t"
            S< 1 basic.cancel-ok tag="t"
        "#]],
    );
}

#[test]
fn getting() {
    check_after(
        &channel(),
        &expect![[r#"
            C> 1 basic.get queue="q"
            B< Get { channel: ChannelId(1), queue: "q", no_ack: false }
            S< 1 basic.get-empty
            R> got "ex" "key" "hello"
            C> 1 basic.get queue="q"
            B< Get { channel: ChannelId(1), queue: "q", no_ack: false }
            S< 1 basic.get-ok delivery=1 exchange="ex" routing-key="key" messages=7
            S< 1 header size=5 delivery-mode=2
            S< 1 body "hello"
            R> got "" "key" "for free"
            C> 1 basic.get queue="q" no-ack=1
            C> 1 basic.ack delivery=1
            C> 1 basic.ack delivery=2
            B< Get { channel: ChannelId(1), queue: "q", no_ack: true }
            S< 1 basic.get-ok delivery=2 routing-key="key" messages=7
            S< 1 header size=8 delivery-mode=2
            S< 1 body "for free"
            B< 1 Ack [1]
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 2" class=60 method=80
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}

#[test]
fn answers_wait_for_the_requests_before_them() {
    check_after(
        &channel(),
        &expect![[r#"
            R> hold
            C> 1 queue.declare queue="slow"
            C> 1 channel.flow active=1
            C> 1 confirm.select
            C> 1 basic.publish routing-key="q"
            C> 1 header size=0
            C> 1 basic.ack delivery=9
            B< 1 QueueDeclaration { queue: "slow", generated: None, passive: false, durable: false, exclusive: false, auto_delete: false, arguments: Table([]) }
            R> release
            S< 1 queue.declare-ok queue="slow" messages=5 consumers=2
            S< 1 channel.flow-ok active=1
            S< 1 confirm.select-ok
            B< 1 Publish "" "q" 0 bytes confirm=1
            S< 1 channel.close code=406 text="PRECONDITION_FAILED - unknown delivery tag 9" class=60 method=80
            B< CloseChannel(ChannelId(1))
        "#]],
    );
}
