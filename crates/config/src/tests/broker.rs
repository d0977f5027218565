//! Definitions: inline, in a file, as RabbitMQ exports them, and wrong.

// What is shown is long.
#![allow(clippy::too_many_lines)]

use std::fs;
use std::path::Path;

use expect_test::expect;
use model::Value;
use model::definitions::{DestinationType, PasswordDef, PasswordHash};

use super::{REGISTRY, report, settings};
use crate::load_text;

/// An export of RabbitMQ 3.10, shortened.
const EXPORT: &str = r#"{"rabbit_version":"3.10.8","rabbitmq_version":"3.10.8","product_name":"RabbitMQ","product_version":"3.10.8",
"users":[{"name":"guest","password_hash":"EcdAGDmBQHqAgQzWqXPWSMB6OWJfHjzCKsyBMcNlGM6Rc3Ba","hashing_algorithm":"rabbit_password_hashing_sha256","tags":["administrator"],"limits":{}}],
"vhosts":[{"name":"/"},{"name":"shop"}],
"permissions":[{"user":"guest","vhost":"/","configure":".*","write":".*","read":".*"}],
"topic_permissions":[],"parameters":[],
"global_parameters":[{"name":"cluster_name","value":"rabbit@a"},{"name":"internal_cluster_id","value":"x"}],
"policies":[],
"queues":[{"name":"orders","vhost":"shop","durable":true,"auto_delete":false,"arguments":{"x-message-ttl":60000,"x-dead-letter-exchange":"","n":1.5,"l":[true,null]}}],
"exchanges":[{"name":"events","vhost":"shop","type":"topic","durable":true,"auto_delete":false,"internal":false,"arguments":{}}],
"bindings":[{"source":"events","vhost":"shop","destination":"orders","destination_type":"queue","routing_key":"order.*","arguments":{}}]}"#;

#[test]
fn an_export_of_rabbitmq_loads_inline() {
    let definitions = settings(&format!("broker:\n  definitions: {}\n", EXPORT.replace('\n', " "))).broker.definitions;
    let guest = &definitions.users[0];
    assert!(
        matches!(&guest.password, PasswordDef::Hashed { algorithm: PasswordHash::Sha256, salted_hash } if salted_hash.len() == 36)
    );
    assert_eq!(definitions.users.len(), 1);
    assert_eq!(definitions.permissions.len(), 1);
    let orders = &definitions.queues[0];
    assert_eq!((orders.vhost.as_str(), orders.durable), ("shop", true));
    assert_eq!(orders.arguments.get("x-message-ttl"), Some(&Value::I64(60_000)));
    assert_eq!(orders.arguments.get("x-dead-letter-exchange"), Some(&Value::text("")));
    assert_eq!(orders.arguments.get("n"), Some(&Value::F64(1.5)));
    assert_eq!(orders.arguments.get("l"), Some(&Value::Array(vec![Value::Bool(true), Value::Void])));
    assert_eq!(definitions.bindings[0].destination_type, DestinationType::Queue);
}

#[test]
fn a_definitions_file_has_its_own_positions() {
    let directory = std::env::temp_dir().join(format!("sluicegate-config-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let load = |text: &str, definitions: &str| {
        fs::write(directory.join("definitions.json"), definitions).unwrap();
        load_text(Some(Path::new("sluicegate.yaml")), text.to_owned(), [], &directory, &REGISTRY)
    };
    let text = "broker: { definitions_file: definitions.json }\n";
    let right = load(text, EXPORT).map(|loaded| loaded.settings.broker.definitions.queues.len());
    let wrong = load(text, "{\n  \"queues\": [\n    {\"nmae\": \"q\"}\n  ]\n}\n").unwrap_err().to_string();
    let both = load("listne: 1\nbroker: { definitions_file: definitions.json, definitions: {} }\n", "{\"oops\": 1}")
        .unwrap_err()
        .count();
    let missing = load("broker: { definitions_file: none.json }\n", "").unwrap_err().count();
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(right, Ok(1));
    expect![[r#"
        definitions.json:3:6: unknown key `nmae` in a queue
          3 |     {"nmae": "q"}
            |      ^^^^^^
            = expected: `name`, `vhost`, `durable`, `auto_delete` or `arguments`
            = help: did you mean `name`?

        1 error in the configuration
    "#]]
    .assert_eq(&wrong);
    assert_eq!((both, missing), (2, 1));
}

#[test]
fn mistakes_in_definitions() {
    expect![[r#"
        sluicegate.yaml:4:33: `password_hash` in user `a` is not base64
          4 |     - { name: a, password_hash: ****, hashing_algorithm: rabbit_password_hashing_sha256 }
            |                                 ^^^^

        sluicegate.yaml:5:33: `password_hash` in user `b` holds 3 bytes
          5 |     - { name: b, password_hash: **** }
            |                                 ^^^^
            = expected: 36 bytes in base64: 4 of salt and the hash

        sluicegate.yaml:6:31: user `c` has both `password` and `password_hash`
          6 |     - { name: c, password: *, password_hash: ** }
            |                               ^^^^^^^^^^^^^
            = help: keep one of the two

        sluicegate.yaml:7:9: user `d` needs a password
          7 |     - { name: d }
            |         ^^^^
            = expected: `password: …`, or `password_hash` and `hashing_algorithm` as RabbitMQ exports them

        sluicegate.yaml:8:56: MD5 password hashes are not supported
          8 |     - { name: e, password_hash: **, hashing_algorithm: rabbit_password_hashing_md5 }
            |                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = help: set the user's password again in RabbitMQ and export, or write `password`

        sluicegate.yaml:10:15: the user `f` is given twice
          10 |     - { name: f, password: * }
             |               ^
             = note: first given at sluicegate.yaml:9:15

        sluicegate.yaml:12:15: there is no user `nobody`
          12 |     - { user: nobody, vhost: /, configure: "(", write: "", read: "" }
             |               ^^^^^^

        sluicegate.yaml:12:44: `configure` in permission of user `nobody` is not a regular expression: unclosed group
          12 |     - { user: nobody, vhost: /, configure: "(", write: "", read: "" }
             |                                            ^^^

        sluicegate.yaml:13:9: permission of user `f` needs `read`
          13 |     - { user: f, vhost: lost, configure: "", write: "" }
             |         ^^^^
             = expected: `read: ".*"`

        sluicegate.yaml:13:25: there is no vhost `lost`
          13 |     - { user: f, vhost: lost, configure: "", write: "" }
             |                         ^^^^
             = help: add { name: lost } to `vhosts`

        sluicegate.yaml:15:15: `name` in queue `amq.mine`: names that begin with `amq.` are reserved
          15 |     - { name: amq.mine }
             |               ^^^^^^^^
             = help: leave it out; what is built in exists already

        sluicegate.yaml:16:29: `arguments` in queue `q` must be a map, not a list
          16 |     - { name: q, arguments: [1] }
             |                             ^

        sluicegate.yaml:17:32: invalid arg 'x-message-ttl' for queue 'q3' in vhost '/': {value_negative,-1}
          17 |     - { name: q3, arguments: { x-message-ttl: -1, x-consumer-timeout: 5, x-queue-type: stream, x-own: 1 } }
             |                                ^^^^^^^^^^^^^

        sluicegate.yaml:17:51: argument 'x-consumer-timeout' for queue 'q3' in vhost '/' is not supported yet
          17 |     - { name: q3, arguments: { x-message-ttl: -1, x-consumer-timeout: 5, x-queue-type: stream, x-own: 1 } }
             |                                                   ^^^^^^^^^^^^^^^^^^

        sluicegate.yaml:17:74: argument 'x-queue-type: stream' for queue 'q3' in vhost '/' is not supported yet
          17 |     - { name: q3, arguments: { x-message-ttl: -1, x-consumer-timeout: 5, x-queue-type: stream, x-own: 1 } }
             |                                                                          ^^^^^^^^^^^^

        sluicegate.yaml:18:28: `durable` in queue `q2` must be true or false, not text
          18 |     - { name: q2, durable: maybe }
             |                            ^^^^^

        sluicegate.yaml:19:15: the queue `q2` is given twice in vhost `/`
          19 |     - { name: q2 }
             |               ^^
             = note: first given at sluicegate.yaml:18:15

        sluicegate.yaml:21:24: `type` in exchange `e` cannot be `topik`
          21 |     - { name: e, type: topik }
             |                        ^^^^^
             = expected: `direct`, `fanout`, `topic` or `headers`
             = help: did you mean `topic`?

        sluicegate.yaml:22:7: exchange `x` must say how it routes once the delay is over
          22 |     - { name: x, type: x-delayed-message }
             |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
             = help: add `arguments: { x-delayed-type: direct }`, or `fanout`, `topic` or `headers`

        sluicegate.yaml:24:17: there is no exchange `nowhere` in vhost `/`
          24 |     - { source: nowhere, destination: q }
             |                 ^^^^^^^
             = help: add it to `exchanges`

        sluicegate.yaml:25:41: there is no queue `nothing` in vhost `/`
          25 |     - { source: amq.topic, destination: nothing, routing_key: '#' }
             |                                         ^^^^^^^
             = help: add it to `queues`

        sluicegate.yaml:26:18: policy `ha-all` needs `definition`
          26 |     policies: [{ name: ha-all }]
             |                  ^^^^
             = expected: `definition: { message-ttl: 60000 }`

        sluicegate.yaml:26:18: policy `ha-all` needs `pattern`
          26 |     policies: [{ name: ha-all }]
             |                  ^^^^
             = expected: `pattern: ".*"`

        sluicegate.yaml:27:31: the parameter `shovel` is not supported yet
          27 |     parameters: [{ component: shovel, name: s, value: {} }]
             |                               ^^^^^^

        24 errors in the configuration
    "#]]
    .assert_eq(&report(
        r#"broker:
  definitions:
    users:
    - { name: a, password_hash: "!!", hashing_algorithm: rabbit_password_hashing_sha256 }
    - { name: b, password_hash: QUJD }
    - { name: c, password: x, password_hash: "" }
    - { name: d }
    - { name: e, password_hash: "", hashing_algorithm: rabbit_password_hashing_md5 }
    - { name: f, password: x }
    - { name: f, password: y }
    permissions:
    - { user: nobody, vhost: /, configure: "(", write: "", read: "" }
    - { user: f, vhost: lost, configure: "", write: "" }
    queues:
    - { name: amq.mine }
    - { name: q, arguments: [1] }
    - { name: q3, arguments: { x-message-ttl: -1, x-consumer-timeout: 5, x-queue-type: stream, x-own: 1 } }
    - { name: q2, durable: maybe }
    - { name: q2 }
    exchanges:
    - { name: e, type: topik }
    - { name: x, type: x-delayed-message }
    bindings:
    - { source: nowhere, destination: q }
    - { source: amq.topic, destination: nothing, routing_key: '#' }
    policies: [{ name: ha-all }]
    parameters: [{ component: shovel, name: s, value: {} }]
"#,
    ));
}

#[test]
fn a_binding_may_lead_to_a_queue_that_a_service_or_subscription_declares() {
    let settings = settings(
        "_format_version: '3.0'\nservices: [{name: s, protocol: queue, host: a}]\nsubscriptions: [{name: s, queue: b, url: 'http://x', dead_letter: c}]\nbroker: {definitions: {bindings: [{source: amq.topic, destination: a}, {source: amq.topic, destination: b}, {source: amq.topic, destination: c}]}}\n",
    );
    let definitions = &settings.broker.definitions;
    assert_eq!(definitions.bindings.len(), 3);
    let names: Vec<&str> = definitions.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(definitions.queues.iter().all(|queue| queue.durable));
}

#[test]
fn exchanges_may_delay() {
    let settings = settings(
        "broker: {definitions: {exchanges: [{name: x, type: x-delayed-message, arguments: {x-delayed-type: topic}}]}}\n",
    );
    let exchange = &settings.broker.definitions.exchanges[0];
    assert_eq!(exchange.kind, "x-delayed-message");
    assert_eq!(exchange.arguments.get("x-delayed-type").and_then(Value::as_str), Some("topic"));
}

#[test]
fn the_default_exchange_and_guest_need_no_definition() {
    let definitions = settings(
        "broker: {definitions: {queues: [{name: q}], bindings: [{source: '', destination: q, routing_key: q}], permissions: [{user: guest, vhost: /, configure: '', write: '', read: '.*'}]}}\n",
    )
    .broker
    .definitions;
    assert_eq!(definitions.bindings[0].source, "");
    assert_eq!(definitions.users[0].name, "guest");
    let write: Vec<&str> = definitions.permissions.iter().map(|permission| permission.write.as_str()).collect();
    assert_eq!(write, [""]);
}
