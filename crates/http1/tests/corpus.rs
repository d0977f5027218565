//! The smuggling corpus against the parser and decoder: whole, split at every byte, and byte by byte. The three
//! must give the same verdict, because the sender chooses the segments.

use bytes::{Buf, BytesMut};
use sluicegate_http1::corpus::{Verdict, cases};
use sluicegate_http1::{BodyDecoder, BodyStep, RequestParser};

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Refused(u16),
    Served { method: String, target: String, body: Vec<u8>, rest: Vec<u8> },
    Incomplete,
}

fn run(segments: &[&[u8]]) -> Outcome {
    let mut buf = BytesMut::new();
    let mut segments = segments.iter();
    let mut parser = RequestParser::default();
    let head = loop {
        match parser.parse(&mut buf) {
            Err(error) => return Outcome::Refused(error.status().as_u16()),
            Ok(Some(head)) => break head,
            Ok(None) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None => return Outcome::Incomplete,
            },
        }
    };
    let mut decoder = BodyDecoder::new(head.framing, u64::MAX);
    let mut body = Vec::new();
    loop {
        match decoder.decode(&mut buf) {
            Err(error) => return Outcome::Refused(error.status().as_u16()),
            Ok(BodyStep::End) => break,
            Ok(BodyStep::Data(n_bytes)) => {
                body.extend_from_slice(&buf[..n_bytes]);
                buf.advance(n_bytes);
            }
            Ok(BodyStep::NeedInput) => match segments.next() {
                Some(segment) => buf.extend_from_slice(segment),
                None => return Outcome::Incomplete,
            },
        }
    }
    for segment in segments {
        buf.extend_from_slice(segment);
    }
    Outcome::Served {
        method: head.parts.method.to_string(),
        target: head.parts.uri.to_string(),
        body,
        rest: buf.to_vec(),
    }
}

#[test]
fn every_case_gets_its_verdict() {
    let mut failures = Vec::new();
    let (mut n_refused, mut n_accepted) = (0, 0);
    for case in cases() {
        let outcome = run(&[case.raw]);
        let as_expected = match (&outcome, case.verdict) {
            (Outcome::Refused(status), Verdict::Refuse(expected)) => {
                n_refused += 1;
                *status == expected
            }
            (
                Outcome::Served { method, target, body, .. },
                Verdict::Accept { method: expected_method, target: expected_target, body: expected_body },
            ) => {
                n_accepted += 1;
                method == expected_method && target == expected_target && body == expected_body
            }
            _ => false,
        };
        if !as_expected {
            failures.push(format!("{}: {outcome:?}, not {:?}", case.name, case.verdict));
        }
    }
    println!("smuggling corpus: {n_refused} refused, {n_accepted} accepted");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_refused >= 80, "the corpus shrank to {n_refused} attacks");
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = cases().map(|case| case.name).collect();
    let n_names = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n_names);
}

#[test]
fn splitting_never_changes_the_verdict() {
    for case in cases() {
        let whole = run(&[case.raw]);
        for at in 0..=case.raw.len() {
            let (left, right) = case.raw.split_at(at);
            assert_eq!(run(&[left, right]), whole, "{} split at {at}", case.name);
        }
        let bytes: Vec<&[u8]> = case.raw.chunks(1).collect();
        assert_eq!(run(&bytes), whole, "{} byte by byte", case.name);
    }
}

#[test]
fn next_request_stays_in_the_buffer() {
    let raw = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /next";
    let Outcome::Served { rest, .. } = run(&[raw]) else {
        panic!("refused");
    };
    assert_eq!(rest, b"GET /next");
}
