//! A route whose requests are shared by several services.
//!
//! Invariants: a request goes to one of them and stays with it through all its tries. Services keep their order, so a first
//! one whose share grows keeps what it had. What a disabled service would get goes to the route's own.

use crate::balancer::{HashedRequest, hashed, random};
use crate::entity::{HashInput, ServiceId, Share, Split};
use crate::exchange::Exchange;
use crate::snapshot::{ReadyServices, Target, Upstream};
use plugin::ServiceInfo;
use std::sync::Arc;

/// Keeps the numbers of a split apart from those of rings and mirrors, which come of the same values.
const OF_SPLITS: u64 = 0x5851_f42d_4c95_7f2d;

/// A split, ready for use.
#[derive(Debug)]
pub(crate) struct Splitting {
    parts: Vec<Part>,
    hash_on: HashInput,
}

#[derive(Debug)]
struct Part {
    /// The shares up to this one's end.
    until: Share,
    /// None if it is disabled.
    to: Option<(Arc<Upstream>, Arc<ServiceInfo>)>,
}

impl Splitting {
    /// # Errors
    /// What is wrong with a service.
    pub(crate) fn new(split: &Split, services: &ReadyServices) -> Result<Self, String> {
        let mut until = Share::NONE;
        let part = |(id, share): &(ServiceId, Share)| {
            until = until.and(*share);
            let to = match services.get(id) {
                Some((service, Target::Http(upstream))) => {
                    let info = ServiceInfo { id: service.id.0, name: service.name.as_deref().map(Into::into) };
                    service.enabled.then(|| (Arc::clone(upstream), Arc::new(info)))
                }
                Some(_) => return Err("split: not a service of protocol http, https, grpc or grpcs".to_owned()),
                None => return Err("split: there is no such service".to_owned()),
            };
            Ok(Part { until, to })
        };
        let parts = split.services.iter().map(part).collect::<Result<_, _>>()?;
        Ok(Self { parts, hash_on: split.hash_on.clone() })
    }
}

impl Exchange {
    /// The service that gets this request, if it is not the route's own; from now on it is the request's.
    pub(crate) fn split(&mut self) -> Option<Arc<Upstream>> {
        let splitting = self.route()?.split.as_deref()?;
        let random = self.cx.request_id.value();
        let hashed = hashed(&splitting.hash_on, &self.hashed_request(), random);
        #[allow(clippy::cast_possible_truncation)] // half of the random bits are enough
        let (number, cookie) = hashed.map_or((random as u64, None), |key| (key.hash, key.cookie));
        let number = random::mix(number ^ OF_SPLITS);
        let part = splitting.parts.iter().find(|part| part.until.holds(number));
        let to = part.and_then(|part| part.to.clone());
        self.cookie = cookie;
        let (upstream, service) = to?;
        self.cx.service = Some(service);
        Some(upstream)
    }

    /// The request as it is hashed.
    pub(crate) fn hashed_request(&self) -> HashedRequest<'_> {
        let path =
            self.normal_path.as_deref().unwrap_or_else(|| self.asked.as_ref().unwrap_or(&self.cx.request.uri).path());
        let routed = self.found.map(|found| (&self.snapshot.router, found));
        HashedRequest { cx: &self.cx, path, routed }
    }
}
