//! Every branch of the handshake, of heartbeats and of closing.

use crate::script::{OPEN, check, check_after};
use expect_test::expect;

#[test]
fn opening_and_closing() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        C> 0 connection.start-ok properties={connection_name="mine"} mechanism="PLAIN" response="\0guest\0secret"
        B< Authenticate guest secret
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        C> 0 connection.tune-ok channel-max=100 frame-max=8192
        C> 0 connection.open vhost="/"
        B< OpenVhost("/")
        S< 0 connection.open-ok
        C> 0 connection.close code=200 text="bye"
        S< 0 connection.close-ok
        = Closed
    "#]]);
}

#[test]
fn amqplain_and_0_9() {
    check(&expect![[r#"
        C> raw "AMQP\x01\x01\0\x09"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        C> 0 connection.start-ok mechanism="AMQPLAIN" response="\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret"
        B< Authenticate guest secret
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
    "#]]);
}

#[test]
fn everything_at_once() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
        C> 0 connection.tune-ok channel-max=2047 frame-max=131072 heartbeat=60
        C> 0 connection.open vhost="/"
        C> 1 channel.open
        C> 1 basic.publish routing-key="q"
        C> 1 header size=2
        C> 1 body "hi"
        C> 1 channel.close
        C> 0 connection.close
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        B< Authenticate guest guest
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        B< OpenVhost("/")
        S< 0 connection.open-ok
        B< OpenChannel(ChannelId(1))
        S< 1 channel.open-ok
        B< 1 Publish "" "q" 2 bytes
        B< CloseChannel(ChannelId(1))
        S< 1 channel.close-ok
        S< 0 connection.close-ok
        = Closed
    "#]]);
}

#[test]
fn other_protocols_are_told_which_one_this_is() {
    check(&expect![[r#"
        C> raw "AMQP\0\x01\0\0"
        S< raw "AMQP\0\0\x09\x01"
        = Closed it speaks AMQP 1.0, this is AMQP 0-9-1
    "#]]);
    check(&expect![[r#"
        C> raw "AMQP\0\0\x08\0"
        S< raw "AMQP\0\0\x09\x01"
        = Closed it speaks another version of AMQP than 0-9-1
    "#]]);
    check(&expect![[r#"
        C> raw "GET / HTTP/1.1"
        S< raw "AMQP\0\0\x09\x01"
        = Closed it speaks HTTP, this is an AMQP port
    "#]]);
    check(&expect![[r#"
        C> raw "\x16\x03\x01\x02\0\x01\0\x01\xfc"
        S< raw "AMQP\0\0\x09\x01"
        = Closed it speaks TLS, this listener does not
    "#]]);
    check(&expect![[r#"
        C> raw "\x10\x27\0\x04MQTT"
        S< raw "AMQP\0\0\x09\x01"
        = Closed it does not speak AMQP
    "#]]);
}

#[test]
fn mechanisms_and_responses_that_are_none() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="EXTERNAL"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=503 text="COMMAND_INVALID - unknown authentication mechanism \'EXTERNAL\'" class=10 method=11
        = Closing COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'
    "#]]);
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="guest"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=502 text="SYNTAX_ERROR - the response is none of mechanism PLAIN" class=10 method=11
        = Closing SYNTAX_ERROR - the response is none of mechanism PLAIN
        C> 0 connection.close-ok
        = Closed SYNTAX_ERROR - the response is none of mechanism PLAIN
    "#]]);
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="AMQPLAIN" response="\x05LOGINS\0\0\0\x05guest"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=502 text="SYNTAX_ERROR - the response is none of mechanism AMQPLAIN" class=10 method=11
        = Closing SYNTAX_ERROR - the response is none of mechanism AMQPLAIN
        T> 10
        = Closed SYNTAX_ERROR - the response is none of mechanism AMQPLAIN
    "#]]);
}

#[test]
fn a_failed_login_is_told_to_those_who_understand() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        R> refuse LoginRefused "user 'guest' - invalid credentials"
        C> 0 connection.start-ok properties={capabilities={authentication_failure_close=true}} mechanism="PLAIN" response="\0guest\0wrong"
        B< Authenticate guest wrong
        S< 0 connection.close code=403 text="ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
        = Closing login of user 'guest' refused: user 'guest' - invalid credentials
        C> 0 connection.close-ok
        = Closed login of user 'guest' refused: user 'guest' - invalid credentials
    "#]]);
}

#[test]
fn a_failed_login_is_silence_to_the_others() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        R> refuse LoginRefused "user 'guest' - invalid credentials"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0wrong"
        B< Authenticate guest wrong
        = Closing login of user 'guest' refused: user 'guest' - invalid credentials
        T> 2
        C> 0 connection.tune-ok
        T> 1
        = Closed login of user 'guest' refused: user 'guest' - invalid credentials
    "#]]);
}

#[test]
fn tuning_outside_the_servers_limits() {
    let before = r#"
C> raw "AMQP\0\0\x09\x01"

C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
--
"#;
    check_after(
        before,
        &expect![[r#"
            C> 0 connection.tune-ok channel-max=2047 frame-max=0
            S< 0 connection.close code=530 text="NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)" class=10 method=31
            = Closing NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)
        "#]],
    );
    check_after(
        before,
        &expect![[r#"
            C> 0 connection.tune-ok channel-max=2047 frame-max=4095
            S< 0 connection.close code=530 text="NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)" class=10 method=31
            = Closing NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)
            T> 1
            = Closed NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)
        "#]],
    );
    check_after(
        before,
        &expect![[r#"
            C> 0 connection.tune-ok channel-max=2047 frame-max=131073
            S< 0 connection.close code=530 text="NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)" class=10 method=31
            = Closing NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)
        "#]],
    );
    check_after(
        before,
        &expect![[r#"
            C> 0 connection.tune-ok channel-max=0 frame-max=131072
            S< 0 connection.close code=530 text="NOT_ALLOWED - negotiated channel_max = 0 is higher than the maximum allowed value (2047)" class=10 method=31
            = Closing NOT_ALLOWED - negotiated channel_max = 0 is higher than the maximum allowed value (2047)
        "#]],
    );
    check_after(
        before,
        &expect![[r#"
            C> 0 connection.tune-ok channel-max=2048 frame-max=131072
            S< 0 connection.close code=530 text="NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)" class=10 method=31
            = Closing NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)
        "#]],
    );
}

#[test]
fn a_vhost_that_is_not_there() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
        C> 0 connection.tune-ok channel-max=2047 frame-max=131072
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        B< Authenticate guest guest
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        R> refuse NotAllowed "vhost nowhere not found"
        C> 0 connection.open vhost="nowhere"
        C> 1 channel.open
        B< OpenVhost("nowhere")
        S< 0 connection.close code=530 text="NOT_ALLOWED - vhost nowhere not found" class=10 method=40
        = Closing NOT_ALLOWED - vhost nowhere not found
        C> 0 connection.close-ok
        = Closed NOT_ALLOWED - vhost nowhere not found
    "#]]);
}

#[test]
fn methods_out_of_turn() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.open vhost="/"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=504 text="CHANNEL_ERROR - unexpected method in connection state starting" class=10 method=40
        = Closing CHANNEL_ERROR - unexpected method in connection state starting
    "#]]);
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 1 channel.open
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        S< 0 connection.close code=505 text="UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>"
        = Closing UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>
    "#]]);
    check_after(
        OPEN,
        &expect![[r#"
            C> 0 connection.tune-ok
            S< 0 connection.close code=504 text="CHANNEL_ERROR - unexpected method in connection state running" class=10 method=31
            = Closing CHANNEL_ERROR - unexpected method in connection state running
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> 0 channel.open
            S< 0 connection.close code=504 text="CHANNEL_ERROR - unexpected method in connection state running" class=20 method=10
            = Closing CHANNEL_ERROR - unexpected method in connection state running
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> 0 connection.update-secret secret="new" reason="old"
            S< 0 connection.close code=540 text="NOT_IMPLEMENTED - connection.update-secret" class=10 method=70
            = Closing NOT_IMPLEMENTED - connection.update-secret
        "#]],
    );
}

#[test]
fn a_silent_client_is_cut_off() {
    check(&expect![[r#"
        T> 9
        C> raw "AMQP\0\0"
        T> 1
        = Closed the handshake was not done within 10000 ms
    "#]]);
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        B< Authenticate guest guest
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        T> 10
        = Closed the handshake was not done within 10000 ms
    "#]]);
}

#[test]
fn heartbeats() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
        C> 0 connection.tune-ok channel-max=2047 frame-max=131072 heartbeat=10
        C> 0 connection.open vhost="/"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        B< Authenticate guest guest
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        B< OpenVhost("/")
        S< 0 connection.open-ok
        T> 4
        C> 1 channel.open
        B< OpenChannel(ChannelId(1))
        S< 1 channel.open-ok
        T> 4
        T> 1
        S< heartbeat
        T> 5
        S< heartbeat
        C> heartbeat
        T> 19
        S< heartbeat
        S< heartbeat
        S< heartbeat
        T> 1
        = Closed missed heartbeats from client, timeout: 10s
    "#]]);
}

#[test]
fn a_client_that_is_not_read_is_not_missed() {
    check(&expect![[r#"
        C> raw "AMQP\0\0\x09\x01"
        C> 0 connection.start-ok mechanism="PLAIN" response="\0guest\0guest"
        C> 0 connection.tune-ok channel-max=2047 frame-max=131072 heartbeat=10
        C> 0 connection.open vhost="/"
        S< 0 connection.start minor=9 properties={capabilities={publisher_confirms=true, exchange_exchange_bindings=true, basic.nack=true, consumer_cancel_notify=true, connection.blocked=true, consumer_priorities=true, authentication_failure_close=true, per_consumer_qos=true}, product="Sluicegate", version="1.2.3", cluster_name="sluicegate", platform="Rust", copyright="Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0", information="AMQP 0-9-1 as RabbitMQ speaks it"} mechanisms="PLAIN AMQPLAIN" locales="en_US"
        B< Authenticate guest guest
        S< 0 connection.tune channel-max=2047 frame-max=131072 heartbeat=60
        B< OpenVhost("/")
        S< 0 connection.open-ok
        E> blocked
        T> 25
        S< heartbeat
        S< heartbeat
        S< heartbeat
        S< heartbeat
        S< heartbeat
        E> unblocked
        T> 30 unread
        S< heartbeat
        S< heartbeat
        S< heartbeat
        S< heartbeat
        S< heartbeat
        S< heartbeat
        T> 19
        S< heartbeat
        S< heartbeat
        S< heartbeat
        T> 1
        = Closed missed heartbeats from client, timeout: 10s
    "#]]);
}

#[test]
fn no_heartbeats_if_the_client_wants_none() {
    check_after(
        OPEN,
        &expect![[r#"
            T> 100000
            C> 1 channel.open
            B< OpenChannel(ChannelId(1))
            S< 1 channel.open-ok
        "#]],
    );
}

#[test]
fn blocked_and_unblocked() {
    check_after(
        OPEN,
        &expect![[r#"
            E> blocked
            S< 0 connection.blocked reason="low on memory"
            E> unblocked
            S< 0 connection.unblocked
        "#]],
    );
}

#[test]
fn the_server_says_goodbye() {
    check_after(
        OPEN,
        &expect![[r#"
            X> broker forced connection closure with reason 'shutdown'
            S< 0 connection.close code=320 text="CONNECTION_FORCED - broker forced connection closure with reason \'shutdown\'"
            = Closing CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'
            C> 1 channel.open
            C> 0 connection.close-ok
            = Closed CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            X> broker forced connection closure with reason 'shutdown'
            S< 0 connection.close code=320 text="CONNECTION_FORCED - broker forced connection closure with reason \'shutdown\'"
            = Closing CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'
            T> 10
            = Closed CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'
        "#]],
    );
    check(&expect![[r#"
        X> nobody has spoken yet
        = Closed nobody has spoken yet
    "#]]);
}

#[test]
fn both_close_at_once() {
    check_after(
        OPEN,
        &expect![[r#"
            X> maintenance
            S< 0 connection.close code=320 text="CONNECTION_FORCED - maintenance"
            = Closing CONNECTION_FORCED - maintenance
            C> 0 connection.close code=200
            S< 0 connection.close-ok
            = Closed CONNECTION_FORCED - maintenance
        "#]],
    );
    check_after(
        OPEN,
        &expect![[r#"
            C> 0 channel.open
            C> 0 connection.close code=200
            S< 0 connection.close code=504 text="CHANNEL_ERROR - unexpected method in connection state running" class=20 method=10
            S< 0 connection.close-ok
            = Closed CHANNEL_ERROR - unexpected method in connection state running
        "#]],
    );
}

#[test]
fn a_client_may_say_why_it_closes() {
    check_after(
        OPEN,
        &expect![[r#"
            C> 0 connection.close code=541 text="the application crashed"
            C> 1 channel.open
            S< 0 connection.close-ok
            = Closed the client closed with 541: the application crashed
        "#]],
    );
}
