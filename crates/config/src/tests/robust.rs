//! Large, deep, hostile and random texts: bounded, quick and never a panic.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{load_with, messages, settings};

fn many_routes(count: usize) -> String {
    let mut text = String::from("_format_version: \"3.0\"\nservices:\n");
    for i in 0..count {
        let _ = write!(
            text,
            "- name: service-{i}\n  url: http://10.0.0.1:{}\n  routes:\n  - name: route-{i}\n    methods: [GET, POST]\n    paths: [/api/{i}]\n    hosts: [h{i}.example.com]\n",
            1 + i % 60_000
        );
    }
    text
}

#[test]
fn sixty_thousand_routes_load() {
    assert_eq!(settings(&many_routes(60_000)).entities.routes.len(), 60_000);
}

#[test]
fn a_thousand_mistakes_are_shown_and_the_rest_counted() {
    let mut text = String::new();
    for i in 0..5_000 {
        let _ = writeln!(text, "wrong_{i}: 1");
    }
    let errors = load_with(&text, &[]).unwrap_err();
    assert_eq!((errors.iter().count(), errors.count()), (1_000, 5_000));
    assert!(errors.to_string().ends_with("5000 errors in the configuration, the first 1000 shown\n"));
}

#[test]
fn depth_is_bounded_also_through_aliases() {
    for text in [
        format!("a: {}", "[".repeat(100_000)),
        format!("a: {}x{}", "[".repeat(1_000), "]".repeat(1_000)),
        "- ".repeat(5_000),
        "{a: ".repeat(5_000),
    ] {
        assert_eq!(messages(&text).len(), 1);
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for i in 1..200 {
        let _ = writeln!(chain, "a{i}: &a{i} [*a{}]", i - 1);
    }
    assert!(messages(&chain)[0].contains("nested more than 64 deep"), "{:?}", messages(&chain));
}

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{i}: &a{i} [{list}]");
    }
    assert!(messages(&bomb)[0].contains("counting what aliases repeat"));
    assert!(messages("a: &a [*a]\n")[0].contains("contains it"), "{:?}", messages("a: &a [*a]\n"));
}

#[test]
fn many_duplicate_keys_are_found() {
    let keys: String = (0..100).map(|i| format!("k{}: 1\n", i % 50)).collect();
    let twice = messages(&keys).iter().filter(|message| message.contains("given twice")).count();
    assert_eq!(twice, 50);
}

/// Words that lead deep into the checks.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(
            &[
                "_format_version",
                "listen",
                "http",
                "amqp",
                "admin",
                "address",
                "tls",
                "cert",
                "storage",
                "path",
                "limits",
                "broker",
                "definitions",
                "users",
                "name",
                "password_hash",
                "permissions",
                "vhost",
                "queues",
                "arguments",
                "bindings",
                "source",
                "services",
                "routes",
                "paths",
                "hosts",
                "methods",
                "headers",
                "url",
                "host",
                "port",
                "protocol",
                "queue",
                "consumers",
                "username",
                "keyauth_credentials",
                "key",
                "plugins",
                "config",
                "key-auth",
                "rate-limiting",
                "minute",
                "subscriptions",
                "retry",
                "base",
                "dns",
                "order",
                "telemetry",
                "log",
                "level",
                "id",
                "tags",
                "service",
                "\"3.0\"",
                "null",
                "~",
                "true",
                "-1",
                "1e9",
                "0x10",
                "127.0.0.1:0",
                "http://a/b",
                "'~/('",
                "\"*.a\"",
                "1s",
                "&a",
                "*a",
                "!x",
                "|",
                ">",
                "<<",
                "é",
                "\"\\u0000\"",
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-z/~*%:. -]{0,8}",
    ]
}

/// Random lines of plausible YAML.
fn yaml_text() -> impl Strategy<Value = String> {
    let line = (0usize..6, any::<bool>(), word(), word(), 0u8..5).prop_map(|(indent, item, key, value, shape)| {
        let lead = if item { "- " } else { "" };
        let indent = " ".repeat(indent * 2);
        match shape {
            0 => format!("{indent}{lead}{key}:"),
            1 => format!("{indent}{lead}{key}: [{value}, {key}]"),
            2 => format!("{indent}{lead}{key}: {{{value}: {key}}}"),
            _ => format!("{indent}{lead}{key}: {value}"),
        }
    });
    proptest::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

/// A nested flow value: always valid YAML, with random words in every place.
fn flow_text() -> impl Strategy<Value = String> {
    // Without what would end the flow value or make it something else.
    let plain = |word: String| word.replace(['&', '*', '!', '|', '>', '%', '~', ':', '<'], "");
    let leaf = word().prop_map(plain).boxed();
    let value = leaf.clone().prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec((leaf.clone(), inner), 0..5).prop_map(|entries| format!(
                "{{{}}}",
                entries.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", ")
            )),
        ]
    });
    let key = proptest::sample::select(
        &[
            "services",
            "routes",
            "consumers",
            "plugins",
            "subscriptions",
            "listen",
            "broker",
            "limits",
            "_format_version",
        ][..],
    );
    proptest::collection::vec((key, value), 0..5)
        .prop_map(|entries| entries.iter().fold(String::new(), |text, (key, value)| format!("{text}{key}: {value}\n")))
}

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = load_with(text, &[("SLUICEGATE_LISTEN__HTTP", "127.0.0.1:0")]) {
        prop_assert!(errors.count() > 0);
        prop_assert!(errors.to_string().contains("in the configuration"));
        errors.render(true);
        errors.to_json();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lines_never_panic(text in yaml_text()) {
        never_panics(&text)?;
    }

    #[test]
    fn random_values_never_panic(text in flow_text()) {
        never_panics(&text)?;
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        never_panics(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn garbage_in_variables_never_panics(name in "[A-Z_0-9]{0,20}", value in "\\PC{0,40}") {
        let name = format!("SLUICEGATE_{name}");
        let loaded = load_with("", &[(&name, &value), ("SLUICEGATE_SERVICES__0__ROUTES__0__PATHS", &value)]);
        prop_assert!(loaded.is_ok() || loaded.is_err_and(|errors| !errors.to_string().is_empty()));
    }
}
