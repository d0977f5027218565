//! Exchanges and their bindings, indexed for routing.
//!
//! Invariants: a binding is in the list of its destination and in the index of the exchange's type, or in neither.
//! Of bindings that differ only in what the type does not look at, each is kept.

use crate::delay::{self, Store};
use crate::headers::HeadersMatch;
use crate::queue::Queue;
use crate::topic::TopicTrie;
use model::{QueueId, Table};
use protocol::Refusal;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The types of exchanges we have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl ExchangeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an exchange was declared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExchangeSpec {
    /// How it routes.
    pub(crate) kind: ExchangeKind,
    /// It is an `x-delayed-message` that routes so.
    pub(crate) delayed: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) alternate: Option<String>,
    pub(crate) arguments: Table,
}

impl ExchangeSpec {
    /// The name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        if self.delayed { delay::TYPE } else { self.kind.name() }
    }
}

/// Where a binding leads.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Queue(Arc<Queue>),
    Exchange(Arc<str>),
}

/// A target by identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetKey {
    Queue(QueueId),
    Exchange(Arc<str>),
}

impl Target {
    pub(crate) fn key(&self) -> TargetKey {
        match self {
            Self::Queue(queue) => TargetKey::Queue(queue.id),
            Self::Exchange(name) => TargetKey::Exchange(name.clone()),
        }
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// A binding of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binding {
    pub(crate) key: String,
    pub(crate) arguments: Table,
    pub(crate) target: Target,
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Arc<str>,
    pub(crate) spec: ExchangeSpec,
    /// Where messages wait, if it delays them.
    pub(crate) store: Option<Arc<Store>>,
    /// Where messages go that no binding takes: the argument, else what a policy says.
    pub(crate) alternate: Option<String>,
    bindings: HashMap<TargetKey, Vec<Binding>>,
    count: usize,
    index: Index,
}

/// The targets by what the type looks at. One entry a binding.
#[derive(Debug)]
enum Index {
    Direct(HashMap<String, Vec<Target>>),
    Fanout(Vec<Target>),
    Topic(TopicTrie<Target>),
    Headers(Vec<(HeadersMatch, Target)>),
}

impl Exchange {
    pub(crate) fn new(name: Arc<str>, spec: ExchangeSpec, store: Option<Arc<Store>>) -> Self {
        let index = match spec.kind {
            ExchangeKind::Direct => Index::Direct(HashMap::new()),
            ExchangeKind::Fanout => Index::Fanout(Vec::new()),
            ExchangeKind::Topic => Index::Topic(TopicTrie::default()),
            ExchangeKind::Headers => Index::Headers(Vec::new()),
        };
        let alternate = spec.alternate.clone();
        Self { name, spec, store, alternate, bindings: HashMap::new(), count: 0, index }
    }

    /// Takes what a policy says in force.
    pub(crate) fn set_policy(&mut self, alternate: Option<String>) {
        self.alternate = self.spec.alternate.clone().or(alternate);
    }

    /// Adds a binding; false if it is there.
    pub(crate) fn bind(&mut self, binding: Binding) -> Result<bool, Refusal> {
        let matcher = match self.spec.kind {
            ExchangeKind::Headers => Some(HeadersMatch::new(&binding.arguments)?),
            _ => None,
        };
        let known = self.bindings.entry(binding.target.key()).or_default();
        if known.contains(&binding) {
            return Ok(false);
        }
        let Binding { key, target, .. } = &binding;
        match &mut self.index {
            Index::Direct(map) => map.entry(key.clone()).or_default().push(target.clone()),
            Index::Fanout(all) => all.push(target.clone()),
            Index::Topic(trie) => trie.insert(key, target.clone()),
            Index::Headers(all) => all.extend(matcher.map(|m| (m, target.clone()))),
        }
        known.push(binding);
        self.count += 1;
        Ok(true)
    }

    /// Removes a binding; false if there is none.
    pub(crate) fn unbind(&mut self, binding: &Binding) -> bool {
        let key = binding.target.key();
        let Some(known) = self.bindings.get_mut(&key) else {
            return false;
        };
        let Some(at) = known.iter().position(|b| b == binding) else {
            return false;
        };
        known.swap_remove(at);
        if known.is_empty() {
            self.bindings.remove(&key);
        }
        self.forget(binding);
        true
    }

    /// Removes every binding that leads to a target; returns them.
    pub(crate) fn unbind_target(&mut self, target: &TargetKey) -> Vec<Binding> {
        let gone = self.bindings.remove(target).unwrap_or_default();
        for binding in &gone {
            self.forget(binding);
        }
        gone
    }

    fn forget(&mut self, binding: &Binding) {
        self.count -= 1;
        let Binding { key, target, .. } = binding;
        let drop_one = |all: &mut Vec<Target>| {
            if let Some(at) = all.iter().position(|t| t == target) {
                all.swap_remove(at);
            }
        };
        match &mut self.index {
            Index::Direct(map) => {
                if let Some(all) = map.get_mut(key) {
                    drop_one(all);
                    if all.is_empty() {
                        map.remove(key);
                    }
                }
            }
            Index::Fanout(all) => drop_one(all),
            Index::Topic(trie) => trie.remove(key, target),
            Index::Headers(all) => {
                let matcher = HeadersMatch::new(&binding.arguments).ok();
                let at = all.iter().position(|(m, t)| t == target && Some(m) == matcher.as_ref());
                if let Some(at) = at {
                    all.swap_remove(at);
                }
            }
        }
    }

    /// Calls `found` for the targets of a key, some perhaps several times. `headers` are asked for at most once.
    pub(crate) fn route(&self, key: &str, headers: &mut dyn FnMut() -> Table, mut found: impl FnMut(&Target)) {
        match &self.index {
            Index::Direct(map) => {
                if let Some(all) = map.get(key) {
                    all.iter().for_each(found);
                }
            }
            Index::Fanout(all) => all.iter().for_each(found),
            Index::Topic(trie) => trie.matches(key, found),
            Index::Headers(all) if all.is_empty() => {}
            Index::Headers(all) => {
                let headers = headers();
                for (matcher, target) in all {
                    if matcher.matches(&headers) {
                        found(target);
                    }
                }
            }
        }
    }

    /// Bindings that start here.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().flatten()
    }

    /// How many bindings start here.
    pub(crate) fn binding_count(&self) -> usize {
        self.count
    }
}
