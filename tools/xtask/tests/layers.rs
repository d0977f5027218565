//! The layers of `docs/ARCHITECTURE.md`, checked against `cargo metadata`: who uses whom, who is pure, and that every
//! file says what it is.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// What a pure crate may not depend on, nor reach through a crate outside the workspace.
const IMPURE: [&str; 6] = ["tokio", "mio", "getrandom", "rand", "socket2", "chrono"];

fn metadata() -> Value {
    // For one platform: what only others need is not on a fresh machine.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

struct Crate {
    dependencies: BTreeSet<String>,
    dir: String,
}

/// The product's crates by their short names, with the short names of the product crates they use.
fn crates(metadata: &Value) -> BTreeMap<String, Crate> {
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let Some((_, rest)) = manifest.split_once("/crates/") else {
            continue;
        };
        if !package["source"].is_null() {
            continue;
        }
        let name = rest.split('/').next().expect("a folder").to_owned();
        let dependencies = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(|d| d["name"].as_str().expect("a name").trim_start_matches("sluicegate-").to_owned())
            .collect();
        let dir = manifest.trim_end_matches("/Cargo.toml").to_owned();
        crates.insert(name, Crate { dependencies, dir });
    }
    crates
}

#[test]
fn crates_use_only_what_their_layer_allows() {
    let metadata = metadata();
    let crates = crates(&metadata);
    let layers = metadata["metadata"]["layers"].as_object().expect("workspace.metadata.layers");
    assert_eq!(crates.keys().collect::<Vec<_>>(), layers.keys().collect::<Vec<_>>(), "each crate has its layer");
    let layer = |name: &str| layers[name]["layer"].as_u64().expect("a layer");
    for (name, krate) in &crates {
        let uses: BTreeSet<&str> =
            layers[name.as_str()]["uses"].as_array().expect("uses").iter().filter_map(Value::as_str).collect();
        for used in &uses {
            assert!(layer(used) < layer(name), "{name} may not list {used}: not of a lower layer");
        }
        for dependency in krate.dependencies.iter().filter(|d| crates.contains_key(*d)) {
            assert!(uses.contains(dependency.as_str()), "{name} uses {dependency}, which its layer does not allow");
        }
    }
}

#[test]
fn pure_crates_have_no_runtime_clock_or_random_numbers() {
    let metadata = metadata();
    let crates = crates(&metadata);
    for (name, krate) in &crates {
        if metadata["metadata"]["layers"][name]["pure"] != true {
            continue;
        }
        for impure in IMPURE {
            assert!(!krate.dependencies.contains(impure), "{name} is pure and may not use {impure}");
        }
        for_each_source(Path::new(&krate.dir), &mut |path, text| {
            // The real disk is the one place of a pure crate that touches files and the threads that wait for them.
            let is_disk = name == "storage" && path.contains("/disk");
            for word in
                ["Instant::now", "SystemTime::now()", "std::fs::", "std::net::Tcp", "std::net::Udp", "thread_rng"]
            {
                assert!(is_disk || !text.contains(word), "{path}: a pure crate may not use {word}");
            }
        });
    }
}

#[test]
fn the_locks_of_the_storage_engine_can_be_those_of_a_model() {
    let crates = crates(&metadata());
    for_each_source(Path::new(&crates["storage"].dir), &mut |path, text| {
        let may = path.ends_with("/sync.rs") || path.contains("/sim/");
        assert!(
            may || !text.contains("parking_lot::"),
            "{path}: locks come from `crate::sync`, so that loom sees them"
        );
    });
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for (_, krate) in crates(&metadata()) {
        for_each_source(Path::new(&krate.dir), &mut |path, text| {
            assert!(text.starts_with("//!"), "{path} does not open with `//!`");
            let lines = text.lines().count();
            assert!(lines <= 1000, "{path} has {lines} lines: more than one idea");
        });
    }
}

/// Calls `each` for every source file of a crate, tests apart.
fn for_each_source(dir: &Path, each: &mut dyn FnMut(&str, &str)) {
    let mut pending = vec![dir.join("src")];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a text");
                let shown = path.to_string_lossy();
                if !shown.ends_with("/tests.rs") {
                    each(&shown, &text);
                }
            }
        }
    }
}
