//! A response head and its body in the client role, for a request whose method the input chooses: no panic, and the
//! same verdict at once and in two reads.

#![no_main]

use bytes::{Buf, BytesMut};
use http::Method;
use http1::{BodyDecoder, BodyError, BodyStep, ResponseError, ResponseParser};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
enum Outcome {
    Refused(ResponseError),
    BodyRefused(BodyError),
    Incomplete,
    Received(u16, Vec<u8>, Vec<u8>),
}

fn run(method: &Method, segments: &[&[u8]]) -> Outcome {
    let (mut parser, mut buf) = (ResponseParser::default(), BytesMut::new());
    let mut segments = segments.iter();
    let head = loop {
        match parser.parse(method, &mut buf) {
            Err(error) => return Outcome::Refused(error),
            Ok(Some(head)) if head.is_interim() => {}
            Ok(Some(head)) => break head,
            Ok(None) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None => return Outcome::Incomplete,
            },
        }
    };
    let (mut decoder, mut body) = (BodyDecoder::new(head.framing, 1 << 20), Vec::new());
    loop {
        match decoder.decode(&mut buf) {
            Err(error) => return Outcome::BodyRefused(error),
            Ok(BodyStep::End) => break,
            Ok(BodyStep::Data(n_bytes)) => {
                body.extend_from_slice(&buf[..n_bytes]);
                buf.advance(n_bytes);
            }
            Ok(BodyStep::NeedInput) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None if decoder.close().is_ok() => break,
                None => return Outcome::Incomplete,
            },
        }
    }
    for segment in segments {
        buf.extend_from_slice(segment);
    }
    Outcome::Received(head.parts.status.as_u16(), body, buf.to_vec())
}

fuzz_target!(|input: &[u8]| {
    let [choice, cut, raw @ ..] = input else { return };
    let method = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT][usize::from(choice % 4)].clone();
    let whole = run(&method, &[raw]);
    let at = usize::from(*cut).min(raw.len());
    assert_eq!(whole, run(&method, &[&raw[..at], &raw[at..]]));
});
