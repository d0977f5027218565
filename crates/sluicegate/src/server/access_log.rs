//! Where the lines of the access log go: a file or stdout, written in batches by a thread of its own.
//!
//! Invariants: a request never waits for the disk; what comes while the buffer is full is dropped and counted. The file is
//! opened anew at every reload, so that it can be moved away. What was taken before the stop is written.

use config::AccessLogTo;
use gateway::AccessLog;
use model::limits::ACCESS_LOG_BUFFER_BYTES_MAX;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The access log; lines are taken by [`AccessLog::write`].
pub(crate) struct AccessLogWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    filled: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    reopen: bool,
    stop: bool,
}

impl AccessLogWriter {
    /// Opens the log and starts to write it.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub(crate) fn start(to: &AccessLogTo) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let path = match to {
            AccessLogTo::Stdout => None,
            AccessLogTo::File(path) => Some(path.clone()),
        };
        let file = path.as_deref().map(open).transpose()?;
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || ours.write_out(path.as_deref(), file))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Opens the file anew.
    pub(crate) fn reopen(&self) {
        self.shared.buffer.lock().reopen = true;
        self.shared.filled.notify_one();
    }

    /// Lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes what is left and stops.
    pub(crate) fn stop(&self) {
        self.shared.buffer.lock().stop = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the access log's thread had ended before");
        }
    }
}

impl AccessLog for AccessLogWriter {
    fn write(&self, line: &[u8]) {
        let mut buffer = self.shared.buffer.lock();
        if buffer.stop || buffer.lines.len() + line.len() > ACCESS_LOG_BUFFER_BYTES_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        drop(buffer);
        if was_empty {
            self.shared.filled.notify_one();
        }
    }
}

impl Shared {
    fn write_out(&self, path: Option<&Path>, mut file: Option<File>) {
        let mut batch = Vec::new();
        loop {
            let mut buffer = self.buffer.lock();
            while buffer.lines.is_empty() && !buffer.reopen && !buffer.stop {
                self.filled.wait(&mut buffer);
            }
            std::mem::swap(&mut batch, &mut buffer.lines);
            let (reopen, stop) = (std::mem::take(&mut buffer.reopen), buffer.stop);
            drop(buffer);
            if reopen && let Some(path) = path {
                match open(path) {
                    Ok(opened) => file = Some(opened),
                    Err(error) => tracing::error!(path = %path.display(), %error, "the access log stays as it was"),
                }
            }
            let written = match &mut file {
                Some(file) => file.write_all(&batch),
                None => io::stdout().lock().write_all(&batch),
            };
            if let Err(error) = written {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                tracing::error!(%error, lines, "the access log cannot be written");
            }
            batch.clear();
            if stop {
                return;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order_and_a_moved_file_is_opened_anew() {
        let directory = std::env::temp_dir().join(format!("sluicegate-access-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (path, moved) = (directory.join("access.log"), directory.join("moved.log"));
        let log = AccessLogWriter::start(&AccessLogTo::File(path.clone())).unwrap();
        for n in 0..100 {
            log.write(format!("{n}\n").as_bytes());
        }
        log.stop();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        log.write(b"late\n");
        assert_eq!(log.dropped(), 1);

        let log = AccessLogWriter::start(&AccessLogTo::File(path.clone())).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.write(b"new\n");
        log.stop();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let log = AccessLogWriter { shared: Arc::default(), thread: Mutex::new(None) };
        let line = vec![b'x'; ACCESS_LOG_BUFFER_BYTES_MAX / 2];
        for _ in 0..3 {
            log.write(&line);
        }
        assert_eq!((log.dropped(), log.shared.buffer.lock().lines.len()), (1, ACCESS_LOG_BUFFER_BYTES_MAX));
    }
}
