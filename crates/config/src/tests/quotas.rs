//! `broker.quotas`, right and wrong.

use expect_test::expect;
use model::quotas::{QuotaDef, QuotaScope};

use model::limits::{QUOTA_RATE_MAX, QUOTAS_MAX};

use super::{messages, report, settings};

#[test]
fn quotas_load() {
    let quotas = settings(
        "broker: {quotas: [{scope: user, match: '^app', publish: 1000, burst: 50}, {scope: queue, consume: 5}]}\n",
    )
    .broker
    .quotas;
    let user = QuotaDef {
        scope: QuotaScope::User,
        matches: "^app".into(),
        publish: Some(1_000),
        consume: None,
        burst: Some(50),
    };
    let queue =
        QuotaDef { scope: QuotaScope::Queue, matches: String::new(), publish: None, consume: Some(5), burst: None };
    assert_eq!(quotas, [user, queue]);
}

#[test]
fn mistakes_in_quotas() {
    expect![[r#"
        sluicegate.yaml:3:14: `scope` in a quota cannot be `usr`
          3 |   - { scope: usr, publish: 1 }
            |              ^^^
            = expected: `connection`, `user`, `vhost` or `queue`
            = help: did you mean `user`?

        sluicegate.yaml:4:27: `match` in a quota is not a regular expression: unclosed group
          4 |   - { scope: user, match: '(', publish: 0 }
            |                           ^^^

        sluicegate.yaml:4:41: `publish` in a quota is out of range: 0
          4 |   - { scope: user, match: '(', publish: 0 }
            |                                         ^
            = expected: a whole number from 1 to 1000000000

        sluicegate.yaml:5:30: `publish` in a quota is out of range: 1000000001
          5 |   - { scope: vhost, publish: 1000000001, consume: fast }
            |                              ^^^^^^^^^^
            = expected: a whole number from 1 to 1000000000

        sluicegate.yaml:5:51: `consume` in a quota must be a whole number from 1 to 1000000000, not text
          5 |   - { scope: vhost, publish: 1000000001, consume: fast }
            |                                                   ^^^^

        sluicegate.yaml:6:7: a quota limits nothing
          6 |   - { scope: queue, burst: 5 }
            |       ^^^^^
            = expected: `publish`, `consume` or both, in messages a second

        sluicegate.yaml:7:7: a quota needs `scope`
          7 |   - { publsh: 5 }
            |       ^^^^^^
            = expected: `scope: user`

        sluicegate.yaml:7:7: unknown key `publsh` in a quota
          7 |   - { publsh: 5 }
            |       ^^^^^^
            = expected: `scope`, `match`, `publish`, `consume` or `burst`
            = help: did you mean `publish`?

        8 errors in the configuration
    "#]]
    .assert_eq(&report(
        "broker:
  quotas:
  - { scope: usr, publish: 1 }
  - { scope: user, match: '(', publish: 0 }
  - { scope: vhost, publish: 1000000001, consume: fast }
  - { scope: queue, burst: 5 }
  - { publsh: 5 }
",
    ));
}

#[test]
fn limits_of_quotas() {
    let list = |n: usize| format!("broker: {{quotas: [{}]}}\n", "{scope: user, consume: 1},".repeat(n));
    assert_eq!(settings(&list(QUOTAS_MAX)).broker.quotas.len(), QUOTAS_MAX);
    assert_eq!(messages(&list(QUOTAS_MAX + 1)), ["`quotas` in `broker` holds 1001 quotas"]);
    let rate = |n: u32| format!("broker: {{quotas: [{{scope: user, publish: {n}, burst: {n}}}]}}\n");
    assert_eq!(settings(&rate(QUOTA_RATE_MAX)).broker.quotas[0].publish, Some(QUOTA_RATE_MAX));
    assert_eq!(messages(&rate(QUOTA_RATE_MAX + 1)).len(), 2);
}
