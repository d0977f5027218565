//! Content headers, and so tables and every field type. Checked: a header the connection takes is one the format
//! reads, and the other way round; what is read is written and read again as the same.
#![no_main]

use amqp::{Amqp091Format, AmqpSettings, Connection};
use libfuzzer_sys::fuzz_target;
use model::{NameSource, Now};
use protocol::{Connection as _, Event, Format, Outgoing, Request, Status};
use std::sync::Arc;

const PUBLISH: &[u8] = b"AMQP\x00\x00\x09\x01\
    \x01\x00\x00\x00\x00\x00\x24\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\
    \x00\x00\x00\x0c\x00guest\x00guest\x05en_US\xce\
    \x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1f\x07\xff\x00\x02\x00\x00\x00\x00\xce\
    \x01\x00\x00\x00\x00\x00\x08\x00\x0a\x00\x28\x01/\x00\x00\xce\
    \x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\xce\
    \x01\x00\x01\x00\x00\x00\x0a\x00\x3c\x00\x28\x00\x00\x00\x01q\x00\xce";

fn taken(header: &[u8]) -> Option<Option<model::Message>> {
    let mut connection =
        Connection::new(Arc::new(AmqpSettings::default()), NameSource::new(1), Now::default());
    let mut out = Outgoing::new();
    let mut input = PUBLISH.to_vec();
    input.extend_from_slice(&[2, 0, 1]);
    input.extend_from_slice(&(12 + header.len() as u32).to_be_bytes());
    input.extend_from_slice(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    input.extend_from_slice(header);
    input.push(0xCE);
    assert_eq!(connection.handle_input(&input, Now::default(), &mut out), input.len());
    let mut message = None;
    loop {
        let reply = match connection.poll_request() {
            Some(Request::Authenticate(_)) => Event::Authenticated,
            Some(Request::OpenVhost(_)) => Event::VhostOpened,
            Some(Request::OpenChannel(c)) => Event::ChannelOpened(c),
            Some(Request::CloseChannel(c)) => Event::ChannelClosed(c),
            Some(Request::Publish(publish)) => {
                message = Some(publish.message);
                continue;
            }
            Some(other) => panic!("{other:?}"),
            None if connection.poll_timeout() == Some(model::Mono(0)) => {
                connection.handle_timeout(Now::default(), &mut out);
                continue;
            }
            None => break,
        };
        connection.handle_event(reply, Now::default(), &mut out);
    }
    (connection.status() == Status::Open).then_some(message)
}

fuzz_target!(|header: &[u8]| {
    let read = Amqp091Format.decode(header);
    let taken = taken(header);
    assert_eq!(taken.is_some(), read.is_ok());
    // A message may still be refused for what its header says; one that is taken can be read.
    if let Some(Some(message)) = taken {
        assert!(Amqp091Format.decode(message.header()).is_ok());
    }
    if let Ok(properties) = read {
        let mut once = Vec::new();
        Amqp091Format.encode(&properties, &mut once);
        let again = Amqp091Format.decode(&once).expect("what is written can be read");
        let mut twice = Vec::new();
        Amqp091Format.encode(&again, &mut twice);
        assert_eq!(once, twice);
    }
});
