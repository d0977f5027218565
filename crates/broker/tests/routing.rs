//! Routing through graphs of exchanges against the rule written down plainly.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use model::Value;
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::{World, table};

const EXCHANGES: usize = 5;
const QUEUES: usize = 4;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// A binding: from an exchange, by a key, to an exchange or (beyond those) a queue.
type Edge = (usize, usize, usize);

#[derive(Debug, Clone)]
struct Graph {
    fanout: Vec<bool>,
    alternate: Vec<Option<usize>>,
    edges: Vec<Edge>,
}

fn graphs() -> impl Strategy<Value = Graph> {
    let edge = (0..EXCHANGES, 0..KEYS.len(), 0..EXCHANGES + QUEUES);
    (
        prop::collection::vec(any::<bool>(), EXCHANGES),
        prop::collection::vec(prop::option::of(0..EXCHANGES), EXCHANGES),
        prop::collection::vec(edge, 0..16),
    )
        .prop_map(|(fanout, alternate, edges)| Graph { fanout, alternate, edges })
}

/// The queues a publish reaches, by the rule.
fn expected(graph: &Graph, at: usize, key: usize, visited: &mut BTreeSet<usize>, found: &mut BTreeSet<usize>) {
    if !visited.insert(at) {
        return;
    }
    let matching: Vec<usize> = graph
        .edges
        .iter()
        .filter(|(from, k, _)| *from == at && (graph.fanout[at] || *k == key))
        .map(|(_, _, to)| *to)
        .collect();
    for to in &matching {
        if *to >= EXCHANGES {
            found.insert(to - EXCHANGES);
        } else {
            expected(graph, *to, key, visited, found);
        }
    }
    if let (true, Some(alternate)) = (matching.is_empty(), graph.alternate[at]) {
        expected(graph, alternate, key, visited, found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_publish_reaches_each_queue_once_by_the_rule(graph in graphs()) {
        let world = World::new();
        let mut client = world.client();
        for i in 0..QUEUES {
            client.declare(&format!("q{i}"));
        }
        for i in 0..EXCHANGES {
            let kind = if graph.fanout[i] { "fanout" } else { "direct" };
            client.exchange_as(&format!("e{i}"), kind, |e| {
                if let Some(alternate) = graph.alternate[i] {
                    e.arguments = table(&[("alternate-exchange", Value::text(&format!("e{alternate}")))]);
                }
            });
        }
        for (from, key, to) in &graph.edges {
            let to = if *to < EXCHANGES { format!("exchange e{to}") } else { format!("q{}", to - EXCHANGES) };
            prop_assert_eq!(client.bind(&format!("e{from}"), &to, KEYS[*key]), "Bound");
        }
        for from in 0..EXCHANGES {
            for (k, key) in KEYS.iter().enumerate() {
                let mut found = BTreeSet::new();
                expected(&graph, from, k, &mut BTreeSet::new(), &mut found);
                client.publish_safely(&format!("e{from}"), key, "m");
                let told = client.events();
                prop_assert_eq!(told.contains("returned"), found.is_empty(), "e{} {}", from, key);
                for i in 0..QUEUES {
                    let wanted = if found.contains(&i) { "m" } else { "" };
                    prop_assert_eq!(client.take_all(&format!("q{i}")), wanted, "e{} {} q{}", from, key, i);
                }
            }
        }
    }
}
