//! The whole generator against the relay: a run over an honest one is clean, and each way to cheat is noticed.

use std::time::Duration;

use super::backlog::Backlog;
use super::load::{Acks, Flow, Gather, Load, Shape, Timing};
use super::pace::Pace;
use super::relay::{self, Fault};
use super::run::{self, Outcome};
use crate::error::Result;

const TIMING: Timing = Timing {
    warm_up: Duration::from_millis(10),
    window: Duration::from_millis(50),
    patience: Duration::from_millis(500),
};
const MANUAL: Acks = Acks::Manual { prefetch: 2000, batch: 100 };

fn confirmed(shape: Shape, window: u64) -> Load {
    Load { shape, body_size: 64, durable: true, flow: Flow::Confirmed { window }, acks: MANUAL, gather: None }
}

fn unconfirmed(shape: Shape) -> Load {
    let gather = Some(Gather(Duration::from_micros(200)));
    let flow = Flow::Unconfirmed { in_flight_max: 1000 };
    Load { shape, body_size: 16, durable: false, flow, acks: Acks::Auto, gather }
}

fn run(load: &Load, fault: Fault) -> Result<Outcome> {
    run::run(relay::start(fault), std::process::id(), load, TIMING)
}

/// What is counted of an honest server. A busy machine may do nothing at all in a short window, so there are longer ones.
fn counted(load: &Load) -> Outcome {
    for times in [1, 10, 100] {
        let timing = Timing { window: TIMING.window * times, ..TIMING };
        let outcome = run::run(relay::start(Fault::None), std::process::id(), load, timing).unwrap();
        assert!(outcome.verdict.is_clean(), "{}", outcome.verdict);
        if outcome.operations > 0 {
            return outcome;
        }
    }
    panic!("nothing is counted");
}

/// What is said about a server with `fault`.
fn complaint(load: &Load, fault: Fault) -> String {
    match run(load, fault) {
        Ok(outcome) => panic!("{fault:?} was not noticed: {}", outcome.verdict),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_honest_server_passes_with_window_one_and_many() {
    for window in [1, 1000] {
        let outcome = counted(&confirmed(Shape::SINGLE, window));
        assert!(outcome.latencies.quantile(0.5).is_some() && outcome.used.elapsed >= TIMING.window);
    }
}

#[test]
fn an_honest_server_passes_without_confirms() {
    counted(&unconfirmed(Shape::SINGLE));
}

#[test]
fn many_lanes_of_many_queues_count_together() {
    let outcome = counted(&confirmed(Shape::Lanes { lanes: 3, queues: 7 }, 100));
    assert!(outcome.verdict.published >= outcome.operations);
}

#[test]
fn a_fan_out_counts_each_delivery() {
    let outcome = counted(&unconfirmed(Shape::Fanout { queues: 4 }));
    assert!(outcome.verdict.published.is_multiple_of(4), "published once, seen by each of the four");
}

#[test]
fn a_paced_run_keeps_its_pace_and_times_each_message() {
    for confirms in [false, true] {
        let flow = Flow::Paced { pace: Pace { per_second: 2_000, batch: 1 }, confirms };
        let load = Load { flow, gather: None, ..confirmed(Shape::SINGLE, 1) };
        let outcome = counted(&load);
        // At most what is due by the schedule, late wake-ups included; a run that spins would publish far more.
        let most = outcome.used.elapsed + TIMING.warm_up + Duration::from_secs(1);
        assert!((1..=(most.as_secs_f64() * 2_000.0) as u64).contains(&outcome.verdict.published));
        let median = outcome.latencies.quantile(0.5).unwrap();
        assert!(median > Duration::ZERO && median < Duration::from_secs(1), "{median:?}");
    }
}

#[test]
fn a_message_lost_doubled_or_swapped_on_the_wire_fails_the_run() {
    let load = &confirmed(Shape::SINGLE, 100);
    assert!(complaint(load, Fault::Duplicate(7)).contains("1 duplicated"));
    assert!(complaint(load, Fault::Swap(7)).contains("1 reordered"));
    assert!(complaint(load, Fault::Lose(7)).contains("1 lost"));
    assert!(complaint(load, Fault::Damage(64)).contains("never sent"));
    assert!(complaint(load, Fault::ConfirmTwice(7)).contains("not outstanding"));
}

#[test]
fn each_lane_and_each_copy_is_checked() {
    let lanes = &confirmed(Shape::Lanes { lanes: 2, queues: 3 }, 100);
    assert!(complaint(lanes, Fault::Lose(7)).contains("1 lost"));
    assert!(complaint(lanes, Fault::Duplicate(7)).contains("1 duplicated"));
    let one_lane = &confirmed(Shape::Lanes { lanes: 1, queues: 3 }, 100);
    assert!(complaint(one_lane, Fault::Misroute(7)).contains("came from queue 2"));
    let fanout = &unconfirmed(Shape::Fanout { queues: 3 });
    assert!(complaint(fanout, Fault::Lose(7)).contains("3 lost"));
    let paced = Flow::Paced { pace: Pace { per_second: 5_000, batch: 1 }, confirms: true };
    let paced = &Load { flow: paced, ..confirmed(Shape::SINGLE, 1) };
    assert!(complaint(paced, Fault::Lose(7)).contains("1 lost"));
}

#[test]
fn a_backlog_is_counted_before_and_checked_while_it_is_drained() {
    let publish = |address| Backlog::publish(address, 500, MANUAL, TIMING.patience);
    let drain = |fault| {
        let address = relay::start(fault);
        publish(address).and_then(|backlog| backlog.drain(address, std::process::id()))
    };
    assert!(drain(Fault::None).unwrap().messages >= 500);
    let complaint = |fault| drain(fault).map(|drained| drained.messages).unwrap_err().to_string();
    assert!(complaint(Fault::Lose(7)).contains("lie in the queue"));
    assert!(complaint(Fault::Swap(7)).contains("1 reordered"));
}
