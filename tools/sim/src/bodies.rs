//! Large bodies: handed in in parts, given up half-way now and then, read back and compared.

use crate::message::{body_of, tag_of};
use crate::run::Run;
use ::model::{LargeBody, Message};
use bytes::Bytes;
use engine::Engine;
use std::sync::{Arc, Mutex, PoisonError};
use storage::Storage;

/// Bodies that are kept without a message, as while a connection is about to publish them.
const IDLE_MAX: usize = 3;

impl Run {
    /// A body of this message on the disk; `None` if it was not to be, or could not be.
    pub(crate) fn store_body(&mut self, tag: u64, size: usize) -> Result<Option<Arc<LargeBody>>, String> {
        let mut writer = match self.engine.begin_body(size as u64, Arc::new(|| {})) {
            Ok(writer) => writer,
            Err(error) => return self.excuse(&error).map(|()| None),
        };
        let mut rest = Bytes::from(body_of(tag, size));
        let gives_up = self.dice.once_in(16);
        while !rest.is_empty() {
            if gives_up && rest.len() < size / 2 {
                drop(writer);
                while self.engine.body_step() {}
                return Ok(None);
            }
            writer.append(rest.split_to((1 + self.dice.below(3000)).min(rest.len())));
            while self.engine.body_step() {}
            match writer.is_ready() {
                Ok(true) => {}
                // The disk is full.
                Ok(false) => {
                    drop(writer);
                    while self.engine.body_step() {}
                    return Ok(None);
                }
                Err(error) => return self.excuse(&error).map(|()| None),
            }
        }
        let first = writer.finish();
        while self.engine.body_step() {}
        match first.and_then(|_| writer.finish()) {
            Ok(body) if self.dice.once_in(16) => {
                self.idle.extend(body);
                self.idle.drain(..self.idle.len().saturating_sub(IDLE_MAX));
                Ok(None)
            }
            Ok(body) => Ok(body),
            Err(error) => self.excuse(&error).map(|()| None),
        }
    }
}

/// Reads the body of a message and compares it with what was handed in.
pub(crate) fn check_body(engine: &Storage, message: &Message) -> Result<(), String> {
    let Some(body) = message.large_body() else { return Ok(()) };
    let tag = tag_of(message);
    let expected = body_of(tag, usize::try_from(body.len()).unwrap_or(usize::MAX));
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let slot = Arc::new(Mutex::new(None));
        let to = Arc::clone(&slot);
        let put = move |piece| *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
        engine.read_body(body, found.len() as u64, Box::new(put));
        while engine.piece_step() {}
        let piece = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let piece = piece.ok_or("a piece of a body was never read")?;
        found.extend_from_slice(&piece.map_err(|lost| format!("of message {tag}, {lost}"))?);
    }
    if found == expected { Ok(()) } else { Err(format!("the body of message {tag} came back changed")) }
}
