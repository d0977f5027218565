//! Frames (§4.2.3), found in place.
//!
//! ```text
//! 0      1         3             7                  size+7 size+8
//! | type | channel | size (of payload) | payload        | 0xCE |
//! ```

/// Bytes of a frame around its payload.
pub(crate) const OVERHEAD: usize = 8;
/// The last byte of every frame.
pub(crate) const END: u8 = 0xCE;

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;

/// A whole frame in a read buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the frame, payload and all.
    pub(crate) fn size(&self) -> usize {
        self.payload.len() + OVERHEAD
    }
}

/// After this nothing that follows can be understood: 501 `FRAME_ERROR`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FrameError<'a> {
    /// The payload is longer than was agreed.
    TooLarge { kind: u8, size: u32, max: usize },
    /// The frame does not end where it says.
    BadEnd { frame: Frame<'a>, end: u8 },
}

/// The first frame of `input`, if it is whole. `size_max` bounds the frame as it was tuned.
///
/// Clients miscount the eight bytes around a payload; like RabbitMQ we let them.
pub(crate) fn first(input: &[u8], size_max: u32) -> Result<Option<Frame<'_>>, FrameError<'_>> {
    let Some((&[kind, c0, c1, s0, s1, s2, s3], rest)) = input.split_first_chunk::<7>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if size > size_max {
        let max = (size_max as usize).saturating_sub(OVERHEAD);
        return Err(FrameError::TooLarge { kind, size, max });
    }
    let Some((payload, [end, ..])) = rest.split_at_checked(size as usize) else {
        return Ok(None);
    };
    let frame = Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload };
    if *end == END { Ok(Some(frame)) } else { Err(FrameError::BadEnd { frame, end: *end }) }
}
