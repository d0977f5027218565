//! Digests that say nothing: a file in which nothing lives goes without being read if no older one needs anything of it.
//!
//! What a digest that stands alone is for: a reference, a queue or a value that an older file still holds would come back
//! if the record that ended it went, and of an entry that lives there, how often it was handed out would be forgotten.
//!
//! Invariants: a digest is bare only if each older file that could need the file's records does not. It does not if
//!
//! * no message lives in it, so no mark and no count is of one of its entries (what is copied to a newer file is marked and
//!   counted again there), and
//! * the last thing of it that ended did so before the file began, so no record of the file ended one of its things.
//!
//! Of the older files that were given up for their own digests, only those matter that *repeat* what may lie in one that is
//! still there: of a thing that lies in two places, the end counts in the later one. And nothing is told of what is being
//! copied at the moment, which counts as living twice.
//!
//! What holds the files together is kept: the link to the file in front, and which one is the oldest.

use crate::canary::Canary;
use crate::chain::{put_link, put_oldest};
use crate::core::Core;
use crate::digest::{Digest, DigestHeader};
use crate::log::{Form, LogFile};
use crate::record::Kind;

impl Core {
    /// The digest that takes the place of a file in which nothing lives, if it may be bare. `between`: something is being
    /// copied.
    pub(crate) fn bare_digest(&self, base: u64, between: bool) -> Option<Digest> {
        let log = self.log.lock();
        let file = log.files.get(&base)?;
        let (_, front) = log.files.range(..base).next_back()?;
        let needed = log.files.range(..base).any(|(_, older)| self.may_need(older, base));
        if needed || between || front.number != file.before {
            return None;
        }
        let mut digest = Digest::new(DigestHeader::of(file, self.generation, true));
        let mut payload = Vec::new();
        put_link(&mut payload, front.chain);
        digest.add(Kind::Link, base, &payload)?;
        if file.oldest > 0 {
            payload.clear();
            put_oldest(&mut payload, file.oldest);
            digest.add(Kind::Oldest, base, &payload)?;
        }
        Some(digest)
    }

    /// Whether a file may need a record of a later one in which nothing lives, which begins at `base`.
    fn may_need(&self, older: &LogFile, base: u64) -> bool {
        let holds = older.form != Form::Alone || (older.repeats && !self.options.plants(Canary::BareBehindCopies));
        let lives = older.live > older.definitions && !self.options.plants(Canary::BareUncounted);
        let ended = older.dead_at > base && !self.options.plants(Canary::BareTooSoon);
        holds && (lives || ended)
    }
}
