//! Upstreams: health of each address, load, breakers, catalogues.

use super::Page;
use gateway::Gateway;
use gateway::balancer::{BreakerState, CatalogueState, HealthWord, UpstreamView};
use model::Mono;
use std::fmt;

pub(super) fn encode(page: &mut Page<'_>, gateway: &Gateway, now: Mono) -> fmt::Result {
    let mut views: Vec<UpstreamView> = gateway.balancers().iter().map(|balancer| balancer.view(now)).collect();
    if views.is_empty() {
        return Ok(());
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = rows(&views);
    page.gauges(
        "sluicegate_upstream_address_up",
        "Whether requests are sent to an address: 1, or 0 while health checks or an ejection take it out",
        rows.iter()
            .filter(|row| row.health != HealthWord::DnsError)
            .map(|row| (row.labels(), i64::from(row.health != HealthWord::Unhealthy))),
    )?;
    page.gauges(
        "sluicegate_upstream_address_requests",
        "Requests under way to an address",
        rows.iter().filter(|row| row.health != HealthWord::DnsError).map(|row| (row.labels(), row.in_flight.into())),
    )?;
    let each = |value: fn(&UpstreamView) -> i64| {
        views.iter().map(move |view| (vec![("upstream", view.name.as_str())], value(view)))
    };
    page.gauges("sluicegate_upstream_requests", "Requests under way", each(|view| view.requests.into()))?;
    page.gauges("sluicegate_upstream_retries", "Retries under way", each(|view| view.retries.into()))?;
    page.gauges(
        "sluicegate_upstream_requests_pending",
        "Requests that wait for their turn",
        each(|view| i64::try_from(view.pending).unwrap_or(i64::MAX)),
    )?;
    page.counters(
        "sluicegate_upstream_ejections",
        "Times an address was ejected",
        views.iter().map(|view| (vec![("upstream", view.name.as_str())], view.ejections)),
    )?;
    let breakers = views.iter().filter_map(|view| {
        let state = match view.breaker? {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        Some((vec![("upstream", view.name.as_str())], state))
    });
    page.gauges("sluicegate_upstream_breaker", "The breaker: 0 closed, 1 half-open, 2 open", breakers)?;
    if gateway.snapshot().routes().any(|route| route.stats.export().upstream_health) {
        kong(page, &rows)?;
    }
    catalogues(page, &views)
}

/// The family of Kong's plugin: of an address and its possible states the one it is in is 1.
fn kong(page: &mut Page<'_>, rows: &[Row<'_>]) -> fmt::Result {
    const STATES: [(HealthWord, &str); 4] = [
        (HealthWord::HealthchecksOff, "healthchecks_off"),
        (HealthWord::Healthy, "healthy"),
        (HealthWord::Unhealthy, "unhealthy"),
        (HealthWord::DnsError, "dns_error"),
    ];
    page.gauges(
        "kong_upstream_target_health",
        "Which state a target of an upstream is in: that one is 1, the others are 0",
        rows.iter().flat_map(|row| {
            STATES.map(|(word, state)| {
                let mut labels = row.labels();
                labels.extend([("state", state), ("subsystem", "http")]);
                (labels, i64::from(row.health == word))
            })
        }),
    )
}

/// The catalogues that list targets of upstreams.
fn catalogues(page: &mut Page<'_>, views: &[UpstreamView]) -> fmt::Result {
    let all: Vec<(Vec<(&str, &str)>, &CatalogueState)> = views
        .iter()
        .filter_map(|view| {
            let (kind, state) = view.catalogue.as_ref()?;
            Some((vec![("upstream", view.name.as_str()), ("type", *kind)], state))
        })
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    page.gauges(
        "sluicegate_catalogue_up",
        "Whether a catalogue gave a good answer when it was last asked",
        all.iter().map(|(labels, state)| (labels.clone(), i64::from(state.error.is_none() && state.answers > 0))),
    )?;
    let instances = all.iter().filter_map(|(labels, state)| Some((labels.clone(), state.instances?)));
    page.gauges(
        "sluicegate_catalogue_instances",
        "Instances that a catalogue listed in its last good answer",
        instances.map(|(labels, count)| (labels, i64::try_from(count).unwrap_or(i64::MAX))),
    )?;
    page.counters(
        "sluicegate_catalogue_answers",
        "Good answers of a catalogue",
        all.iter().map(|(labels, state)| (labels.clone(), state.answers)),
    )?;
    page.counters(
        "sluicegate_catalogue_failures",
        "Times a catalogue gave no good answer",
        all.iter().map(|(labels, state)| (labels.clone(), state.failures)),
    )
}

struct Row<'a> {
    upstream: &'a str,
    target: String,
    address: String,
    health: HealthWord,
    in_flight: u32,
}

impl Row<'_> {
    fn labels(&self) -> Vec<(&str, &str)> {
        vec![("upstream", self.upstream), ("target", &self.target), ("address", &self.address)]
    }
}

fn rows(views: &[UpstreamView]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for view in views {
        for target in &view.targets {
            rows.extend(target.addresses.iter().map(|address| Row {
                upstream: &view.name,
                target: target.target.to_string(),
                address: format!("{}:{}", address.host, address.port),
                health: address.health,
                in_flight: address.in_flight,
            }));
            // A name without addresses is in a state too.
            if target.addresses.is_empty() {
                let (target, health) = (target.target.to_string(), target.health);
                rows.push(Row { upstream: &view.name, target, address: String::new(), health, in_flight: 0 });
            }
        }
    }
    rows
}
