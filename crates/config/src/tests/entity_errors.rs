//! Wrong entities and subscriptions, and exactly what a person is shown.

// What is shown is long.
#![allow(clippy::too_many_lines)]

use expect_test::expect;

use super::{messages, report};

#[test]
fn what_kong_has_and_we_do_not_is_refused_by_name() {
    expect![[r#"
        `_workspace` is not supported: there is one workspace, `default`
        a certificate needs `key`
        `cert` in a certificate: `x`: invalid certificate: no PEM certificate found
        `client_certificate` in service `b`: there is no certificate `x`
        `connect_timeout` in service `b` must be a whole number, not text
        `paths` in route `r`: cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'
        route `s` matches on nothing
        `sources` in route `s`: cannot set 'sources' when 'protocols' is 'http' or 'https'
        `acls` in consumer `c` is not supported: the plugin acl is not built in yet
        `basicauth_credentials` in consumer `c` is not supported: the plugin basic-auth is not built in yet
        unknown key `kye` in an API key
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
- { username: c, acls: [{ group: g }], basicauth_credentials: [{ username: u }], keyauth_credentials: [{ key: k, kye: 5 }] }
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
            = expected: at least one of `methods`, `hosts`, `headers`, `paths` or `snis`

        sluicegate.yaml:3:9: `name` in route `my route`: `my route` is not a name
          3 | - name: "my route"
            |         ^^^^^^^^^^
            = expected: letters, digits, `.`, `-`, `_` and `~`
            = help: write my-route

        sluicegate.yaml:4:22: `paths` in route `a`: `/a//b`: must not have empty segments
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                      ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:29: `paths` in route `a`: `/a/../b`: non-normalized path, consider use '/b' instead
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                             ^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:38: `paths` in route `a`: the path `/a b` contains ' ', which a path cannot
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                      ^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:46: `paths` in route `a`: `~a`: should start with: / (fixed path) or ~/ (regex path)
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                              ^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:52: `paths` in route `a`: `~/(`: invalid regex: '/(' (unclosed group)
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                                    ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:4:59: `paths` in route `a`: the path `/users/[0-9]+` contains '[', which a path cannot
          4 | - { name: a, paths: [/a//b, /a/../b, "/a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                                           ^^^^^^^^^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$
            = help: for a regular expression write ~/users/[0-9]+

        sluicegate.yaml:4:76: `paths` in route `a`: `/%zz`: invalid url-encoded value: '%zz'
          4 | …a b", "~a", "~/(", "/users/[0-9]+", /%zz] }
            |                                      ^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:5:22: `hosts` in route `b`: `*.*`: invalid wildcard: must have at most one wildcard
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                      ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:29: `hosts` in route `b`: `a.*.b`: invalid wildcard: must be placed at leftmost or rightmost label
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                             ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:36: `hosts` in route `b`: invalid hostname: http://x
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                    ^^^^^^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:48: `hosts` in route `b`: invalid hostname: a:b
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                                ^^^^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:55: `hosts` in route `b`: length must be at least 1
          5 | - { name: b, hosts: ["*.*", a.*.b, "http://x", "a:b", ""], methods: [GTE, Get] }
            |                                                       ^^
            = expected: such as example.com, *.example.com, example.* or example.com:8443

        sluicegate.yaml:5:75: `methods` in route `b`: `Get` is not a method
          5 | …tp://x", "a:b", ""], methods: [GTE, Get] }
            |                                      ^^^
            = expected: capital letters, such as GET
            = help: did you mean `GET`?

        sluicegate.yaml:6:25: `headers.Host` in route `c`: cannot contain 'host' header, which must be specified in the 'hosts' attribute
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                         ^^^^
            = expected: a header name

        sluicegate.yaml:6:36: `headers.X Y` in route `c`: bad header name 'X Y', allowed characters are A-Z, a-z, 0-9, '_', and '-'
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                                    ^^^^^
            = expected: a header name

        sluicegate.yaml:6:51: `headers.X` in route `c` must be a list, not text
          6 | - { name: c, headers: { Host: [a], "X Y": [b], X: v, Y: ["~*("] } }
            |                                                   ^
            = help: put it in brackets: [v]

        sluicegate.yaml:7:27: `protocols` in route `d` is empty
          7 | - { name: d, snis: ["*"], protocols: [], paths: [/d], https_redirect_status_code: 303, strip_path: 1 }
            |                           ^^^^^^^^^
            = expected: `http`, `https` or both

        sluicegate.yaml:8:5: route `e` matches on nothing
          8 | - { name: e, protocols: [https], service: { url: x } }
            |     ^^^^
            = expected: at least one of `methods`, `hosts`, `headers`, `paths` or `snis`

        sluicegate.yaml:8:43: `service` in route `e` names no service
          8 | - { name: e, protocols: [https], service: { url: x } }
            |                                           ^^^^^^^^^^
            = expected: `name: …` or `id: …`

        sluicegate.yaml:9:45: `paths` in route `f`: `/a%41`: non-normalized path, consider use '/aA' instead
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                             ^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:9:52: `paths` in route `f`: `/%2f`: non-normalized path, consider use '/%2F' instead
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                                    ^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        sluicegate.yaml:9:60: `paths` in route `f`: `~/a|b(`: invalid regex: '/a|b(' (unclosed group)
          9 | - { name: f, hosts: ["::1", "a:0"], paths: [/a%41, "/%2f", "~/a|b("] }
            |                                                            ^^^^^^^^
            = expected: a prefix such as /orders, or ~ and a regular expression such as ~/orders/[0-9]+$

        24 errors in the configuration
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

        sluicegate.yaml:4:5: route `b`: Router Expression failed validation: cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously
          4 | - { name: b, expression: 'http.path == "/"', paths: [/b] }
            |     ^^^^

        sluicegate.yaml:5:5: route `c`: Router Expression failed validation: cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously
          5 | - { name: c, priority: 1, hosts: [c.com] }
            |     ^^^^

        sluicegate.yaml:6:56: `priority` in route `d`: `70368744177664`: value should be between 0 and 70368744177663
          6 | - { name: d, expression: 'http.path == "/"', priority: 70368744177664 }
            |                                                        ^^^^^^^^^^^^^^

        4 errors in the configuration
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

        sluicegate.yaml:8:20: `host` in service `f`: invalid value: http://x
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                    ^^^^^^^^^^
            = expected: a host name or an IP address
            = help: it is a URL; use `url` for that

        sluicegate.yaml:8:38: `port` in service `f`: `70000`: value should be between 0 and 65535
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                      ^^^^^

        sluicegate.yaml:8:51: `path` in service `f`: `api`: should start with: /
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                                   ^^^
            = expected: a path such as /api
            = help: write /api

        sluicegate.yaml:8:65: `retries` in service `f`: `-1`: value should be between 0 and 32767
          8 | - { name: f, host: "http://x", port: 70000, path: api, retries: -1, connect_timeout: 0 }
            |                                                                 ^^

        sluicegate.yaml:8:86: `connect_timeout` in service `f`: `0`: value should be between 1 and 2147483646
          8 | … api, retries: -1, connect_timeout: 0 }
            |                                      ^

        sluicegate.yaml:9:23: `tls_verify` in service `g` needs `protocol: https`
          9 | - { name: g, host: x, tls_verify: true, vhost: / }
            |                       ^^^^^^^^^^

        sluicegate.yaml:9:41: `vhost` in service `g` needs `protocol: queue`
          9 | - { name: g, host: x, tls_verify: true, vhost: / }
            |                                         ^^^^^

        sluicegate.yaml:10:31: `url` in service `h` has no meaning with `protocol: queue`
          10 | - { name: h, protocol: queue, url: "http://x", user: nobody, vhost: lost }
             |                               ^^^
             = help: remove it; `host` is the name of the queue

        sluicegate.yaml:11:24: `protocol` in service `i` cannot be `htpp`
          11 | - { name: i, protocol: htpp, host: x, id: 17 }
             |                        ^^^^
             = expected: `grpc`, `grpcs`, `http`, `https`, `tcp`, `tls`, `tls_passthrough`, `udp` or `queue`
             = help: did you mean `http`?

        sluicegate.yaml:11:43: `id` in service `i` must be text, not a number
          11 | - { name: i, protocol: htpp, host: x, id: 17 }
             |                                           ^^
             = help: quote it: "17"

        sluicegate.yaml:12:14: unknown key `ulr` in service `j`
          12 | - { name: j, ulr: "http://x" }
             |              ^^^
             = help: did you mean `url`?

        17 errors in the configuration
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
            = expected: `id`, `consumer`, `ttl`, `key` or `tags`
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

        sluicegate.yaml:8:81: the plugin `key-auth` is configured twice for this service
          8 | …me: key-auth, service: s }, { name: key-auth }] }
            |                                      ^^^^^^^^
            = note: first given at sluicegate.yaml:8:49

        sluicegate.yaml:10:48: `config.generator` of plugin `correlation-id` is not one of its words
          10 | - { name: correlation-id, config: { generator: uid, header_name: "a b", echo_downstream: yes }, instance_name:…
             |                                                ^^^
             = expected: `uuid`, `uuid#counter` or `tracker`
             = help: did you mean `uuid`?

        sluicegate.yaml:10:66: `config.header_name` of plugin `correlation-id`: bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'
          10 | - { name: correlation-id, config: { generator: uid, header_name: "a b", echo_downstream: yes }, instance_name:…
             |                                                                  ^^^^^
             = expected: a header name

        sluicegate.yaml:10:90: `config.echo_downstream` of plugin `correlation-id` must be true or false, not `yes`
          10 | …eader_name: "a b", echo_downstream: yes }, instance_name: one }
             |                                      ^^^
             = help: write true

        sluicegate.yaml:11:11: the plugin `key-auth` is configured twice for this service
          11 | - { name: key-auth, service: s, config: { key_names: [] } }
             |           ^^^^^^^^
             = note: first given at sluicegate.yaml:8:49

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

        sluicegate.yaml:12:67: `config` of plugin `rate-limiting` must be a map of `key: value`, not a number
          12 | - { name: rate-limiting, route: nowhere, consumer: alise, config: 5 }
             |                                                                   ^

        sluicegate.yaml:13:5: `config` of plugin `rate-limiting`: at least one of second and minute is needed
          13 | - { name: rate-limiting }
             |     ^^^^

        sluicegate.yaml:14:5: a plugin needs `name`
          14 | - { config: {} }
             |     ^^^^^^
             = expected: `name: key-auth`

        16 errors in the configuration
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
