//! Kong's entities in the file: the table and the rules are the crate `entities`'; here their mistakes get a place in the
//! text and a person's words.
//!
//! ```text
//! Node ── value: JSON, typed by the fields ── entities::declarative ── Store ── gateway::convert ── Entities
//!   └─ lint: what is right and probably not meant        └─ mistakes ── report: line, column, help
//! ```

mod lint;
mod place;
mod report;
mod value;

pub(crate) use value::plain;

use std::time::{SystemTime, UNIX_EPOCH};

use ::entities::declarative::{self, META_KEYS};
use ::entities::{Kind, Origin, REFUSED, Store, Write, derived_id};
use gateway::convert::Sources;
use gateway::entity::{Backend, Entities};

use crate::problem::Problem;
use crate::reader::{Check, MapReader};
use crate::source::Span;
use crate::tree::Node;

/// Lists of entities at the top level.
pub(crate) const KEYS: [&str; Kind::ALL.len()] = {
    let mut keys = [""; Kind::ALL.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = Kind::ALL[at].name();
        at += 1;
    }
    keys
};

/// A queue that a service or a subscription uses, for the checks against the broker's definitions.
pub(crate) struct QueueUse {
    pub(crate) vhost: String,
    pub(crate) user: String,
    /// The queues it names, its dead letter queue too.
    pub(crate) queues: Vec<String>,
    pub(crate) vhost_at: Span,
    pub(crate) user_at: Span,
}

/// What the file says about entities.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) store: Store,
    pub(crate) entities: Entities,
    pub(crate) uses: Vec<QueueUse>,
}

/// Reads all entities from the top level of the configuration.
pub(crate) fn read(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, root: &Node, sources: Sources<'_>) -> Read {
    let registry = sources.registry;
    for key in KEYS {
        map.entry(key);
    }
    map.ignore(&META_KEYS);
    map.ignore(&REFUSED.map(|(name, _)| name));
    lint::lint(check, root);
    let tree = value::tree(check, root, registry);
    let mut n = 0_u32;
    let mut fresh = || {
        n += 1;
        derived_id(Kind::Services, &format!("fresh {n}"))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut write = Write {
        registry,
        now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        fresh: &mut fresh,
        origin: Origin::File,
        keeps_times: true,
        is_kept: false,
    };
    let declared = match declarative::read(&tree, &Store::new(), &mut write) {
        Ok(declared) => declared,
        Err(mistakes) => {
            let before = check.problems.all.len();
            report::mistakes(check, root, &mistakes, registry);
            // A mistake that was left out because another says it better, but then the other must be there.
            if before == 0 && check.problems.all.is_empty() {
                check.report(Problem::new(place::begin(root), mistakes.error().message));
            }
            return Read::default();
        }
    };
    let (entities, refusals) = match gateway::convert::entities(&declared.store, sources) {
        Ok(entities) => {
            let refusals = gateway::convert::patterns(&entities);
            (entities, refusals)
        }
        Err(refusals) => (Entities::default(), refusals),
    };
    for refusal in &refusals {
        report::refusal(check, root, &declared.places, refusal);
    }
    let uses = entities.services.iter().filter_map(|service| {
        let Backend::Queue(queue) = &service.backend else { return None };
        let node = place::node(root, declared.places.get(&(Kind::Services, service.id.0))?)?;
        Some(QueueUse {
            vhost: queue.vhost.clone(),
            user: queue.user.clone(),
            queues: vec![queue.queue.clone()],
            vhost_at: node.at_value("vhost"),
            user_at: node.get("user").map_or_else(|| node.at_key("protocol"), |user| user.at),
        })
    });
    let uses = uses.collect();
    Read { store: declared.store, entities, uses }
}
