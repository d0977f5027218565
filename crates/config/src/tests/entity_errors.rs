//! Wrong entities and subscriptions, and exactly what a person is shown.

// What is shown is long.
#![allow(clippy::too_many_lines)]

use expect_test::expect;

use super::{messages, report};

#[test]
fn what_kong_has_and_we_do_not_is_refused_by_name() {
    expect![[r#"
        `_format_version` 2.1 is not supported yet
        workspaces are not supported yet
        `_info` is not supported yet
        `upstreams` is not supported yet
        `certificates` is not supported yet
        `protocol: tcp` is not supported yet
        `client_certificate` in service `b` is not supported yet
        `connect_timeout` in service `b`: vault references are not supported yet
        `protocols` in route `r`: `tls` is not supported yet
        `path_handling` in route `r`: `v1` is not supported yet
        `sources` in route `r` is not supported yet
        route `s` matches on nothing
        `sources` in route `s` is not supported yet
        `acls` in consumer `c` is not supported yet
        `basicauth_credentials` in consumer `c` is not supported yet
        `ttl` in an API key is not supported yet
        the plugin `jwt` is not supported yet
        plugin `key-auth` cannot belong to a consumer
        `config.policy` of plugin `rate-limiting`: `redis` is not available: no Redis client is built in
        `cluster` is not supported yet"#]].assert_eq(&messages(
        r#"_format_version: "2.1"
_workspace: team-a
_info: { select_tags: [a] }
upstreams: [{ name: u }]
certificates: [{ cert: x }]
vaults: []
services:
- { name: a, protocol: tcp, host: a }
- { name: b, host: b, client_certificate: x, connect_timeout: "{vault://env/x}" }
routes:
- { name: r, paths: [/r], protocols: [tls], path_handling: v1, sources: [{ port: 1 }] }
- { name: s, sources: [{ ip: 10.0.0.0/8 }] }
consumers:
- { username: c, acls: [{ group: g }], basicauth_credentials: [{ username: u }], keyauth_credentials: [{ key: k, ttl: 5 }] }
plugins: [{ name: jwt }, { name: key-auth, consumer: c }, { name: rate-limiting, config: { minute: 1, policy: redis } }]
cluster: { nats: x }
"#,
    )
    .join("\n"));
}

#[test]
fn routes() {
    expect![[r#"
        sluicegate.yaml:3:3: route `my route` matches on nothing
          3 | - name: "my route"
            |   ^^^^
            = expected: at least one of `paths`, `hosts`, `methods` or `headers`

        sluicegate.yaml:3:9: `name` in route `my route`: `my route` is not a name
          3 | - name: "my route"
            |         ^^^^^^^^^^
            = expected: letters, digits, `.`, `-`, `_` and `~`
            = help: write my-route

        sluicegate.yaml:4:22: `paths` in route `a`: the path `/a//b` has an empty segment (`//`)
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                      ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:29: `paths` in route `a`: the path `/a/../b` has a dot segment, which no request has after normalisation
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                             ^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:38: `paths` in route `a`: the path `/a b` contains ' ', which a path cannot
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                      ^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:46: `paths` in route `a`: the regular expression `~a` does not begin with `~/`
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                              ^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:52: `paths` in route `a`: `~/(` is not a regular expression: unclosed group
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                                    ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:59: `paths` in route `a`: the path `/users/[0-9]+` contains '[', which a path cannot
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                                           ^^^^^^^^^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$
            = help: for a regular expression write ~/users/[0-9]+

        sluicegate.yaml:4:76: `paths` in route `a`: the path `/%zz` has a `%` without two hexadecimal digits
          4 | …a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                      ^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:5:22: `hosts` in route `b`: `*.*` cannot be a host: it has more than one `*`
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                      ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:29: `hosts` in route `b`: `a.*.b` cannot be a host: `*` must be the first or the last label
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                             ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:36: `hosts` in route `b`: `http://x` cannot be a host: it is a URL
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                    ^^^^^^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:48: `hosts` in route `b`: `a:b` cannot be a host: its port is not a number
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                                ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:55: `hosts` in route `b` is empty
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                                       ^^
            = expected: at least one character

        sluicegate.yaml:5:75: `methods` in route `b`: `Get` is not a method
          5 | …tp://x", "a:b", ""], methods: [GTE, Get] }
            |                                      ^^^
            = expected: capital letters, such as GET
            = help: did you mean `GET`?

        sluicegate.yaml:6:25: `headers` in route `c` cannot hold `Host`
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                         ^^^^
            = help: use `hosts`

        sluicegate.yaml:6:36: `headers` in route `c`: `X Y` is not a header name
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                                    ^^^^^

        sluicegate.yaml:6:51: `X` in `headers` must be a list, not text
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                                                   ^
            = help: put it in brackets: [v]

        sluicegate.yaml:7:21: `snis` in route `d`: `*` is not a server name
          7 | - { name: d, snis: ["*"], protocols: [], paths: [/d], https_redirect_status_code: 303, strip_path: 1 }
            |                     ^^^
            = expected: such as example.com or *.example.com

        sluicegate.yaml:7:38: `protocols` in route `d` is empty
          7 | - { name: d, snis: ["*"], protocols: [], paths: [/d], https_redirect_status_code: 303, strip_path: 1 }
            |                                      ^^
            = expected: `http`, `https` or both

        sluicegate.yaml:7:83: `https_redirect_status_code` in route `d` cannot be 303
          7 | …: [/d], https_redirect_status_code: 303, strip_path: 1 }
            |                                      ^^^
            = expected: 301, 302, 307, 308 or 426

        sluicegate.yaml:7:100: `strip_path` in route `d` must be true or false, not `1`
          7 | …irect_status_code: 303, strip_path: 1 }
            |                                      ^
            = help: write true

        sluicegate.yaml:8:5: route `e` matches on nothing
          8 | - { name: e, protocols: [https], service: { url: x } }
            |     ^^^^
            = expected: at least one of `paths`, `hosts`, `methods`, `headers` or `snis`

        sluicegate.yaml:8:43: `service` in route `e` names no service
          8 | - { name: e, protocols: [https], service: { url: x } }
            |                                           ^^^^^^^^^^
            = expected: `name: …` or `id: …`

        sluicegate.yaml:9:22: `hosts` in route `f`: `::1` cannot be a host: an IPv6 address stands in brackets
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                      ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:9:29: `hosts` in route `f`: `a:0` cannot be a host: the port must be a number from 1 to 65535
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                             ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:9:45: `paths` in route `f`: the path `/a%41` is not normalised, write `/aA`
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                             ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:9:52: `paths` in route `f`: the path `/%2f` is not normalised, write `/%2F`
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                                    ^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:9:60: `paths` in route `f`: `~/a|b(` is not a regular expression: unclosed group
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                                            ^^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        29 errors in the configuration
    "#]].assert_eq(&report(
        r#"_format_version: "3.0"
routes:
- name: "my route"
- { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
- { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
- { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
- { name: d, snis: ["*"], protocols: [], paths: [/d], https_redirect_status_code: 303, strip_path: 1 }
- { name: e, protocols: [https], service: { url: x } }
- { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
"#,
    ));
}

#[test]
fn expressions() {
    expect![[r#"
        sluicegate.yaml:2:1: `_format_version` is missing
          2 | routes:
            | ^^^^^^
            = expected: `_format_version: "3.0"`
            = help: put it on the first line

        sluicegate.yaml:3:26: `expression` in route `a`: at character 11: expected an operator: `==`, `!=`, `~`, `^=`, `=^`, `>`, `>=`, `<`, `<=`, `in`, `not in` or `contains`, found `=`
          3 | - { name: a, expression: 'http.path = "/"' }
            |                          ^^^^^^^^^^^^^^^^^

        sluicegate.yaml:4:5: route `b` has an `expression` and `paths`
          4 | - { name: b, expression: 'http.path == "/"', paths: [/b] }
            |     ^^^^
            = help: put it into the expression, or use `regex_priority`

        sluicegate.yaml:5:5: route `c` has a `priority` and `hosts`
          5 | - { name: c, priority: 1, hosts: [c.com] }
            |     ^^^^
            = help: put it into the expression, or use `regex_priority`

        sluicegate.yaml:6:56: `priority` in route `d` is out of range: 70368744177664
          6 | - { name: d, expression: 'http.path == "/"', priority: 70368744177664 }
            |                                                        ^^^^^^^^^^^^^^
            = expected: a whole number from 0 to 70368744177663

        5 errors in the configuration
    "#]].assert_eq(&report(
        r#"
routes:
- { name: a, expression: 'http.path = "/"' }
- { name: b, expression: 'http.path == "/"', paths: [/b] }
- { name: c, priority: 1, hosts: [c.com] }
- { name: d, expression: 'http.path == "/"', priority: 70368744177664 }
"#,
    ));
}

#[test]
fn services() {
    expect![[r#"
        sluicegate.yaml:3:5: service `a` needs `url` or `host`
          3 | - { name: a }
            |     ^^^^
            = expected: `url: http://127.0.0.1:9000`, or `protocol: queue` and `host: <queue>`

        sluicegate.yaml:4:19: `url` in service `b`: `127.0.0.1:9000` is not a URL
          4 | - { name: b, url: "127.0.0.1:9000" }
            |                   ^^^^^^^^^^^^^^^^
            = expected: such as http://127.0.0.1:9000 or https://example.com/base
            = help: write http://127.0.0.1:9000

        sluicegate.yaml:5:19: `url` in service `c`: URLs of `ftp` are not supported
          5 | - { name: c, url: "ftp://x" }
            |                   ^^^^^^^^^
            = expected: such as http://127.0.0.1:9000 or https://example.com/base

        sluicegate.yaml:6:19: `url` in service `d`: a URL here cannot contain a user or a password
          6 | - { name: d, url: ********************, host: x }
            |                   ^^^^^^^^^^^^^^^^^^^^
            = expected: such as http://127.0.0.1:9000 or https://example.com/base

        sluicegate.yaml:6:41: service `d` has both `url` and `host`
          6 | - { name: d, url: ********************, host: x }
            |                                         ^^^^
            = help: `url` says it all; remove `host`
            = note: `url` is at sluicegate.yaml:6:14

        sluicegate.yaml:7:19: `url` in service `e`: `x:99999` has a port that is not a number from 0 to 65535
          7 | - { name: e, url: "http://x:99999" }
            |                   ^^^^^^^^^^^^^^^^
            = expected: such as http://127.0.0.1:9000 or https://example.com/base

        sluicegate.yaml:8:20: `host` in service `f`: `http://x` cannot be a host: it is a URL; use `url` for that
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                    ^^^^^^^^^^
            = expected: a host name or an IP address

        sluicegate.yaml:8:38: `port` in service `f` is out of range: 70000
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                      ^^^^^
            = expected: a whole number from 0 to 65535

        sluicegate.yaml:8:51: `path` in service `f`: `api` does not begin with `/`
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                                   ^^^
            = help: write /api

        sluicegate.yaml:8:65: `retries` in service `f` is out of range: -1
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                                                 ^^
            = expected: a whole number from 0 to 32767

        sluicegate.yaml:8:86: `connect_timeout` in service `f` is out of range: 0
          8 | … api, retries: -1, connect_timeout: 0 }
            |                                      ^
            = expected: a whole number from 1 to 2147483646

        sluicegate.yaml:9:23: `tls_verify` in service `g` needs `protocol: https`
          9 | - { name: g, host: x, tls_verify: true, vhost: / }
            |                       ^^^^^^^^^^

        sluicegate.yaml:9:41: `vhost` in service `g` needs `protocol: queue`
          9 | - { name: g, host: x, tls_verify: true, vhost: / }
            |                                         ^^^^^

        sluicegate.yaml:10:5: service `h` needs `host`
          10 | - { name: h, protocol: queue, url: "http://x", user: nobody, vhost: lost }
             |     ^^^^
             = expected: `host: orders`

        sluicegate.yaml:10:31: `url` in service `h` has no meaning with `protocol: queue`
          10 | - { name: h, protocol: queue, url: "http://x", user: nobody, vhost: lost }
             |                               ^^^
             = help: remove it; `host` is the name of the queue

        sluicegate.yaml:11:24: `protocol` in service `i` cannot be `htpp`
          11 | - { name: i, protocol: htpp, host: x, id: 17 }
             |                        ^^^^
             = expected: `http`, `https` or `queue`
             = help: did you mean `http`?

        sluicegate.yaml:11:43: `id` in service `i` must be text, not a number
          11 | - { name: i, protocol: htpp, host: x, id: 17 }
             |                                           ^^
             = help: quote it: "17"

        sluicegate.yaml:12:14: unknown key `ulr` in service `j`
          12 | - { name: j, ulr: "http://x" }
             |              ^^^
             = help: did you mean `url`?

        18 errors in the configuration
    "#]]
    .assert_eq(&report(
        r#"_format_version: "3.0"
services:
- { name: a }
- { name: b, url: "127.0.0.1:9000" }
- { name: c, url: "ftp://x" }
- { name: d, url: "http://user:pw@x/y", host: x }
- { name: e, url: "http://x:99999" }
- { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
- { name: g, host: x, tls_verify: true, vhost: / }
- { name: h, protocol: queue, url: "http://x", user: nobody, vhost: lost }
- { name: i, protocol: htpp, host: x, id: 17 }
- { name: j, ulr: "http://x" }
"#,
    ));
}

#[test]
fn consumers_keys_and_plugins() {
    expect![[r#"
        sluicegate.yaml:3:5: a consumer needs a name
          3 | - { tags: [a] }
            |     ^^^^
            = expected: `username: …`, `custom_id: …` or both

        sluicegate.yaml:4:67: unknown key `keey` in an API key
          4 | - { username: alice, keyauth_credentials: [{ key: ********** }, { keey: ********** }] }
            |                                                                   ^^^^
            = expected: `id`, `key`, `tags` or `consumer`
            = help: did you mean `key`?

        sluicegate.yaml:5:15: the consumer name `alice` is given twice
          5 | - { username: alice }
            |               ^^^^^
            = help: names are unique; rename one of the two
            = note: first given at sluicegate.yaml:4:15

        sluicegate.yaml:6:48: this API key is given twice
          6 | - { custom_id: x, keyauth_credentials: [{ key: ********** }] }
            |                                                ^^^^^^^^^^
            = note: first given at sluicegate.yaml:4:51

        sluicegate.yaml:8:59: plugin `key-auth` stands inside a service and names one too
          8 | - { name: s, url: "http://s", plugins: [{ name: key-auth, service: s }, { name: key-auth }] }
            |                                                           ^^^^^^^
            = help: remove `service`

        sluicegate.yaml:10:48: `config.generator` of plugin `correlation-id` is not one of its words
          10 | - { name: correlation-id, config: { generator: uid, header_name: "a b", echo_downstream: yes }, instance_name:…
             |                                                ^^^
             = expected: `uuid`, `uuid#counter` or `tracker`
             = help: did you mean `uuid`?

        sluicegate.yaml:10:66: `config.header_name` of plugin `correlation-id`: bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'
          10 | - { name: correlation-id, config: { generator: uid, header_name: "a b", echo_downstream: yes }, instance_name:…
             |                                                                  ^^^^^
             = expected: a header name

        sluicegate.yaml:10:90: `config.echo_downstream` of plugin `correlation-id`: expected a boolean
          10 | …eader_name: "a b", echo_downstream: yes }, instance_name: one }
             |                                      ^^^

        sluicegate.yaml:11:11: the plugin `key-auth` is configured twice for this service
          11 | - { name: key-auth, service: s, config: { key_names: [] } }
             |           ^^^^^^^^
             = note: first given at sluicegate.yaml:8:81

        sluicegate.yaml:11:43: `config.key_names` of plugin `key-auth`: length must be at least 1
          11 | - { name: key-auth, service: s, config: { key_names: [] } }
             |                                           ^^^^^^^^^

        sluicegate.yaml:12:33: `route` in plugin `rate-limiting`: there is no route `nowhere`
          12 | - { name: rate-limiting, route: nowhere, consumer: alise, config: 5 }
             |                                 ^^^^^^^

        sluicegate.yaml:12:52: `consumer` in plugin `rate-limiting`: there is no consumer `alise`
          12 | - { name: rate-limiting, route: nowhere, consumer: alise, config: 5 }
             |                                                    ^^^^^
             = help: did you mean `alice`?

        sluicegate.yaml:12:67: `config` of plugin `rate-limiting` has a wrong value
          12 | - { name: rate-limiting, route: nowhere, consumer: alise, config: 5 }
             |                                                                   ^
             = expected: a record

        sluicegate.yaml:13:5: `config` of plugin `rate-limiting`: at least one of second and minute is needed
          13 | - { name: rate-limiting }
             |     ^

        sluicegate.yaml:14:5: a plugin needs `name`
          14 | - { config: {} }
             |     ^^^^^^
             = expected: `name: key-auth`

        15 errors in the configuration
    "#]].assert_eq(&report(
        r#"_format_version: "3.0"
consumers:
- { tags: [a] }
- { username: alice, keyauth_credentials: [{ key: secret-one }, { keey: secret-two }] }
- { username: alice }
- { custom_id: x, keyauth_credentials: [{ key: secret-one }] }
services:
- { name: s, url: "http://s", plugins: [{ name: key-auth, service: s }, { name: key-auth }] }
plugins:
- { name: correlation-id, config: { generator: uid, header_name: "a b", echo_downstream: yes }, instance_name: one }
- { name: key-auth, service: s, config: { key_names: [] } }
- { name: rate-limiting, route: nowhere, consumer: alise, config: 5 }
- { name: rate-limiting }
- { config: {} }
"#,
    ));
}

#[test]
fn subscriptions() {
    expect![[r#"
        sluicegate.yaml:2:65: `max` in `retry` (1s) is shorter than `base` (60s)
          2 | - { name: a, queue: q, url: "http://x", retry: { base: 1m, max: 1s, factor: 0, attempts: 0, max_age: 1d } }
            |                                                                 ^^
            = expected: the longest wait

        sluicegate.yaml:2:77: `factor` in `retry` is out of range: 0
          2 | …retry: { base: 1m, max: 1s, factor: 0, attempts: 0, max_age: 1d } }
            |                                      ^
            = expected: a number from 1 to 100

        sluicegate.yaml:2:90: `attempts` in `retry` is out of range: 0
          2 | …: 1m, max: 1s, factor: 0, attempts: 0, max_age: 1d } }
            |                                      ^
            = expected: a whole number from 1 to 1000

        sluicegate.yaml:2:93: `max_age` in `retry` is not supported yet
          2 | …m, max: 1s, factor: 0, attempts: 0, max_age: 1d } }
            |                                      ^^^^^^^

        sluicegate.yaml:3:11: the subscription name `a` is given twice
          3 | - { name: a, queue: q, url: "x/y", max_in_flight: lots, timeout: 1 hour }
            |           ^
            = note: first given at sluicegate.yaml:2:11

        sluicegate.yaml:3:29: `url` in subscription `a`: `x/y` is not a URL
          3 | - { name: a, queue: q, url: "x/y", max_in_flight: lots, timeout: 1 hour }
            |                             ^^^^^
            = expected: such as http://127.0.0.1:9001/fulfil
            = help: write http://x/y

        sluicegate.yaml:3:51: `max_in_flight` in subscription `a` must be a whole number from 1 to 10000, not text
          3 | - { name: a, queue: q, url: "x/y", max_in_flight: lots, timeout: 1 hour }
            |                                                   ^^^^

        sluicegate.yaml:3:66: `timeout` in subscription `a`: `1 hour` is not a duration: it has an unknown unit
          3 | - { name: a, queue: q, url: "x/y", max_in_flight: lots, timeout: 1 hour }
            |                                                                  ^^^^^^
            = expected: a number with a unit, such as 200ms, 1s, 5m, 2h or 1m30s

        sluicegate.yaml:4:5: a subscription needs `name`
          4 | - { queue: q, url: "amqp://x", dead_letter: q, signing: { type: v1 } }
            |     ^^^^^
            = expected: `name: fulfil`

        sluicegate.yaml:4:20: `url` in a subscription: URLs of `amqp` are not supported
          4 | - { queue: q, url: "amqp://x", dead_letter: q, signing: { type: v1 } }
            |                    ^^^^^^^^^^
            = expected: such as http://127.0.0.1:9001/fulfil

        sluicegate.yaml:4:45: a subscription would dead-letter into the queue it reads
          4 | - { queue: q, url: "amqp://x", dead_letter: q, signing: { type: v1 } }
            |                                             ^
            = help: name another queue, such as q.dead

        sluicegate.yaml:4:48: `signing` in a subscription is not supported yet
          4 | - { queue: q, url: "amqp://x", dead_letter: q, signing: { type: v1 } }
            |                                                ^^^^^^^

        sluicegate.yaml:5:47: there is no user `nobody` to publish and consume as
          5 | - { name: c, queue: q, url: "http://x", user: nobody, headers: { Host: x, "a b": c, d: ******** } }
            |                                               ^^^^^^
            = help: say `user: guest`

        sluicegate.yaml:5:66: `headers` in subscription `c`: `host` cannot be set, the connection needs it
          5 | - { name: c, queue: q, url: "http://x", user: nobody, headers: { Host: x, "a b": c, d: ******** } }
            |                                                                  ^^^^

        sluicegate.yaml:5:75: `headers` in subscription `c`: `a b` is not a header name
          5 | …, user: nobody, headers: { Host: x, "a b": c, d: ******** } }
            |                                      ^^^^^

        sluicegate.yaml:5:88: `d` in `headers` has a character that a header cannot have
          5 | …y, headers: { Host: x, "a b": c, d: ******** } }
            |                                      ^^^^^^^^

        16 errors in the configuration
    "#]].assert_eq(&report(
        r#"subscriptions:
- { name: a, queue: q, url: "http://x", retry: { base: 1m, max: 1s, factor: 0, attempts: 0, max_age: 1d } }
- { name: a, queue: q, url: "x/y", max_in_flight: lots, timeout: 1 hour }
- { queue: q, url: "amqp://x", dead_letter: q, signing: { type: v1 } }
- { name: c, queue: q, url: "http://x", user: nobody, headers: { Host: x, "a b": c, d: "\u0001" } }
"#,
    ));
}
