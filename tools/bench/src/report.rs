//! The result of a run of the tool: gathered over the rounds, then shown as one table or as JSON.

use std::collections::BTreeMap;

use comfy_table::{Cell as TableCell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use crate::cells::{Cell, Side};
use crate::figures::{Bound, Figure, Figures, Floor};

/// CPU share of others above which figures are not to be trusted; the kernel's own threads stay below it.
const FOREIGN_PERCENT_MAX: f64 = 15.0;

/// All figures of all rounds, and what went wrong.
#[derive(Default)]
pub(crate) struct Report {
    rounds: BTreeMap<(Cell, Side), Vec<Figures>>,
    /// Sentences to be read with the table.
    pub(crate) notes: Vec<String>,
    /// Runs that failed: a message lost, a server that died.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// Adds one run.
    pub(crate) fn add(&mut self, cell: Cell, side: Side, figures: Figures) {
        self.rounds.entry((cell, side)).or_default().push(figures);
    }

    fn median(&self, cell: Cell, side: Side) -> Option<Figures> {
        Figures::median(self.rounds.get(&(cell, side))?)
    }

    /// A run that failed, and why. Its round stays, so that each of the others is compared with its own.
    pub(crate) fn fail(&mut self, cell: Cell, side: Side, why: String) {
        self.add(cell, side, Figures::default());
        self.failures.push(why);
    }

    /// Ours ÷ what it is compared with in `cell`.
    fn ratio(&self, cell: Cell, figure: Figure) -> Option<f64> {
        Figures::ratio(self.rounds.get(&(cell, Side::Ours))?, self.rounds.get(&cell.reference()?)?, figure)
    }

    fn check(&self, cell: Cell, floor: &Floor) -> Option<(f64, bool)> {
        let own = self.median(cell, Side::Ours).and_then(|ours| ours.get(floor.figure));
        floor.check(own, self.ratio(cell, floor.figure))
    }

    fn cells(&self) -> impl Iterator<Item = Cell> {
        Cell::ALL.into_iter().filter(|cell| {
            self.rounds.contains_key(&(*cell, Side::Ours)) || self.rounds.contains_key(&(*cell, Side::Theirs))
        })
    }

    /// A warning if something else kept the machine busy.
    fn disturbance(&self) -> Option<String> {
        let all = self.cells().flat_map(|cell| [(cell, Side::Ours), (cell, Side::Theirs)]);
        let disturbed = |(cell, side)| {
            let percent = self.median(cell, side)?.get(Figure::Foreign)?;
            (percent > FOREIGN_PERCENT_MAX).then(|| cell.name())
        };
        let mut names: Vec<&str> = all.filter_map(disturbed).collect();
        names.dedup();
        (!names.is_empty()).then(|| {
            format!(
                "other work used more than {FOREIGN_PERCENT_MAX} % of the CPUs during {}; do not quote",
                names.join(", ")
            )
        })
    }

    /// The rows of a cell: each side, then ours against what it is compared with. Floors stand in the last one.
    fn rows(&self, cell: Cell, columns: &[Figure]) -> Vec<Vec<TableCell>> {
        let (ours, theirs) = (self.median(cell, Side::Ours), self.median(cell, Side::Theirs));
        let floors: Vec<String> =
            cell.floors().iter().map(|floor| floor_text(floor, self.check(cell, floor))).collect();
        let floors = floors.join("; ");
        let ratio_label = cell.reference().map(|reference| match reference {
            (other, Side::Ours) => format!("÷ our {}", other.name()),
            _ => "ratio".to_owned(),
        });
        let mut rows = Vec::new();
        for (server, figures) in [("Sluicegate", &ours), (cell.peer(), &theirs)] {
            let Some(figures) = figures else { continue };
            let values = columns.iter().map(|column| figures.get(*column).map_or_else(String::new, number));
            rows.push(row(cell.name(), server, values, if ratio_label.is_some() { "" } else { &floors }));
        }
        if let (Some(label), Some(_)) = (ratio_label, &ours) {
            let ratios = columns.iter().map(|column| ratio_text(*column, self.ratio(cell, *column)));
            rows.push(row(cell.name(), &label, ratios, &floors));
        }
        rows
    }

    /// The table for people, notes and failures below it.
    pub(crate) fn to_text(&self) -> String {
        let measured = |figure| self.rounds.values().flatten().any(|figures| figures.get(figure).is_some());
        let columns: Vec<Figure> = Figure::ALL.into_iter().filter(|figure| measured(*figure)).collect();
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        let headings = columns.iter().map(|figure| figure.heading());
        table.set_header(["cell", "server"].into_iter().chain(headings).chain(["floor"]));
        for cell in self.cells() {
            table.add_rows(self.rows(cell, &columns));
        }
        let mut text = format!("{table}\n");
        if let Some(warning) = self.disturbance() {
            text.push_str(&format!("note: {warning}\n"));
        }
        for (label, lines) in [("note", &self.notes), ("FAILED", &self.failures)] {
            for line in lines {
                text.push_str(&format!("{label}: {line}\n"));
            }
        }
        text
    }

    /// The same for machines, with every round.
    pub(crate) fn to_json(&self) -> Value {
        let side = |cell: Cell, side: Side| {
            let rounds: Vec<Value> = self.rounds.get(&(cell, side)).into_iter().flatten().map(figures_json).collect();
            self.median(cell, side).map(|median| json!({ "median": figures_json(&median), "rounds": rounds }))
        };
        let cells = self.cells().map(|cell| {
            let floors = cell.floors().iter().map(|floor| floor_json(floor, self.check(cell, floor)));
            json!({
                "cell": cell.name(),
                "peer": cell.peer(),
                "ours": side(cell, Side::Ours),
                "theirs": side(cell, Side::Theirs),
                "floors": floors.collect::<Vec<_>>(),
            })
        });
        json!({ "cells": cells.collect::<Vec<_>>(), "notes": self.notes, "failures": self.failures })
    }
}

fn row(cell: &str, server: &str, values: impl Iterator<Item = String>, floor: &str) -> Vec<TableCell> {
    let values = values.map(|value| TableCell::new(value).set_alignment(CellAlignment::Right));
    [cell, server].into_iter().map(TableCell::new).chain(values).chain([TableCell::new(floor)]).collect()
}

/// Three significant digits, thousands separated.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (mut out, text) = text.strip_prefix('-').map_or((String::new(), &*text), |size| ("-".to_owned(), size));
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn ratio_text(figure: Figure, ratio: Option<f64>) -> String {
    match ratio.filter(|_| figure.is_compared()) {
        Some(ratio) => format!("{}×", number(ratio)),
        None => String::new(),
    }
}

/// Figure, relation and bound of a floor, in words.
fn floor_name(floor: &Floor) -> String {
    let (relation, bound, unit) = match floor.bound {
        Bound::RatioAtLeast(bound) => ("≥", bound, "×"),
        Bound::RatioAtMost(bound) => ("≤", bound, "×"),
        Bound::AtMost(bound) => ("≤", bound, ""),
    };
    format!("{} {relation} {bound}{unit}", floor.figure.heading())
}

fn floor_text(floor: &Floor, checked: Option<(f64, bool)>) -> String {
    let verdict = match checked {
        Some((_, true)) => "met",
        Some((_, false)) => "MISSED",
        None => "not measured",
    };
    format!("{}: {verdict}", floor_name(floor))
}

fn floor_json(floor: &Floor, checked: Option<(f64, bool)>) -> Value {
    json!({
        "figure": floor.figure.key(),
        "floor": floor_name(floor),
        "value": checked.map(|(value, _)| value),
        "met": checked.map(|(_, met)| met),
    })
}

fn figures_json(figures: &Figures) -> Value {
    Value::Object(figures.iter().map(|(figure, value)| (figure.key().to_owned(), json!(value))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for (side, rate, cpu) in [(Side::Ours, 400_000.0, 2.5), (Side::Theirs, 40_000.0, 10.0)] {
            let mut figures = Figures::default();
            figures.set(Figure::Rate, rate).set(Figure::Cpu, cpu);
            report.add(Cell::B, side, figures);
        }
        report
    }

    #[test]
    fn the_table_shows_both_sides_ratios_and_floors() {
        let text = report().to_text();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
        assert_eq!(lines[0], ["cell", "server", "rate /s", "CPU µs/op", "floor"]);
        assert_eq!(lines[2], ["b", "Sluicegate", "400,000", "2.50"]);
        assert_eq!(lines[3], ["b", "RabbitMQ", "40,000", "10.0"]);
        let floors = "rate /s ≥ 8×: met; CPU µs/op ≤ 0.125×: MISSED";
        assert_eq!(lines[4], ["b", "ratio", "10.0×", "0.25×", floors]);
    }

    #[test]
    fn ten_thousand_queues_are_compared_with_our_own_ten() {
        let mut report = Report::default();
        for (cell, rate) in [(Cell::C, 400_000.0), (Cell::C10k, 380_000.0)] {
            let mut figures = Figures::default();
            figures.set(Figure::Rate, rate);
            report.add(cell, Side::Ours, figures);
        }
        let text = report.to_text();
        let last = text.lines().last().unwrap();
        assert!(last.contains("c10k") && last.contains("0.95×") && last.contains("rate /s ≥ 0.9×: met"), "{text}");
        assert_eq!(report.to_json()["cells"][1]["floors"][0]["met"], true);
    }

    #[test]
    fn a_cell_of_ours_alone_has_one_row() {
        let mut report = Report::default();
        let mut figures = Figures::default();
        figures.set(Figure::Ready, 2_500.0);
        report.add(Cell::Recovery, Side::Ours, figures);
        let text = report.to_text();
        assert_eq!(text.lines().count(), 3, "heading, rule, row: {text}");
        assert!(text.contains("ready ms ≤ 2000: MISSED"), "{text}");
    }

    #[test]
    fn a_busy_machine_is_mentioned() {
        let mut report = report();
        assert!(!report.to_text().contains("do not quote"));
        let mut figures = Figures::default();
        figures.set(Figure::Foreign, 40.0);
        report.add(Cell::E, Side::Theirs, figures);
        assert!(report.to_text().contains("during e; do not quote"));
    }

    #[test]
    fn json_holds_medians_rounds_and_floors() {
        let json = report().to_json();
        let cell = &json["cells"][0];
        assert_eq!(cell["ours"]["median"]["rate_per_s"], 400_000.0);
        assert_eq!(cell["theirs"]["rounds"].as_array().unwrap().len(), 1);
        assert_eq!((&cell["floors"][0]["met"], &cell["floors"][1]["met"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown: Vec<String> = [0.137, 9.996, 12.34, 999.4, 1_234_567.0, -123.4].into_iter().map(number).collect();
        assert_eq!(shown, ["0.14", "10.00", "12.3", "999", "1,234,567", "-123"]);
    }
}
