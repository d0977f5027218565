//! What a link's publishes, and what it gets, cost its quotas.
//!
//! Invariants: a publish is paid for before it is taken in, in every bucket or in none. One that cannot be paid for is
//! handed in again later, and its connection not read until then, so nothing is dropped and no rate is exceeded.

use super::Link;
use crate::queue::Queue;
use crate::quotas::{Rates, Subject, pay_queues};
use crate::route::Found;
use crate::users::Access;
use model::{Mono, Now};
use protocol::{Publish, Refusal};

/// What the quotas in force mean for the publishes of a link.
#[derive(Default)]
pub(super) struct PublishQuota {
    own: Option<Rates>,
    /// Some queues have quotas.
    queues: bool,
}

impl PublishQuota {
    /// Whether a publish may have to wait.
    pub(super) fn applies(&self) -> bool {
        self.own.is_some() || self.queues
    }

    /// A publish that leads to no queue was paid for, and is handed in again.
    pub(super) fn refund(&self) {
        self.own.iter().for_each(|own| own.give_back(1));
    }
}

impl Link {
    fn subject<'a>(&self, access: &'a Access) -> Subject<'a> {
        Subject { connection: Some(self.mailbox.id), user: &access.user, vhost: &access.vhost }
    }

    /// Looks which quotas are in force for what it publishes.
    pub(super) fn renew_quota(&mut self, now: Now) {
        let quotas = self.broker.quotas.load_full();
        // A link without a user can do nothing anyway.
        let access = if quotas.is_empty() { None } else { self.access().ok() };
        let own = access.and_then(|access| quotas.of_publisher(self.subject(&access), now.mono));
        self.publisher.quota = PublishQuota { own, queues: quotas.limit_queues() };
    }

    /// Pays for a publish. False if it has to wait: the link is woken when it is worth trying again.
    pub(super) fn pay(&mut self, publish: &Publish, now: Now) -> bool {
        match self.try_to_pay(publish, now) {
            Ok(()) => true,
            Err(at) => {
                self.broker.schedule_wake(self.mailbox.id, at);
                false
            }
        }
    }

    /// Pays, or says when it may be able to.
    fn try_to_pay(&mut self, publish: &Publish, now: Now) -> Result<(), Mono> {
        if let Some(own) = &self.publisher.quota.own {
            own.pay(now.mono)?;
        }
        let paid = if self.publisher.quota.queues { self.pay_targets(publish, now) } else { Ok(()) };
        if let (Some(own), Err(_)) = (&self.publisher.quota.own, paid) {
            own.give_back(1);
        }
        paid
    }

    fn pay_targets(&mut self, publish: &Publish, now: Now) -> Result<(), Mono> {
        if publish.extra_keys.is_empty()
            && let Some(route) = self.publisher.routes.get(&publish.message)
        {
            return pay_queues(route.queues(), now.mono);
        }
        // What is refused is refused later, by who routes it for good. Until it is due, nobody knows where it goes.
        let mut found = Found::default();
        let Ok(access) = self.access() else { return Ok(()) };
        match self.broker.route_publish(&access, &publish.message, &publish.extra_keys, now, &mut found) {
            Ok(_) => pay_queues(&found.queues, now.mono),
            Err(_) => Ok(()),
        }
    }

    /// What a get draws from.
    pub(super) fn rates_to_get(&mut self, queue: &Queue, now: Now) -> Result<Option<Rates>, Refusal> {
        let quotas = self.broker.quotas.load_full();
        if quotas.is_empty() {
            return Ok(None);
        }
        let access = self.access()?;
        Ok(quotas.of_consumer(self.subject(&access), queue, now.mono))
    }
}
