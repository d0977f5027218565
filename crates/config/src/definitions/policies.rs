//! Policies, and operator policies, which RabbitMQ exports as parameters.

use broker::PolicyMistake;
use model::Table;
use model::definitions::{ApplyTo, PolicyDef};

use super::access::pattern;
use super::{Names, arguments, in_vhost, model_value, short_name, titled};
use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::suggest::{nearest, one_of};
use crate::tree::{Node, Value};

/// What a policy can be for.
const APPLY_TO: [(&str, ApplyTo); 6] = [
    ("all", ApplyTo::All),
    ("queues", ApplyTo::Queues),
    ("exchanges", ApplyTo::Exchanges),
    ("classic_queues", ApplyTo::ClassicQueues),
    ("quorum_queues", ApplyTo::QuorumQueues),
    ("streams", ApplyTo::Streams),
];

/// What policies of both kinds have in common.
struct Rule {
    pattern: Option<String>,
    apply_to: ApplyTo,
    priority: i64,
    definition: Option<Table>,
}

pub(super) fn policy(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<PolicyDef> {
    let what = titled("policy", node, "name");
    let mut map = check.map(node, &what)?;
    let name = map.required(check, "name", "ttl", short_name);
    let vhost = in_vhost(check, &mut map, node, names);
    let rule = rule(check, &mut map, node, &what, false);
    map.finish(check);
    let (name, vhost) = (name?, vhost?);
    let key = (vhost.clone(), name.clone());
    let new = names
        .policies
        .first(check, key, node.at_value("name"), || format!("the policy `{name}` is given twice in vhost `{vhost}`"));
    new.then(|| made(vhost, name, rule)).flatten()
}

/// `{component: operator_policy, name, vhost, value: {…}}`.
pub(super) fn operator_policy(check: &mut Check<'_>, node: &Node, names: &mut Names) -> Option<PolicyDef> {
    let what = titled("operator policy", node, "name");
    let mut map = check.map(node, &what)?;
    map.ignore(&["component"]);
    let name = map.required(check, "name", "ttl", short_name);
    let vhost = in_vhost(check, &mut map, node, names);
    let rule = map.required(check, "value", "{ pattern: \".*\", definition: {} }", |check, node, _| {
        let mut map = check.map(node, &what)?;
        let rule = rule(check, &mut map, node, &what, true);
        map.finish(check);
        Some(rule)
    });
    map.finish(check);
    let (name, vhost) = (name?, vhost?);
    let key = (vhost.clone(), name.clone());
    let new = names.operator_policies.first(check, key, node.at_value("name"), || {
        format!("the operator policy `{name}` is given twice in vhost `{vhost}`")
    });
    rule.filter(|_| new).and_then(|rule| made(vhost, name, rule))
}

fn made(vhost: String, name: String, rule: Rule) -> Option<PolicyDef> {
    let (pattern, definition) = (rule.pattern?, rule.definition?);
    Some(PolicyDef { vhost, name, pattern, apply_to: rule.apply_to, priority: rule.priority, definition })
}

fn rule(check: &mut Check<'_>, map: &mut MapReader<'_, '_>, node: &Node, what: &str, operator: bool) -> Rule {
    let pattern = map.required(check, "pattern", "\".*\"", pattern);
    let apply_to = map.get(check, "apply-to", |check, node, place| check.word(node, place, &APPLY_TO));
    let priority = map.get(check, "priority", |check, node, place| check.int(node, place, i64::MIN, i64::MAX));
    let definition = map.required(check, "definition", "{ message-ttl: 60000 }", definition);
    if let (Some(definition), Some(at)) = (&definition, node.get("definition")) {
        check_definition(check, definition, at, what, operator);
    }
    Rule { pattern, apply_to: apply_to.unwrap_or(ApplyTo::All), priority: priority.unwrap_or(0), definition }
}

/// A map, or as RabbitMQ 3.10 exports those of operator policies a list of pairs.
fn definition(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Table> {
    let Value::List(pairs) = &node.value else {
        return arguments(check, node, place);
    };
    let mut table = Table::new();
    for pair in pairs {
        let named = match &pair.value {
            Value::List(pair) => match pair.as_slice() {
                [key, value] => key.text().zip(model_value(value, 1)),
                _ => None,
            },
            _ => None,
        };
        let Some((key, value)) = named else {
            check.wrong_type(node, place, "a map");
            return None;
        };
        table.set(key, value);
    }
    Some(table)
}

/// Reports the keys that the broker would refuse.
fn check_definition(check: &mut Check<'_>, definition: &Table, node: &Node, what: &str, operator: bool) {
    if definition.iter().next().is_none() {
        check.report(Problem::new(node.at, format!("{what} defines nothing")).expected("at least one setting"));
    }
    for (key, mistake) in broker::Broker::check_policy(definition, operator) {
        let problem = match mistake {
            PolicyMistake::Unknown(known) => {
                let near = nearest(&key, known.iter().copied());
                Problem::new(node.at_key(&key), format!("unknown key `{key}` in the definition of {what}"))
                    .expected(one_of(known))
                    .maybe_help(near.map(|near| format!("did you mean `{near}`?")))
            }
            PolicyMistake::Unsupported => {
                Problem::new(node.at_key(&key), format!("`{key}` in the definition of {what} is not supported yet"))
            }
            PolicyMistake::Invalid(why) => {
                Problem::new(node.at_value(&key), format!("`{key}` in the definition of {what}: {why}"))
            }
        };
        check.report(problem);
    }
}
