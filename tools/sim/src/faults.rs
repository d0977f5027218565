//! What goes wrong around the engine: calls that fail, disks that are full, rot or take long, crashes.

use crate::run::{Run, read_everything};
use crate::watch::Watch;
use engine::{Engine, Pressure};
use std::sync::Arc;
use storage::OpenError;
use storage::sim::{Fault, SimDisk};

/// A bit of the disk that has flipped.
pub(crate) struct Rot {
    name: String,
    at: usize,
}

impl std::fmt::Display for Rot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a flipped bit in byte {} of {}", self.at, self.name)
    }
}

impl Run {
    /// Makes a call of the disk fail.
    pub(crate) fn fault(&mut self) {
        let fault = match self.dice.below(16) {
            0 => Fault::Sync,
            1 => Fault::Write,
            2 => Fault::SyncDir,
            3 => Fault::Name,
            4..=6 => Fault::Read,
            7..=11 => Fault::Flip(self.dice.below(3), self.dice.below(1 << 20)),
            _ => Fault::Full(self.dice.below(6)),
        };
        self.faulty |= matches!(fault, Fault::Sync | Fault::Write | Fault::SyncDir | Fault::Name);
        self.disk.inject(fault);
        self.done.faults += 1;
    }

    /// Fills the disk, or makes room again: then publishers are welcome without a restart.
    pub(crate) fn fill_disk(&mut self) -> Result<(), String> {
        if self.dice.once_in(2) {
            let room = self.dice.below(20_000);
            self.disk.limit(Some(self.disk.used() + room));
            self.done.faults += 1;
            return Ok(());
        }
        self.disk.limit(None);
        self.disk.take_back();
        self.engine.sync_step(false);
        self.engine.keep_step();
        if self.faulty {
            return Ok(());
        }
        if self.engine.pressure() == Pressure::Disk {
            return Err("there is space again, and publishers are still refused".to_owned());
        }
        if self.watch.said().pressure == Pressure::Disk {
            return Err("there is space again, and publishers were not told".to_owned());
        }
        Ok(())
    }

    /// A sync that takes long, while calls go on, and perhaps the machine crashes.
    pub(crate) fn stall(&mut self) -> Result<(), String> {
        let (engine, disk) = (Arc::clone(&self.engine), self.disk.clone());
        let (keep, flush) = (self.dice.once_in(4), self.dice.once_in(2));
        if flush && !keep {
            self.model.tell_attempts();
        }
        let job = move || if keep { engine.keep_step() } else { engine.sync_step(flush) };
        let mut result = Ok(());
        let stood = disk.during_sync(job, || result = self.meanwhile());
        self.done.faults += u64::from(stood);
        result?;
        match self.crashed.take() {
            Some(durable) => self.reopen(durable),
            None => Ok(()),
        }
    }

    fn meanwhile(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.below(10) {
            self.tick();
            self.done.operations += 1;
            self.call()?;
            if self.dice.once_in(3) {
                self.engine.write_step();
            }
        }
        if self.dice.once_in(4) {
            self.crashed = Some(self.pull_plug());
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.disk.limit(None);
        self.disk.take_back();
        if self.faulty {
            return self.crash();
        }
        self.model.tell_attempts();
        self.engine.close().map_err(|e| e.to_string())?;
        let durable = self.engine.durable().0;
        // Everything is durable, settles too.
        self.model.tickets.push((u64::MAX, durable));
        self.disk.kill();
        self.reopen(durable)
    }

    pub(crate) fn crash(&mut self) -> Result<(), String> {
        let durable = self.pull_plug();
        self.reopen(durable)
    }

    /// Ends process or machine; returns what was durable then.
    fn pull_plug(&mut self) -> u64 {
        self.disk.limit(None);
        let durable = self.engine.durable().0;
        if self.dice.once_in(4) {
            self.disk.kill();
        } else {
            self.disk.crash(&mut self.dice);
        }
        durable
    }

    fn reopen(&mut self, durable: u64) -> Result<(), String> {
        self.done.crashes += 1;
        self.faulty = false;
        self.idle.clear();
        if self.dice.once_in(2) {
            self.rot(durable)?;
        }
        if self.dice.once_in(2) {
            self.misread(durable)?;
        }
        // Now and then the disk fails, or the machine crashes again, during recovery.
        while self.dice.once_in(4) {
            if self.dice.once_in(2) {
                self.fault_of_recovery(&self.disk.clone());
            }
            drop(self.open(&self.disk, &Arc::new(Watch::new())));
            self.disk.crash(&mut self.dice);
        }
        self.watch = Arc::new(Watch::new());
        self.engine = Arc::new(self.open(&self.disk, &self.watch).map_err(|e| e.to_string())?);
        let (recovered, bodies) = read_everything(&self.engine, &self.model)?;
        let files = self.disk.files().iter().filter(|name| name.starts_with("body-")).count();
        if files != bodies.len() {
            return Err(format!("{files} files of bodies are there, and {} bodies", bodies.len()));
        }
        self.watch.said().readable.clear();
        let metas = self.engine.metas();
        self.model.restart(durable, &recovered, &metas)?;
        self.set_limits()
    }

    /// Makes a call of a disk fail while the engine is being opened, or the directory repaired.
    pub(crate) fn fault_of_recovery(&mut self, disk: &SimDisk) {
        let fault = match self.dice.below(6) {
            0 => Fault::Sync,
            1 => Fault::Write,
            2 => Fault::SyncDir,
            3 => Fault::Name,
            4 => Fault::Read,
            _ => Fault::Full(self.dice.below(6)),
        };
        disk.inject(fault);
        self.done.faults += 1;
    }

    /// One read of recovery brings a bit wrong that is right on the disk: it is read again, and nothing is lost by it.
    fn misread(&mut self, durable: u64) -> Result<(), String> {
        let reads = self.dice.below(2 * self.disk.files().len() + 2);
        let bit = self.dice.below(1 << 20);
        self.disk.inject(Fault::Flip(reads, bit));
        self.done.faults += 1;
        let wrong = |what: String| format!("after bit {bit} of read {reads} came wrong: {what}");
        let engine = self.open(&self.disk, &Arc::new(Watch::new())).map_err(|e| wrong(e.to_string()))?;
        self.disk.take_back();
        let (recovered, _) = read_everything(&engine, &self.model).map_err(wrong)?;
        if engine.metrics().damaged > 0 {
            return Err(wrong("it is taken for damage".to_owned()));
        }
        self.model.clone().restart(durable, &recovered, &engine.metas()).map_err(wrong)?;
        self.disk.crash(&mut self.dice);
        Ok(())
    }

    /// A bit flips on a copy of the disk: it is refused and left alone, or all that the log proves is there or told to be
    /// damaged.
    fn rot(&mut self, durable: u64) -> Result<(), String> {
        let logs = |name: &String| name.starts_with("wal-") || name.starts_with("body-");
        let names: Vec<String> = self.disk.files().into_iter().filter(logs).collect();
        if names.is_empty() {
            return Ok(());
        }
        let name = &names[self.dice.below(names.len())];
        let mut content = self.disk.content(name).unwrap_or_default();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        if used == 0 {
            return Ok(());
        }
        let at = self.dice.below(used);
        content[at] ^= 1 << self.dice.below(8);
        let disk = self.disk.copy();
        if name.starts_with("body-") && self.dice.once_in(3) {
            disk.lose_file(name);
        } else {
            disk.set_content(name, &content);
        }
        let rot = Rot { name: name.clone(), at };
        self.done.rotten += 1;
        match self.open(&disk, &Arc::new(Watch::new())) {
            Ok(engine) => {
                let proven = self.model.proven(durable);
                let read = read_everything(&engine, &self.model);
                if engine.metrics().damaged > 0 {
                    // Recovery read a digest in place of the file, or it is a body: the message is kept aside and told.
                    return Ok(());
                }
                let (recovered, _) = read.map_err(|e| format!("after {rot}: {e}"))?;
                let restarted = self.model.clone().restart(proven, &recovered, &engine.metas());
                restarted.map_err(|e| format!("after {rot}: {e}"))
            }
            Err(error @ (OpenError::Damaged { .. } | OpenError::Newer { .. } | OpenError::Encrypted { .. })) => {
                let untouched = disk.content(name) == Some(content) && disk.files() == self.disk.files();
                if !untouched {
                    return Err("a directory was refused and yet changed".to_owned());
                }
                // Repair leaves what is newer or encrypted alone.
                let mends = matches!(error, OpenError::Damaged { .. });
                if mends { self.mend(&disk, self.model.proven(durable), &rot) } else { Ok(()) }
            }
            Err(error) => Err(format!("{rot} is taken for: {error}")),
        }
    }
}
