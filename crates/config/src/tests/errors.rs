//! Wrong configurations, and exactly what a person is shown.

// What is shown is long.
#![allow(clippy::too_many_lines)]

use expect_test::expect;

use super::{load_with, messages, report};

#[test]
fn ten_mistakes_are_ten_errors() {
    let text = r#"_format_version: "3.0"
listen:
  http: [localhost:8000]
  ampq: [127.0.0.1:5672]
services:
- name: blog
  url: http://127.0.0.1:9000
  routes:
  - name: get-post
    pathes: [/get_post]
  - name: post-order
    methods: [post]
    paths: [/orders]
- name: blog
  protocol: tcp
  host: other
routes:
- name: dangling
  paths: [/x]
  service: blgo
plugins:
- name: keyauth
- name: rate-limiting
  config: { minit: 5 }
subscriptions:
- { name: fulfil, queue: orders, url: "http://127.0.0.1:9001", timeout: 5 }
"#;
    expect![[r#"
        sluicegate.yaml:3:10: `http` in `listen`: `localhost:8000` is not an address to listen on
          3 |   http: [localhost:8000]
            |          ^^^^^^^^^^^^^^
            = expected: an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000
            = help: write 127.0.0.1:8000

        sluicegate.yaml:4:3: unknown key `ampq` in `listen`
          4 |   ampq: [127.0.0.1:5672]
            |   ^^^^
            = expected: `http`, `amqp`, `admin`, `management` or `stream`
            = help: did you mean `amqp`?

        sluicegate.yaml:10:5: unknown key `pathes` in route `get-post`
          10 |     pathes: [/get_post]
             |     ^^^^^^
             = help: did you mean `paths`?

        sluicegate.yaml:12:15: `methods` in route `post-order`: `post` is not a method
          12 |     methods: [post]
             |               ^^^^
             = expected: capital letters, such as GET
             = help: did you mean `POST`?

        sluicegate.yaml:14:9: the service name `blog` is given twice
          14 | - name: blog
             |         ^^^^
             = help: names are unique; rename one of the two
             = note: first given at sluicegate.yaml:6:9

        sluicegate.yaml:20:12: `service` in route `dangling`: there is no service `blgo`
          20 |   service: blgo
             |            ^^^^
             = help: did you mean `blog`?

        sluicegate.yaml:22:9: there is no plugin `keyauth`
          22 | - name: keyauth
             |         ^^^^^^^
             = expected: `correlation-id`, `key-auth` or `rate-limiting`
             = help: did you mean `key-auth`?

        sluicegate.yaml:24:13: unknown key `config.minit` of plugin `rate-limiting`
          24 |   config: { minit: 5 }
             |             ^^^^^
             = expected: `second`, `minute` or `policy`
             = help: did you mean `minute`?

        sluicegate.yaml:26:73: `timeout` in subscription `fulfil`: `5` is not a duration: it has no unit
          26 | - { name: fulfil, queue: orders, url: "http://127.0.0.1:9001", timeout: 5 }
             |                                                                         ^
             = expected: a number with a unit, such as 200ms, 1s, 5m, 2h or 1m30s
             = help: write 5s or 5ms

        9 errors in the configuration
    "#]]
    .assert_eq(&report(text));
}

#[test]
fn colour_only_when_asked() {
    let errors = load_with("listne: {}\n", &[]).unwrap_err();
    assert!(!errors.render(false).contains('\u{1b}'));
    assert!(errors.render(true).contains("\u{1b}[31munknown key `listne`"));
}

#[test]
fn for_machines_there_is_json() {
    let errors = load_with("listne: {}\n", &[]).unwrap_err();
    expect![[r#"
        {
          "count": 1,
          "errors": [
            {
              "column": 1,
              "expected": null,
              "file": "sluicegate.yaml",
              "help": "did you mean `listen`?",
              "line": 1,
              "message": "unknown key `listne`",
              "note": null,
              "variable": null
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&errors.to_json()).unwrap());
}

#[test]
fn syntax_errors_say_where() {
    expect![[r#"
        sluicegate.yaml:2:2: this is not valid YAML: tabs disallowed within this context (block indentation)
          2 |  http: [127.0.0.1:8000]
            |  ^
            = help: YAML is indented with spaces, and this line begins with a tab

        1 error in the configuration
    "#]]
    .assert_eq(&report("listen:\n\thttp: [127.0.0.1:8000]\n"));
    expect![[r#"
        sluicegate.yaml:1:16: this is not valid YAML: mismatched bracket '[' closed by '}'
          1 | listen: {http: [127.0.0.1:8000}
            |                ^

        1 error in the configuration
    "#]]
    .assert_eq(&report("listen: {http: [127.0.0.1:8000}\n"));
    expect![[r#"
        sluicegate.yaml:1:4: this is not valid YAML: while parsing node, found unknown anchor
          1 | a: *nowhere
            |    ^

        1 error in the configuration
    "#]]
    .assert_eq(&report("a: *nowhere\n"));
    for nothing in ["", "\n \n", "# all of it\n# is commented out\n", "---\n", "~"] {
        assert_eq!(messages(nothing), ["there is nothing in it"], "{nothing:?}");
    }
}

#[test]
fn yaml_traps() {
    expect![[r#"
        sluicegate.yaml:2:9: `listen` must be a map of `key: value`, not text
          2 | listen: no
            |         ^^

        sluicegate.yaml:4:9: `name` in service `1.10` must be text, not a number
          4 | - name: 1.10
            |         ^^^^
            = help: quote it: "1.10"

        sluicegate.yaml:6:12: `enabled` in service `1.10` must be true or false, not `yes`
          6 |   enabled: yes
            |            ^^^
            = help: write true

        sluicegate.yaml:7:9: `port` in service `1.10` must be a whole number, not text
          7 |   port: "80"
            |         ^^^^
            = help: write it without quotes: 80

        sluicegate.yaml:8:3: the key `name` is given twice
          8 |   name: twice
            |   ^^^^
            = help: keep one of the two
            = note: first given at sluicegate.yaml:4:3

        sluicegate.yaml:9:1: a second YAML document starts here
          9 | --- 
            | ^^^
            = expected: one document in a configuration
            = help: remove the `---` line, or move the rest to its own file

        6 errors in the configuration
    "#]].assert_eq(&report(
        "_format_version: 3.0\nlisten: no\nservices:\n- name: 1.10\n  host: no\n  enabled: yes\n  port: \"80\"\n  name: twice\n--- \nsecond: document\n",
    ));
}

#[test]
fn a_listener_off_loopback_without_credentials_is_refused() {
    expect![[r#"
        sluicegate.yaml:2:11: `listen.admin` on 0.0.0.0:8001 can be reached from other machines, and nothing asks who calls
          2 |   admin: [0.0.0.0:8001]
            |           ^^^^^^^^^^^^
            = expected: a loopback address, or credentials
            = help: write a token into `admin.tokens`, name a user (not guest) with the tag `administrator` in `broker.definitions.users`, or give the listener `tls` with `client_ca`

        sluicegate.yaml:3:16: `listen.management` on [::]:15672 can be reached from other machines, and nothing asks who calls
          3 |   management: ['[::]:15672']
            |                ^^^^^^^^^^^^
            = expected: a loopback address, or credentials
            = help: name a user (not guest) with the tag `administrator` in `broker.definitions.users`, or give the listener `tls` with `client_ca`

        2 errors in the configuration
    "#]].assert_eq(&report("listen:\n  admin: [0.0.0.0:8001]\n  management: ['[::]:15672']\n"));
    let with_user = "listen: {admin: [0.0.0.0:8001]}\nbroker: {definitions: {users: [{name: ops, password: x, tags: [administrator]}]}}\n";
    assert_eq!(messages(with_user), [""; 0]);
    let guest = with_user.replace("ops", "guest");
    assert_eq!(messages(&guest).len(), 1);
}

#[test]
fn listeners() {
    expect![[r#"
        sluicegate.yaml:2:10: `listen.http` cannot have 127.0.0.1:8001, because `listen.admin` has 127.0.0.1:8001 by default
          2 |   http: [127.0.0.1:8001, '*:80', 'unix:/x', 8000]
            |          ^^^^^^^^^^^^^^
            = help: give each listener its own port

        sluicegate.yaml:2:26: `http` in `listen`: `*:80` is not an address to listen on
          2 |   http: [127.0.0.1:8001, '*:80', 'unix:/x', 8000]
            |                          ^^^^^^
            = expected: an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000
            = help: for all interfaces write 0.0.0.0:80

        sluicegate.yaml:2:34: `http` in `listen`: `unix:/x` is not an address to listen on
          2 |   http: [127.0.0.1:8001, '*:80', 'unix:/x', 8000]
            |                                  ^^^^^^^^^
            = expected: an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000

        sluicegate.yaml:2:45: `http` in `listen`: `8000` is not an address to listen on
          2 |   http: [127.0.0.1:8001, '*:80', 'unix:/x', 8000]
            |                                             ^^^^
            = expected: an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000
            = help: for this machine only write 127.0.0.1:8000, for all interfaces 0.0.0.0:8000

        sluicegate.yaml:3:3: unknown key `https` in `listen`
          3 |   https: [127.0.0.1:8443]
            |   ^^^^^
            = expected: `http`, `amqp`, `admin`, `management` or `stream`
            = help: did you mean `http`?

        sluicegate.yaml:5:43: `cert` in `tls`: /etc/sluicegate/nowhere.pem cannot be read: there is no such file
          5 |   - {address: 127.0.0.1:5671, tls: {cert: nowhere.pem, kee: x}, proxy_protocol: true}
            |                                           ^^^^^^^^^^^

        sluicegate.yaml:5:56: unknown key `kee` in `tls`
          5 |   - {address: 127.0.0.1:5671, tls: {cert: nowhere.pem, kee: x}, proxy_protocol: true}
            |                                                        ^^^
            = expected: `cert`, `key` or `client_ca`
            = help: did you mean `key`?

        sluicegate.yaml:6:3: `mqtt` in `listen` is not supported yet
          6 |   mqtt: [127.0.0.1:1883]
            |   ^^^^

        8 errors in the configuration
    "#]].assert_eq(&report(
        "listen:\n  http: [127.0.0.1:8001, '*:80', 'unix:/x', 8000]\n  https: [127.0.0.1:8443]\n  amqp:\n  - {address: 127.0.0.1:5671, tls: {cert: nowhere.pem, kee: x}, proxy_protocol: true}\n  mqtt: [127.0.0.1:1883]\n",
    ));
}

#[test]
fn the_gateway_s_settings() {
    expect![[r#"
        sluicegate.yaml:2:27: `trusted_ips` in `gateway`: `10.0.0.0/33` is not a range of addresses
          2 |   trusted_ips: [10.0.0.1, 10.0.0.0/33]
            |                           ^^^^^^^^^^^
            = expected: an address or a range, such as 10.0.0.0/8 or 2001:db8::/32

        sluicegate.yaml:3:19: `real_ip_header` in `gateway`: a PROXY header is read where a listener says so
          3 |   real_ip_header: proxy_protocol
            |                   ^^^^^^^^^^^^^^
            = help: set `proxy_protocol: true` in the listener's record instead

        sluicegate.yaml:5:38: `proxy_protocol` is for `listen.http` and `listen.amqp`, not for `listen.admin`
          5 | listen: {admin: {address: '[::1]:1', proxy_protocol: true}}
            |                                      ^^^^^^^^^^^^^^

        3 errors in the configuration
    "#]].assert_eq(&report(
        "gateway:\n  trusted_ips: [10.0.0.1, 10.0.0.0/33]\n  real_ip_header: proxy_protocol\n  real_ip_recursive: true\nlisten: {admin: {address: '[::1]:1', proxy_protocol: true}}\n",
    ));
}

#[test]
fn a_secret_is_never_shown() {
    let text = "_format_version: '3.0'\nconsumers:\n- { username: a, keyauth_credentials: [{ key: hunter2 }, { kye: hunter2 }, { key: hunter2, id: 1 }] }\nbroker: { definitions: { users: [{ name: u, password: hunter2, tgas: [] }] } }\nsubscriptions: [{ name: s, queue: q, url: 'http://x', headers: { Authorization: hunter2, Host: x } }]\n";
    let shown = report(text);
    assert!(shown.contains("*******") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read() {
    let errors =
        crate::load(Some(std::path::Path::new("missing.yaml")), [], std::path::Path::new("/nowhere"), &super::REGISTRY)
            .unwrap_err();
    expect![[r#"
        missing.yaml: cannot be read: there is no such file
            = help: looked for /nowhere/missing.yaml

        1 error in the configuration
    "#]]
    .assert_eq(&errors.to_string());
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = format!(
        "{{\"_comment\": \"{}\", \"listne\": {{}}, \"_ignore\": \"{}\"}}",
        "x".repeat(5_000),
        "y".repeat(5_000)
    );
    let shown = report(&text);
    assert!(shown.lines().take(3).all(|line| line.chars().count() < 160), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let caret = lines[2].find('^').map(|at| lines[2][..at].chars().count());
    let wrong = lines[1].find("\"listne\"").map(|at| lines[1][..at].chars().count());
    assert_eq!(caret, wrong, "{shown}");
}

#[test]
fn listeners_for_connections() {
    expect![[r#"
        sluicegate.yaml:3:5: `listen.stream` cannot have 127.0.0.1:8001, because `listen.admin` has 127.0.0.1:8001 by default
          3 |   - 127.0.0.1:8001
            |     ^^^^^^^^^^^^^^
            = help: give each listener its own port

        sluicegate.yaml:4:28: `tls` is for connections, not for `udp`
          4 |   - {address: 127.0.0.1:1, tls: {cert: nowhere.pem}, udp: true}
            |                            ^^^

        sluicegate.yaml:4:34: `tls` needs `key`
          4 |   - {address: 127.0.0.1:1, tls: {cert: nowhere.pem}, udp: true}
            |                                  ^^^^
            = expected: `key: server.key`

        sluicegate.yaml:4:40: `cert` in `tls`: /etc/sluicegate/nowhere.pem cannot be read: there is no such file
          4 |   - {address: 127.0.0.1:1, tls: {cert: nowhere.pem}, udp: true}
            |                                        ^^^^^^^^^^^

        sluicegate.yaml:5:6: unknown key `adress` in a listener of `listen.stream`
          5 |   - {adress: 127.0.0.1:2}
            |      ^^^^^^
            = expected: `address`, `proxy_protocol`, `tls` or `udp`
            = help: did you mean `address`?

        5 errors in the configuration
    "#]].assert_eq(&report(
        "listen:\n  stream:\n  - 127.0.0.1:8001\n  - {address: 127.0.0.1:1, tls: {cert: nowhere.pem}, udp: true}\n  - {adress: 127.0.0.1:2}\n",
    ));
}
