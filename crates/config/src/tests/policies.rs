//! Policies in definitions: as RabbitMQ exports them, and wrong.

use expect_test::expect;
use model::Value;
use model::definitions::ApplyTo;

use super::{report, settings};

#[test]
fn policies_load_as_rabbitmq_exports_them() {
    let definitions = settings(
        r#"broker: {definitions: {
"policies":[{"vhost":"/","name":"ttl","pattern":"^orders","apply-to":"queues","definition":{"message-ttl":60000,"dead-letter-exchange":"dlx","ha-mode":"all"},"priority":3}],
"parameters":[{"component":"operator_policy","name":"op","value":{"apply-to":"all","definition":[["expires",1000]],"pattern":".*","priority":0},"vhost":"/"},
 {"component":"operator_policy","name":"op2","value":{"definition":{"message-ttl":5},"pattern":""},"vhost":"/"}]}}"#,
    )
    .broker
    .definitions;
    let ttl = &definitions.policies[0];
    assert_eq!((ttl.name.as_str(), ttl.pattern.as_str(), ttl.priority), ("ttl", "^orders", 3));
    assert_eq!(ttl.apply_to, ApplyTo::Queues);
    assert_eq!(ttl.definition.get("message-ttl"), Some(&Value::I64(60_000)));
    let operator = &definitions.operator_policies;
    assert_eq!(operator[0].definition.get("expires"), Some(&Value::I64(1_000)));
    assert_eq!((operator[1].apply_to, operator[1].priority), (ApplyTo::All, 0));
}

#[test]
fn mistakes_in_policies() {
    expect![[r#"
        sluicegate.yaml:4:29: `pattern` in policy `ttl` is not a regular expression: unclosed group
          4 |     - { name: ttl, pattern: "(", apply-to: queus, definition: { message-ttl: -1 } }
            |                             ^^^

        sluicegate.yaml:4:44: `apply-to` in policy `ttl` cannot be `queus`
          4 |     - { name: ttl, pattern: "(", apply-to: queus, definition: { message-ttl: -1 } }
            |                                            ^^^^^
            = expected: `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues` or `streams`
            = help: did you mean `queues`?

        sluicegate.yaml:4:78: `message-ttl` in the definition of policy `ttl`: -1 is not a valid message TTL
          4 | …: queus, definition: { message-ttl: -1 } }
            |                                      ^^

        sluicegate.yaml:5:15: the policy `ttl` is given twice in vhost `/`
          5 |     - { name: ttl, pattern: "", definition: { mesage-ttl: 1, expires: 0, colour: red } }
            |               ^^^
            = note: first given at sluicegate.yaml:4:15

        sluicegate.yaml:5:47: unknown key `mesage-ttl` in the definition of policy `ttl`
          5 |     - { name: ttl, pattern: "", definition: { mesage-ttl: 1, expires: 0, colour: red } }
            |                                               ^^^^^^^^^^
            = expected: `alternate-exchange`, `dead-letter-exchange`, `dead-letter-routing-key`, `delivery-limit`, `dispatch`, `expires`, `max-length`, `max-length-bytes`, `message-ttl` or `overflow`
            = help: did you mean `message-ttl`?

        sluicegate.yaml:5:71: `expires` in the definition of policy `ttl`: 0 is not a valid queue expiry
          5 |     - { name: ttl, pattern: "", definition: { mesage-ttl: 1, expires: 0, colour: red } }
            |                                                                       ^

        sluicegate.yaml:5:74: unknown key `colour` in the definition of policy `ttl`
          5 |     - { name: ttl, pattern: "", definition: { mesage-ttl: 1, expires: 0, colour: red } }
            |                                                                          ^^^^^^
            = expected: `alternate-exchange`, `dead-letter-exchange`, `dead-letter-routing-key`, `delivery-limit`, `dispatch`, `expires`, `max-length`, `max-length-bytes`, `message-ttl` or `overflow`

        sluicegate.yaml:6:29: there is no vhost `lost`
          6 |     - { name: later, vhost: lost, pattern: "", priority: high, definition: { max-age: 1D } }
            |                             ^^^^
            = help: add { name: lost } to `vhosts`

        sluicegate.yaml:6:58: `priority` in policy `later` must be a whole number from -9223372036854775808 to 9223372036854775807, not text
          6 |     - { name: later, vhost: lost, pattern: "", priority: high, definition: { max-age: 1D } }
            |                                                          ^^^^

        sluicegate.yaml:6:78: `max-age` in the definition of policy `later` is not supported yet
          6 | …: "", priority: high, definition: { max-age: 1D } }
            |                                      ^^^^^^^

        sluicegate.yaml:7:49: policy `nothing` defines nothing
          7 |     - { name: nothing, pattern: "", definition: {} }
            |                                                 ^^
            = expected: at least one setting

        sluicegate.yaml:8:62: `dispatch` in the definition of policy `dispatch`: random is not a valid dispatch policy
          8 |     - { name: dispatch, pattern: "", definition: { dispatch: random } }
            |                                                              ^^^^^^

        sluicegate.yaml:9:9: policy `bare` needs `definition`
          9 |     - { name: bare }
            |         ^^^^
            = expected: `definition: { message-ttl: 60000 }`

        sluicegate.yaml:9:9: policy `bare` needs `pattern`
          9 |     - { name: bare }
            |         ^^^^
            = expected: `pattern: ".*"`

        sluicegate.yaml:11:83: unknown key `dead-letter-exchange` in the definition of operator policy `op`
          11 | …value: { pattern: "", definition: { dead-letter-exchange: x } } }
             |                                      ^^^^^^^^^^^^^^^^^^^^
             = expected: `delivery-limit`, `expires`, `max-length`, `max-length-bytes` or `message-ttl`

        sluicegate.yaml:12:43: the operator policy `op` is given twice in vhost `/`
          12 |     - { component: operator_policy, name: op, value: { pattern: "", definition: [[expires]] } }
             |                                           ^^
             = note: first given at sluicegate.yaml:11:43

        sluicegate.yaml:12:81: `definition` in operator policy `op` must be a map, not a list
          12 | …, value: { pattern: "", definition: [[expires]] } }
             |                                      ^

        sluicegate.yaml:13:9: operator policy `op3` needs `value`
          13 |     - { component: operator_policy, name: op3 }
             |         ^^^^^^^^^
             = expected: `value: { pattern: ".*", definition: {} }`

        18 errors in the configuration
    "#]].assert_eq(&report(
        r#"broker:
  definitions:
    policies:
    - { name: ttl, pattern: "(", apply-to: queus, definition: { message-ttl: -1 } }
    - { name: ttl, pattern: "", definition: { mesage-ttl: 1, expires: 0, colour: red } }
    - { name: later, vhost: lost, pattern: "", priority: high, definition: { max-age: 1D } }
    - { name: nothing, pattern: "", definition: {} }
    - { name: dispatch, pattern: "", definition: { dispatch: random } }
    - { name: bare }
    parameters:
    - { component: operator_policy, name: op, value: { pattern: "", definition: { dead-letter-exchange: x } } }
    - { component: operator_policy, name: op, value: { pattern: "", definition: [[expires]] } }
    - { component: operator_policy, name: op3 }
"#,
    ));
}
