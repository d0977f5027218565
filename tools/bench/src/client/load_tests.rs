//! The whole generator against the relay: a run over an honest one is clean, and each way to cheat is noticed.

use std::time::Duration;

use super::load::{self, Acks, Flow, Gather, Load, Outcome, Timing};
use super::relay::{self, Fault};
use crate::error::Result;

const TIMING: Timing = Timing {
    warm_up: Duration::from_millis(10),
    window: Duration::from_millis(50),
    patience: Duration::from_millis(500),
};

fn confirmed(window: u64) -> Load {
    Load {
        body_size: 64,
        durable: true,
        flow: Flow::Confirmed { window },
        acks: Acks::Manual { prefetch: 2000, batch: 100 },
        gather: None,
    }
}

fn run(load: &Load, fault: Fault) -> Result<Outcome> {
    load::run(relay::start(fault), std::process::id(), load, TIMING)
}

fn complaint(fault: Fault) -> String {
    match run(&confirmed(100), fault) {
        Ok(outcome) => panic!("{fault:?} was not noticed: {}", outcome.verdict),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_honest_server_passes_with_window_one_and_many() {
    for window in [1, 1000] {
        let outcome = run(&confirmed(window), Fault::None).unwrap();
        assert!(outcome.verdict.is_clean() && outcome.operations > 0);
        assert!(outcome.latencies.quantile(0.5).is_some());
        assert!(outcome.used.elapsed >= TIMING.window);
    }
}

#[test]
fn an_honest_server_passes_without_confirms() {
    let gather = Some(Gather(Duration::from_micros(200)));
    let flow = Flow::Unconfirmed { in_flight_max: 1000 };
    let load = Load { body_size: 16, durable: false, flow, acks: Acks::Auto, gather };
    let outcome = run(&load, Fault::None).unwrap();
    assert!(outcome.verdict.is_clean() && outcome.operations > 0);
}

#[test]
fn a_message_lost_doubled_or_swapped_on_the_wire_fails_the_run() {
    assert!(complaint(Fault::Duplicate(7)).contains("1 duplicated"));
    assert!(complaint(Fault::Swap(7)).contains("1 reordered"));
    assert!(complaint(Fault::Lose(7)).contains("1 lost"));
    assert!(complaint(Fault::Damage(64)).contains("never sent"));
    assert!(complaint(Fault::ConfirmTwice(7)).contains("not outstanding"));
}
