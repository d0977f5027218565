//! Opening the data directory and the broker on it, on a thread that serves nobody.

use super::front::Front;
use super::pump::Announcements;
use crate::commands::Failure;
use broker::{Broker, Rehearsal};
use engine::Engine;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{OpenError, Options, Storage};

/// How long a data directory that was just closed may seem to be in use.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is tried meanwhile.
const UNLOCK_PERIOD: Duration = Duration::from_millis(20);

/// The engine and the broker. `takes_over`: the process that had the directory may not be quite gone.
///
/// # Errors
/// It cannot be opened, or what the file says of the broker contradicts it.
pub(super) async fn broker(
    front: &Front,
    announcements: &Arc<Announcements>,
    takes_over: bool,
) -> Result<(Arc<dyn Engine>, Arc<Broker>), Failure> {
    let settings = &front.settings;
    let options = Options {
        resident_bytes_max: settings.limits.memory_max,
        disk_free_limit: settings.limits.disk_free_limit as u64,
        ..Options::default()
    };
    let (path, of_broker, clock) = (settings.storage.path.clone(), settings.broker.clone(), front.clock);
    let announcements = Arc::clone(announcements);
    let open = move || {
        let storage = storage(&path, options, &announcements, takes_over)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let engine: Arc<dyn Engine> = Arc::new(storage);
        let settings = broker::Settings { timer: Some(announcements) };
        let broker = Broker::open(Arc::clone(&engine), super::formats(), &of_broker.definitions, settings, clock.now())
            .map_err(Failure::new)?;
        broker.set_quotas(&of_broker.quotas, clock.now()).map_err(Failure::new)?;
        Ok((engine, broker))
    };
    tokio::task::spawn_blocking(open).await.map_err(Failure::new)?
}

/// Whether the broker could be opened on what an engine has kept, with the queues that the file and the services name.
///
/// # Errors
/// What the file says of the broker contradicts it.
pub(super) async fn rehearse(
    front: &Front,
    metas: Vec<(Vec<u8>, Vec<u8>)>,
    of_services: Vec<(String, String)>,
) -> Result<(), Failure> {
    let of_file = front.settings.named_queues().into_iter().map(|(vhost, queue)| (vhost.to_owned(), queue.to_owned()));
    let queues: Vec<_> = of_file.chain(of_services).collect();
    let (of_broker, clock) = (front.settings.broker.clone(), front.clock);
    let rehearse = move || {
        let (definitions, quotas) = (&of_broker.definitions, &of_broker.quotas);
        Rehearsal { definitions, quotas, queues: &queues }.run(metas, clock.now()).map_err(Failure::new)
    };
    tokio::task::spawn_blocking(rehearse).await.map_err(Failure::new)?
}

fn storage(
    path: &Path,
    options: Options,
    announcements: &Arc<Announcements>,
    takes_over: bool,
) -> Result<Storage, OpenError> {
    let began = Instant::now();
    loop {
        match Storage::open(path, options, Arc::clone(announcements) as _) {
            Err(OpenError::Locked) if takes_over && began.elapsed() < UNLOCK_TIMEOUT => {
                std::thread::sleep(UNLOCK_PERIOD);
            }
            opened => return opened,
        }
    }
}
