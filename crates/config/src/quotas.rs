//! `broker.quotas`: how many messages a second may be published and consumed.

use model::limits::{QUOTA_RATE_MAX, QUOTAS_MAX};
use model::quotas::{QuotaDef, QuotaScope};

use crate::definitions::pattern;
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::tree::Node;

/// A list of `{scope, match, publish, consume, burst}`.
pub(crate) fn quotas(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Vec<QuotaDef>> {
    let quotas = check.list_of(node, place, |check, node, _| quota(check, node))?;
    if quotas.len() > QUOTAS_MAX {
        let problem = Problem::new(node.at, format!("{place} holds {} quotas", quotas.len()));
        check.report(problem.expected(format!("at most {QUOTAS_MAX}; one can match many names")));
    }
    Some(quotas)
}

fn quota(check: &mut Check<'_>, node: &Node) -> Option<QuotaDef> {
    let mut map = check.map(node, "a quota")?;
    let scope = map.required(check, "scope", "user", |check, node, place| check.word(node, place, &QuotaScope::WORDS));
    let matches = map.get(check, "match", pattern);
    let publish = messages(check, &mut map, "publish");
    let consume = messages(check, &mut map, "consume");
    let burst = messages(check, &mut map, "burst");
    let limits = node.get("publish").is_some() || node.get("consume").is_some();
    if !limits && !map.has_unknown() {
        let problem = Problem::new(map.at(), "a quota limits nothing");
        check.report(problem.expected("`publish`, `consume` or both, in messages a second"));
    }
    map.finish(check);
    Some(QuotaDef { scope: scope?, matches: matches.unwrap_or_default(), publish, consume, burst })
}

/// Messages, or messages a second.
fn messages(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, key: &'static str) -> Option<u32> {
    let max = i64::from(QUOTA_RATE_MAX);
    map.get(check, key, |check, node, place| check.int(node, place, 1, max)).and_then(|n| u32::try_from(n).ok())
}
