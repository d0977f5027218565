//! A request head and its body: no panic, the same verdict at once and in two reads, and what is accepted can
//! be forwarded and read again as the same message.

#![no_main]

use bytes::{Buf, BytesMut};
use http1::{
    BodyDecoder, BodyError, BodyFraming, BodyStep, OutgoingFraming, Persistence, RequestError, RequestHead,
    FieldLines, RequestParser, encode_request_head,
};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
enum Outcome {
    Refused(RequestError),
    BodyRefused(BodyError),
    Incomplete,
    Served(Vec<u8>, Vec<u8>),
}

fn run(segments: &[&[u8]]) -> (Outcome, Option<RequestHead>) {
    let (mut parser, mut buf) = (RequestParser::default(), BytesMut::new());
    let mut segments = segments.iter();
    let head = loop {
        match parser.parse(&mut buf) {
            Err(error) => return (Outcome::Refused(error), None),
            Ok(Some(head)) => break head,
            Ok(None) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None => return (Outcome::Incomplete, None),
            },
        }
    };
    let (mut decoder, mut body) = (BodyDecoder::new(head.framing, 1 << 20), Vec::new());
    loop {
        match decoder.decode(&mut buf) {
            Err(error) => return (Outcome::BodyRefused(error), Some(head)),
            Ok(BodyStep::End) => break,
            Ok(BodyStep::Data(n_bytes)) => {
                assert!(n_bytes > 0);
                body.extend_from_slice(&buf[..n_bytes]);
                buf.advance(n_bytes);
            }
            Ok(BodyStep::NeedInput) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None => return (Outcome::Incomplete, Some(head)),
            },
        }
    }
    for segment in segments {
        buf.extend_from_slice(segment);
    }
    (Outcome::Served(body, buf.to_vec()), Some(head))
}

/// Whether each CR and LF of the head stands in a pair.
fn only_crlf(raw: &[u8]) -> bool {
    let raw = raw.strip_prefix(b"\r\n").unwrap_or(raw);
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let lines = raw[..end].split(|b| *b == b'\n');
    let n_lines = raw[..end].iter().filter(|b| **b == b'\n').count();
    let ends_in_cr =
        lines.take(n_lines).all(|line| line.strip_suffix(b"\r").is_some_and(|line| !line.contains(&b'\r')));
    ends_in_cr && !raw[..end].rsplit(|b| *b == b'\n').next().is_some_and(|last| last.contains(&b'\r'))
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, raw)) = input.split_first() else {
        return;
    };
    let (whole, head) = run(&[raw]);
    let at = usize::from(*cut).min(raw.len());
    let (split, _) = run(&[&raw[..at], &raw[at..]]);
    assert_eq!(whole, split);

    let Some(head) = head else { return };
    assert!(only_crlf(raw), "a line of an accepted head ends otherwise");
    if !head.parts.headers.contains_key("host") {
        return;
    }
    let framing = match head.framing {
        BodyFraming::Empty => OutgoingFraming::Length(0),
        BodyFraming::Length(length) => OutgoingFraming::Length(length),
        BodyFraming::Chunked => OutgoingFraming::Chunked,
        BodyFraming::UntilClose => panic!("a request cannot end by closing"),
    };
    let mut wire = BytesMut::new();
    let mut parts = head.parts.clone();
    // A gateway answers the expectation itself; HTTP/1.0 clients may send any.
    parts.headers.remove("expect");
    encode_request_head(&parts.method, &parts.uri, &parts.headers, &FieldLines::default(), framing, Persistence::KeepAlive, &mut wire);
    match RequestParser::default().parse(&mut wire) {
        Ok(Some(again)) => {
            assert!(wire.is_empty());
            assert_eq!(again.framing, head.framing);
            assert_eq!(again.parts.method, head.parts.method);
            assert_eq!(again.parts.uri, head.parts.uri);
        }
        // Framing fields we add may push a head at the limit over it.
        Err(error) => assert_eq!(error.status().as_u16(), 431),
        Ok(None) => panic!("what we wrote is not a whole head"),
    }
});
