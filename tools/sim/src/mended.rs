//! What `repair` makes of a directory that was refused: it opens, and a message is missing only if its own record is in
//! quarantine.

use crate::faults::Rot;
use crate::message::head_of;
use crate::model::{Back, Model, Recovered, State, Tag};
use crate::run::{Run, read_everything};
use crate::watch::Watch;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::sim::SimDisk;
use storage::{Damage, Report};

impl Run {
    /// Repairs a disk that has rotted, the second time if the machine crashed during the first, and looks at what is left;
    /// `proven` is how far the log says that it was durable.
    pub(crate) fn mend(&mut self, disk: &SimDisk, proven: u64, rot: &Rot) -> Result<(), String> {
        let wrong = |what: String| format!("repaired after {rot}: {what}");
        // The process that was refused has ended.
        disk.kill();
        // Else a crash could undo what makes it damage: bring a file back, or take away what proves a record.
        disk.settle();
        let report = storage::repair(disk, false).map_err(|e| wrong(e.to_string()))?;
        let rotten = disk.copy();
        if self.dice.once_in(2) {
            disk.kill();
            self.fault_of_recovery(disk);
            drop(storage::repair(disk, true));
            disk.crash(&mut self.dice);
        }
        disk.kill();
        storage::repair(disk, true).map_err(|e| wrong(e.to_string()))?;
        disk.kill();
        if let Some(lost) = report.damages.iter().find(|damage| !is_kept(disk, &rotten, damage)) {
            return Err(wrong(format!("{lost:?} is not in quarantine")));
        }
        let engine = self.open(disk, &Arc::new(Watch::new())).map_err(|e| wrong(e.to_string()))?;
        let (recovered, _) = read_everything(&engine, &self.model).map_err(wrong)?;
        self.model.check_repaired(proven, &recovered, &self.quarantined(&report)).map_err(wrong)
    }

    /// What is in quarantine, as it was written.
    fn quarantined(&self, report: &Report) -> Vec<Vec<u8>> {
        let content = |name: &String| self.disk.content(name).unwrap_or_default();
        let ranges = report.damages.iter().map(|damage| range_of(&self.disk, damage));
        ranges.chain(report.quarantined.iter().map(content)).collect()
    }
}

/// What a damaged range holds on a disk; behind the end of a file there is nothing.
fn range_of(disk: &SimDisk, damage: &Damage) -> Vec<u8> {
    let content = disk.content(&damage.file).unwrap_or_default();
    let from = damage.offset as usize;
    let to = (from + damage.bytes as usize).min(content.len());
    content.get(from..to).unwrap_or_default().to_vec()
}

/// Whether what a range held before is in quarantine, if it held anything.
fn is_kept(disk: &SimDisk, before: &SimDisk, damage: &Damage) -> bool {
    let bytes = range_of(before, damage);
    let is_there = |name: &String| disk.content(name).is_some_and(|kept| kept.starts_with(&bytes));
    let mut quarantine = disk.files().into_iter().filter(|name| name.starts_with("quarantine/"));
    bytes.iter().all(|byte| *byte == 0) || quarantine.any(|name| is_there(&name))
}

impl Model {
    /// Nothing is there that never was, nothing twice; what is missing is in quarantine. What was settled or deleted by what is
    /// in quarantine comes again.
    fn check_repaired(&self, proven: u64, recovered: &Recovered, quarantine: &[Vec<u8>]) -> Result<(), String> {
        if let Some(id) = recovered.keys().find(|id| !self.ids.contains(id)) {
            return Err(format!("queue {id} came from nowhere"));
        }
        let tags = |found: &Vec<Back>| found.iter().map(|back| back.tag).collect::<BTreeSet<Tag>>();
        if let Some((id, _)) = recovered.iter().find(|(_, found)| tags(found).len() < found.len()) {
            return Err(format!("queue {id} holds a message twice"));
        }
        for (id, queue) in self.queues.iter().filter(|(_, queue)| queue.durable) {
            let there = recovered.get(id).map(tags).unwrap_or_default();
            let must = queue
                .entries
                .iter()
                .filter(|e| e.durable && !matches!(e.state, State::Gone(_)) && self.has_batch(e.batch, proven));
            for entry in must.filter(|e| !there.contains(&e.tag)) {
                let head = head_of(entry.tag);
                if !quarantine.iter().any(|bytes| bytes.windows(head.len()).any(|window| window == head)) {
                    return Err(format!("message {} of queue {id} is missing and not in quarantine", entry.tag));
                }
            }
        }
        Ok(())
    }
}
