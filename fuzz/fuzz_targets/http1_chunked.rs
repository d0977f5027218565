//! A chunked body against the obvious model (a decoder that sees everything at once through slices): same verdict,
//! same bytes, whatever the split; and what was decoded survives being encoded again.

#![no_main]

use bytes::{Buf, BytesMut};
use http1::{BodyDecoder, BodyError, BodyFraming, BodyStep, LAST_CHUNK, encode_chunk_head, encode_trailers};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: u64 = 1 << 16;

type Decoded = (Vec<Vec<u8>>, Option<http::HeaderMap>, usize);

fn run(raw: &[u8], segment: usize) -> Result<Option<Decoded>, BodyError> {
    let mut decoder = BodyDecoder::new(BodyFraming::Chunked, BYTES_MAX);
    let (mut input, mut segments) = (BytesMut::new(), raw.chunks(segment));
    let mut pieces = Vec::new();
    loop {
        match decoder.decode(&mut input)? {
            BodyStep::Data(n_bytes) => pieces.push(input.split_to(n_bytes).to_vec()),
            BodyStep::NeedInput => match segments.next() {
                Some(segment) => input.extend_from_slice(segment),
                None => return Ok(None),
            },
            BodyStep::End => {
                let rest = input.remaining() + segments.map(<[u8]>::len).sum::<usize>();
                return Ok(Some((pieces, decoder.take_trailers(), rest)));
            }
        }
    }
}

/// The grammar of RFC 9112 §7.1 without trailers, read with slices; `None` where it does not apply.
fn model(mut raw: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..end]).ok()?;
        let hex = !size.is_empty() && size.len() <= 8 && size.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        raw = &raw[end + 2..];
        let data = raw.get(..size)?;
        if raw.get(size..size + 2)? != b"\r\n" {
            return None;
        }
        body.extend_from_slice(data);
        raw = &raw[size + 2..];
        if size == 0 {
            return (body.len() as u64 <= BYTES_MAX).then_some((body, raw.len()));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((segment, raw)) = input.split_first() else {
        return;
    };
    let whole = run(raw, raw.len().max(1));
    let split = run(raw, usize::from(*segment).max(1));
    match (&whole, &split) {
        (Ok(Some((a, at, ar))), Ok(Some((b, bt, br)))) => {
            assert_eq!((a.concat(), at, ar), (b.concat(), bt, br));
        }
        _ => assert_eq!(whole.as_ref().map(|_| ()), split.as_ref().map(|_| ())),
    }
    if let Some((body, rest)) = model(raw) {
        let (pieces, _, decoded_rest) = whole.clone().expect("the model accepts").expect("it ends");
        assert_eq!((pieces.concat(), decoded_rest), (body, rest));
    }
    if let Ok(Some((pieces, trailers, _))) = whole {
        let mut wire = BytesMut::new();
        for piece in &pieces {
            encode_chunk_head(piece.len(), &mut wire);
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        match &trailers {
            Some(trailers) => encode_trailers(trailers, &mut wire),
            None => wire.extend_from_slice(LAST_CHUNK),
        }
        // Trailers come out a little longer than they came in, so the limit may be crossed.
        if let Ok(again) = run(&wire, 7) {
            let (again, again_trailers, rest) = again.expect("what we wrote ends");
            assert_eq!((again.concat(), again_trailers, rest), (pieces.concat(), trailers, 0));
        }
    }
});
