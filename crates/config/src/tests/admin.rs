//! `admin`, right and wrong.

use expect_test::expect;
use model::Secret;
use model::limits::{ADMIN_TOKEN_BYTES_MAX, ADMIN_TOKEN_BYTES_MIN, ADMIN_TOKENS_MAX};

use super::{messages, report, settings};
use crate::{AdminRole, AdminToken};

#[test]
fn tokens_load_and_do_not_print() {
    let admin = settings(
        "admin: {tokens: [{name: ci, token: 0123456789abcdef, role: write}, {name: eye, token: fedcba9876543210, role: read}]}\n",
    )
    .admin;
    let token =
        |name: &str, token: &str, role| AdminToken { name: name.into(), token: Secret::new(token.into()), role };
    assert_eq!(
        admin.tokens,
        [token("ci", "0123456789abcdef", AdminRole::Write), token("eye", "fedcba9876543210", AdminRole::Read)]
    );
    assert!(!format!("{admin:?}").contains("0123456789abcdef"));
}

#[test]
fn a_token_opens_the_admin_api_off_loopback_but_not_the_management_api() {
    let tokens = "admin: {tokens: [{name: ci, token: 0123456789abcdef, role: read}]}\n";
    assert_eq!(report(&format!("{tokens}listen: {{admin: [0.0.0.0:8001]}}\n")), "(no errors)");
    let problems = messages(&format!("{tokens}listen: {{management: [0.0.0.0:15672]}}\n"));
    assert!(matches!(&problems[..], [problem] if problem.contains("nothing asks who calls")), "{problems:?}");
}

#[test]
fn mistakes_in_tokens() {
    expect![[r#"
        sluicegate.yaml:3:25: this token cannot be used
          3 |     - { name: a, token: *********, role: read }
            |                         ^^^^^^^^^
            = expected: 16 to 1024 printable ASCII characters without spaces

        sluicegate.yaml:4:25: this token cannot be used
          4 |     - { name: b, token: ********************, role: admin }
            |                         ^^^^^^^^^^^^^^^^^^^^
            = expected: 16 to 1024 printable ASCII characters without spaces

        sluicegate.yaml:4:53: `role` in an admin token cannot be `admin`
          4 |     - { name: b, token: ********************, role: admin }
            |                                                     ^^^^^
            = expected: `read` or `write`

        sluicegate.yaml:5:9: an admin token needs `name`
          5 |     - { token: ****************, role: write }
            |         ^^^^^
            = expected: `name: ci`

        sluicegate.yaml:6:9: an admin token needs `token`
          6 |     - { name: d, role: write }
            |         ^^^^
            = expected: `token: "a long random text"`

        sluicegate.yaml:8:7: two admin tokens have the same name
          8 |     - { name: e, token: ****************, role: read }
            |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = note: the other is at sluicegate.yaml:7:7

        sluicegate.yaml:9:7: two admin tokens have the same token
          9 |     - { name: f, token: ****************, role: read }
            |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            = note: the other is at sluicegate.yaml:8:7

        7 errors in the configuration
    "#]]
    .assert_eq(&report(
        "admin:
  tokens:
    - { name: a, token: too-short, role: read }
    - { name: b, token: \"with a space in it\", role: admin }
    - { token: 0123456789abcdef, role: write }
    - { name: d, role: write }
    - { name: e, token: aaaaaaaaaaaaaaaa, role: read }
    - { name: e, token: bbbbbbbbbbbbbbbb, role: read }
    - { name: f, token: bbbbbbbbbbbbbbbb, role: read }
",
    ));
}

#[test]
fn the_limits_hold_at_their_edges() {
    let problems = |tokens: &[String]| {
        let tokens: Vec<String> = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| format!("{{name: n{n}, token: \"{token}\", role: read}}"))
            .collect();
        messages(&format!("admin: {{tokens: [{}]}}\n", tokens.join(", "))).len()
    };
    for (bytes, wrong) in [
        (ADMIN_TOKEN_BYTES_MIN - 1, 1),
        (ADMIN_TOKEN_BYTES_MIN, 0),
        (ADMIN_TOKEN_BYTES_MAX, 0),
        (ADMIN_TOKEN_BYTES_MAX + 1, 1),
    ] {
        assert_eq!(problems(&["x".repeat(bytes)]), wrong, "{bytes}");
    }
    let many = |n: usize| (0..n).map(|at| format!("{at:016}")).collect::<Vec<_>>();
    assert_eq!((problems(&many(ADMIN_TOKENS_MAX)), problems(&many(ADMIN_TOKENS_MAX + 1))), (0, 1));
}
