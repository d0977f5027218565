"""Kong's Admin API as a table: for each kind of entity its fields with type, default, range and words, its rules over
several fields, and the body of each error. Written from Kong's own schemas and specs (3.9), not from our code;
`test_http_kong_parity.py` makes one test case of each row.

A row of FIELDS is `(field, default, good values, [(bad value, message)])`. `NONE` is a field without a default, which
then shows as null; `AUTO` one that the gateway fills in; `MUST` one that must be given. A message is a text, or what
stands in `fields` under the field's name when it is nested. A row of RULES is `(body, messages of the entity, fields)`, one of OPTIONS `(option, bad value, message)`.
"""

NONE, AUTO, MUST = None, "<auto>", "<must>"
UUID = "11111111-2222-4333-8444-555555555555"

STRING, INTEGER, NUMBER = "expected a string", "expected an integer", "expected a number"
BOOLEAN, ARRAY, SET, MAP, RECORD = ("expected a boolean", "expected an array", "expected a set", "expected a map",
                                    "expected a record")
EMPTY, REQUIRED, UNKNOWN, BAD_UUID = ("length must be at least 1", "required field missing", "unknown field",
                                      "expected a valid UUID")
NULL = "value must be null"
PROTOCOLS = "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp"
CONDITION = "failed conditional validation given value of field '{}'"


def between(low, high):
    return f"value should be between {low} and {high}"


def bad_name(value):
    return f"invalid value '{value}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"


def bad_tag(value):
    return f"invalid tag '{value}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"


def bad_path(value):
    return f"invalid path: '{value}' (characters outside of the reserved list of RFC 3986 found)"


def bad_header(value):
    return f"bad header name '{value}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


COOKIE = ("contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters "
          "()<>@,;:\\\"/?={}[] are not allowed.")
NO_REGEX_START = "should start with: / (fixed path) or ~/ (regex path)"


def boolean(name, default, must=True):
    return (name, default, [not default], [("x", BOOLEAN), (1, BOOLEAN)] + ([(None, REQUIRED)] if must else []))


def integer(name, default, low, high, must=False):
    bad = [("x", INTEGER), (low + 0.5, INTEGER), (low - 1, between(low, high)), (high + 1, between(low, high)),
           (True, INTEGER)]
    return (name, default, [low, high], bad + ([(None, REQUIRED)] if must else []))


def timeout(name):
    return integer(name, 60000, 1, 2147483646)


NAME = ("name", NONE, ["a.b-c_d~1", "円"], [(1, STRING), ("", EMPTY), ("a b", bad_name("a b")), ("a/b", bad_name("a/b"))])
TAGS = ("tags", NONE, [["a b", "ü"], []],
        [("x", SET), ({"a": 1}, SET), ([1], [STRING]), ([""], [EMPTY]), (["a,b"], [bad_tag("a,b")]),
         (["ok", "a/b"], [None, bad_tag("a/b")]), ([None], [REQUIRED])])
ID = ("id", AUTO, [], [("x", BAD_UUID), (1, STRING)])
CREATED_AT = ("created_at", AUTO, [1700000000], [("x", INTEGER), (-1, "expected a valid timestamp")])
UPDATED_AT = ("updated_at", AUTO, [], [])
COMMON = [ID, CREATED_AT, UPDATED_AT, TAGS]


def foreign(name, default=NONE):
    """A reference that does not hold is another error (see FOREIGN)."""
    return (name, default, [], [({"id": "x"}, {"id": BAD_UUID}), ({}, {"id": "missing primary key"})])


def headers(name, default=NONE, routes=False):
    bad = [("x", MAP), ({"x": "y"}, ARRAY), ({"x": [1]}, [STRING]), ({"a b": ["x"]}, bad_header("a b"))]
    host = "cannot contain 'host' header, which must be specified in the 'hosts' attribute"
    return (name, default, [{"x-a": ["1", "2"]}], bad + ([({"Host": ["x"]}, host)] if routes else []))


def peers(name):
    """`sources` and `destinations`."""
    return (name, NONE, [], [
        ("x", SET), ([1], [RECORD]), ([{"ip": "10.0.0.300"}], [{"ip": "invalid ip or cidr range: '10.0.0.300'"}]),
        ([{"ip": "10.0.0.0/33"}], [{"ip": "invalid ip or cidr range: '10.0.0.0/33'"}]),
        ([{"port": 65536}], [{"port": between(0, 65535)}]), ([{"port": "80"}], [{"port": INTEGER}]),
        ([{"ip": "10.0.0.1", "x": 1}], [{"x": UNKNOWN}]),
        ([{}], [{"@entity": ["at least one of these fields must be non-empty: 'ip', 'port'"]}])])


SERVICES = dict(
    path="services", base={"host": "example.com"},
    fields=COMMON + [
        NAME,
        integer("retries", 5, 0, 32767),
        ("protocol", "http", ["https"], [("ftp", PROTOCOLS), ("HTTP", PROTOCOLS), (1, STRING), (None, REQUIRED)]),
        ("host", MUST, ["a.example", "10.0.0.1", "a_b", "example.com."],
         [("", EMPTY), (1, STRING), ("a:80", "must not have a port"), ("a b", "invalid value: a b"),
          ("10.0.0.1:80", "must not have a port"), ("10.0.0.256", "invalid value: 10.0.0.256"),
          ("*.a", "invalid value: *.a"), ("a..b", "invalid value: a..b"), (None, REQUIRED)]),
        integer("port", 80, 0, 65535, must=True),
        ("path", NONE, ["/", "/a/b", "/a%20b", "/a;b=c"],
         [("a", "should start with: /"), ("/a//b", "must not have empty segments"), ("/a b", bad_path("/a b")),
          ("/a?b", bad_path("/a?b")), ("/%zz", "invalid url-encoded value: '%zz'"), ("", EMPTY), (1, STRING)]),
        timeout("connect_timeout"), timeout("write_timeout"), timeout("read_timeout"),
        boolean("enabled", True),
        ("client_certificate", NONE, [], []), ("tls_verify", NONE, [], []), ("tls_verify_depth", NONE, [], []),
        ("ca_certificates", NONE, [], []),
    ],
    # Fields that only some protocols have, with a body that has them.
    more=[({"protocol": "https"}, [
        ("tls_verify", NONE, [True, False], [("x", BOOLEAN)]),
        integer("tls_verify_depth", NONE, 0, 64),
        ("ca_certificates", NONE, [], [("x", ARRAY), (["x"], [BAD_UUID]), ([1], [STRING])]),
        foreign("client_certificate"),
    ])],
    rules=[({"protocol": protocol, "path": "/x"}, [CONDITION.format("protocol")], {"path": NULL})
           for protocol in ("tcp", "tls", "udp", "grpc", "grpcs")]
    + [({"protocol": protocol, field: value}, [CONDITION.format("protocol")], {field: NULL})
       for protocol in ("http", "grpc", "grpcs", "tcp", "udp", "tls_passthrough")
       for field, value in (("client_certificate", {"id": UUID}), ("tls_verify", True), ("tls_verify_depth", 1),
                            ("ca_certificates", [UUID]))]
    + [({"url": ""}, [], {"url": EMPTY}), ({"url": 1}, [], {"url": STRING}),
       ({"url": "http://a b"}, [], {"host": "invalid value: a b"}),
       ({"url": "ftp://a/"}, [], {"protocol": PROTOCOLS}),
       ({"url": "http://a:70000"}, [], {"port": between(0, 65535)}),
       ({"host": None, "port": 70000}, [], {"host": REQUIRED, "port": between(0, 65535)})],
    shown=[({"url": "https://a.example/p"}, {"protocol": "https", "host": "a.example", "port": 443, "path": "/p"}),
           ({"url": "http://a.example"}, {"protocol": "http", "host": "a.example", "port": 80, "path": None}),
           ({"url": "http://a.example:8080/"}, {"port": 8080, "path": "/"}),
           ({"tags": ["b", "a", "b"]}, {"tags": ["b", "a"]})],
    unique=[("name", "one")],
    foreign=[({"protocol": "https", "client_certificate": {"id": UUID}}, "client_certificate", "certificates")],
)

NEEDS_HTTP = "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'"
NEEDS_HTTPS = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"
NEEDS_GRPC = "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"
NEEDS_GRPCS = "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'"
NEEDS_STREAM = "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"
ONLY_WITH_TLS = "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"
NOT_STREAM = "cannot set '{}' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"
EXCLUSIVE = "these sets are mutually exclusive: {}"
HTTP_SET, TCP_SET, PASS_SET, GRPC_SET = ("('http', 'https')", "('tcp', 'tls', 'udp')", "('tls_passthrough')",
                                         "('grpc', 'grpcs')")

ROUTES = dict(
    path="routes", base={"paths": ["/parity"]},
    fields=COMMON + [
        NAME,
        ("protocols", ["http", "https"], [["https"], ["http"]],
         [("http", SET), ("ftp", "unknown type: ftp"), (["ftp"], "unknown type: ftp"), ([1], "unknown type: 1"),
          (["http", "ftp"], [None, PROTOCOLS]), (["http", 1], [None, STRING]),
          (["http", "tcp"], EXCLUSIVE.format(f"{HTTP_SET}, {TCP_SET}")),
          (["http", "grpc"], EXCLUSIVE.format(f"{HTTP_SET}, {GRPC_SET}")),
          (["http", "tls_passthrough"], EXCLUSIVE.format(f"{HTTP_SET}, {PASS_SET}"))]),
        ("https_redirect_status_code", 426, [301, 302, 307, 308],
         [(300, "expected one of: 426, 301, 302, 307, 308"), ("x", INTEGER), (None, REQUIRED)]),
        boolean("strip_path", True), boolean("preserve_host", False),
        boolean("request_buffering", True), boolean("response_buffering", True),
        foreign("service"),
        ("snis", NONE, [],
         [("x", SET), ([1], [STRING]), (["10.0.0.1"], ["must not be an IP"]), (["a:443"], ["must not have a port"]),
          (["a.*.b"], ["wildcard must be leftmost or rightmost character"]),
          (["*.*"], ["only one wildcard must be specified"])]),
        ("methods", NONE, [["GET", "PURGE"]], [("GET", SET), (["get"], ["invalid value: get"]), ([1], [STRING]),
                                              (["G T"], ["invalid value: G T"])]),
        ("hosts", NONE, [["a.example", "*.b.example", "c.*", "d:8000"]],
         [("x", ARRAY), ([1], [STRING]), (["*.a.*"], ["invalid wildcard: must have at most one wildcard"]),
          (["a.*.b"], ["invalid wildcard: must be placed at leftmost or rightmost label"]),
          (["a*.b"], ["invalid wildcard: must be placed at leftmost or rightmost label"]),
          (["a b"], ["invalid hostname: a b"])]),
        ("paths", NONE, [],
         [("x", ARRAY), (["x"], [NO_REGEX_START]), (["/a//b"], ["must not have empty segments"]),
          (["/a/../b"], ["non-normalized path, consider use '/b' instead"]),
          (["/%61"], ["non-normalized path, consider use '/a' instead"]),
          (["/%zz"], ["invalid url-encoded value: '%zz'"]), ([1], [STRING]), ([""], [EMPTY])]),
        headers("headers", routes=True),
        ("regex_priority", 0, [-5, 100], [("x", INTEGER), (1.5, INTEGER)]),
        ("path_handling", "v0", [], [("v2", "expected one of: v0, v1"), (1, STRING)]),
    ],
    # What the classic flavours do not show: `sources`, `destinations` in routes of streams.
    more=[({"paths": None, "protocols": ["tcp"], "strip_path": False, "snis": None}, [peers("sources"),
                                                                                     peers("destinations")])],
    rules=[
        ({"paths": None}, [NEEDS_HTTPS], {}),
        ({"paths": []}, [NEEDS_HTTPS], {}),
        ({"paths": None, "protocols": ["http"]}, [NEEDS_HTTP], {}),
        ({"paths": None, "protocols": ["https"]}, [NEEDS_HTTPS], {}),
        ({"paths": None, "protocols": ["grpc"], "strip_path": False}, [NEEDS_GRPC], {}),
        ({"paths": None, "protocols": ["grpcs"], "strip_path": False}, [NEEDS_GRPCS], {}),
        ({"paths": None, "protocols": ["tcp"]}, [NEEDS_STREAM], {}),
        ({"paths": None, "protocols": ["tls"]}, [NEEDS_STREAM], {}),
        ({"paths": None, "protocols": ["udp"]}, [NEEDS_STREAM], {}),
        ({"paths": None, "protocols": ["tls_passthrough"]}, ["must set snis when 'protocols' is 'tls_passthrough'"], {}),
        ({"snis": ["a.example"], "protocols": ["http"]}, [ONLY_WITH_TLS],
         {"snis": "length must be 0"}),
        ({"protocols": ["grpc"], "strip_path": True}, [],
         {"strip_path": "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'"}),
        ({"protocols": ["grpc"], "strip_path": False, "methods": ["GET"]}, [],
         {"methods": "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"}),
        ({"protocols": ["grpcs"], "strip_path": False, "sources": [{"port": 1}]}, [],
         {"sources": "cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'"}),
        ({"protocols": ["grpcs"], "strip_path": False, "destinations": [{"port": 1}]}, [],
         {"destinations": "cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'"}),
        ({"sources": [{"port": 1}]}, [], {"sources": "cannot set 'sources' when 'protocols' is 'http' or 'https'"}),
        ({"destinations": [{"port": 1}]}, [],
         {"destinations": "cannot set 'destinations' when 'protocols' is 'http' or 'https'"}),
        ({"protocols": ["tcp"], "sources": [{"port": 1}]}, [], {"paths": NOT_STREAM.format("paths")}),
    ] + [
        ({"paths": None, "protocols": ["tcp"], "sources": [{"port": 1}], field: value}, [],
         {field: NOT_STREAM.format(field)})
        for field, value in (("methods", ["GET"]), ("hosts", ["a"]), ("headers", {"x": ["y"]}))
    ],
    shown=[({"protocols": ["https", "http", "https"]}, {"protocols": ["https", "http"]}),
           ({"methods": ["POST", "GET"]}, {"methods": ["POST", "GET"]})],
    unique=[("name", "one")],
    foreign=[({"service": {"id": UUID}}, "service", "services")],
    unresolved=[({"service": {"name": "nobody"}}, "service", "name", "nobody", "services")],
)

CONSUMERS = dict(
    path="consumers", base={"username": "parity"},
    fields=COMMON + [
        ("username", NONE, ["a b/c", "ü"], [(1, STRING)]),
        ("custom_id", NONE, ["x"], [(1, STRING), ("", EMPTY)]),
    ],
    rules=[({"username": ""}, ["at least one of these fields must be non-empty: 'custom_id', 'username'"],
            {"username": EMPTY}),
           ({"username": None}, ["at least one of these fields must be non-empty: 'custom_id', 'username'"], {}),
           ({"username": None, "custom_id": None},
            ["at least one of these fields must be non-empty: 'custom_id', 'username'"], {})],
    shown=[({"username": None, "custom_id": "only"}, {"username": None, "custom_id": "only"})],
    unique=[("username", "one"), ("custom_id", "one")],
    foreign=[],
)

PLUGINS = dict(
    path="plugins", base={"name": "correlation-id"},
    fields=COMMON + [
        ("name", MUST, [], [(None, REQUIRED),
                            ("nothing", "plugin 'nothing' not enabled; add it to the 'plugins' configuration property")]),
        ("instance_name", NONE, ["a.b"], [(1, STRING), ("", EMPTY), ("a b", bad_name("a b"))]),
        ("route", NONE, [], [({"id": "x"}, {"id": BAD_UUID}), ({}, {"id": "missing primary key"})]),
        ("service", NONE, [], [({"id": "x"}, {"id": BAD_UUID}), ({}, {"id": "missing primary key"})]),
        ("consumer", NONE, [], [({"id": "x"}, {"id": BAD_UUID}), ({}, {"id": "missing primary key"})]),
        ("protocols", ["grpc", "grpcs", "http", "https"], [["http"], ["https", "http"]],
         [("http", SET), (["ftp"], ["expected one of: grpc, grpcs, http, https"]),
          (["tcp"], ["expected one of: grpc, grpcs, http, https"]), (None, REQUIRED)]),
        boolean("enabled", True),
        ("config", {"header_name": "Kong-Request-ID", "generator": "uuid#counter", "echo_downstream": False}, [],
         [("x", RECORD), ({"nope": 1}, {"nope": UNKNOWN}), ({"echo_downstream": "x"}, {"echo_downstream": BOOLEAN}),
          ({"generator": "x"}, {"generator": "expected one of: uuid, uuid#counter, tracker"}),
          ({"header_name": ""}, {"header_name": EMPTY})]),
    ],
    more=[
        ({"name": "key-auth"}, [
            ("config", {"key_names": ["apikey"], "hide_credentials": False, "anonymous": None, "key_in_header": True,
                        "key_in_query": True, "key_in_body": False, "run_on_preflight": True, "realm": None}, [],
             [({"key_names": "x"}, {"key_names": ARRAY}), ({"key_names": ["a b"]}, {"key_names": [bad_header("a b")]}),
              ({"hide_credentials": "x"}, {"hide_credentials": BOOLEAN}), ({"anonymous": ""}, {"anonymous": EMPTY})]),
            ("consumer", NONE, [], [({"id": UUID}, NULL)]),
        ]),
        ({"name": "rate-limiting", "config": {"minute": 1}}, [
            ("config", AUTO, [],
             [({"minute": 0}, {"minute": "value must be greater than 0"}), ({"minute": "x"}, {"minute": NUMBER}),
              ({"minute": 1, "limit_by": "x"},
               {"limit_by": "expected one of: consumer, credential, ip, service, header, path"}),
              ({"minute": 1, "fault_tolerant": 1}, {"fault_tolerant": BOOLEAN})]),
        ]),
        ({"name": "prometheus"}, [
            ("config", AUTO, [], [({"per_consumer": 1}, {"per_consumer": BOOLEAN})]),
        ]),
    ],
    rules=[],
    shown=[],
    unique=[],
    foreign=[({"route": {"id": UUID}}, "route", "routes"), ({"service": {"id": UUID}}, "service", "services"),
             ({"consumer": {"id": UUID}}, "consumer", "consumers")],
)

HASHES = "none, consumer, ip, header, cookie, path, query_arg, uri_capture"
CHECK_TYPES = "expected one of: tcp, http, https, grpc, grpcs"
STATUSES_OK = [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308]
HEALTHCHECKS = {
    "active": {"type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_sni": None,
               "https_verify_certificate": True, "headers": None,
               "healthy": {"interval": 0, "http_statuses": [200, 302], "successes": 0},
               "unhealthy": {"interval": 0, "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
                             "tcp_failures": 0, "timeouts": 0, "http_failures": 0}},
    "passive": {"type": "http", "healthy": {"http_statuses": STATUSES_OK, "successes": 0},
                "unhealthy": {"http_statuses": [429, 500, 503], "tcp_failures": 0, "timeouts": 0, "http_failures": 0}},
    "threshold": 0,
}


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def health(path, *pairs):
    return [(nested(path, value), nested(path, message)) for value, message in pairs]


BYTE = ((-1, between(0, 255)), (256, between(0, 255)), ("x", INTEGER))
SECONDS = ((-1, between(0, 65535)), (65536, between(0, 65535)), ("x", NUMBER))
STATUSES = (([99], [between(100, 999)]), ([1000], [between(100, 999)]), ("x", ARRAY), (["x"], [INTEGER]))
HEALTH_BAD = (
    [("x", RECORD), ({"nope": 1}, {"nope": UNKNOWN})]
    + health("active.type", ("udp", CHECK_TYPES)) + health("passive.type", ("udp", CHECK_TYPES))
    + health("active.timeout", *SECONDS) + health("active.healthy.interval", *SECONDS)
    + health("active.unhealthy.interval", *SECONDS)
    + health("active.concurrency", (0, between(1, 2147483648)), ("x", INTEGER))
    + health("active.http_path", ("x", "should start with: /"))
    + health("active.https_sni", ("10.0.0.1", "must not be an IP"))
    + health("active.https_verify_certificate", ("x", BOOLEAN))
    + health("active.headers", ("x", MAP), ({"x": "y"}, ARRAY))
    + health("active.healthy.successes", *BYTE) + health("active.unhealthy.tcp_failures", *BYTE)
    + health("active.unhealthy.timeouts", *BYTE) + health("active.unhealthy.http_failures", *BYTE)
    + health("passive.healthy.successes", *BYTE) + health("passive.unhealthy.tcp_failures", *BYTE)
    + health("passive.unhealthy.timeouts", *BYTE) + health("passive.unhealthy.http_failures", *BYTE)
    + health("active.healthy.http_statuses", *STATUSES) + health("active.unhealthy.http_statuses", *STATUSES)
    + health("passive.healthy.http_statuses", *STATUSES) + health("passive.unhealthy.http_statuses", *STATUSES)
    + health("threshold", (-1, between(0, 100)), (101, between(0, 100)), ("x", NUMBER))
)


def invalid_name(value, why):
    return f"Invalid name ('{value}'); {why}"


UPSTREAMS = dict(
    path="upstreams", base={"name": "parity.upstream"},
    fields=COMMON + [
        ("name", MUST, ["a.upstream", "b_c"],
         [(1, STRING), ("", EMPTY), (None, REQUIRED), ("a b", invalid_name("a b", "must be a valid hostname")),
          ("10.0.0.1", invalid_name("10.0.0.1", "no ip addresses allowed")),
          ("a:80", invalid_name("a:80", "no port allowed"))]),
        ("algorithm", "round-robin", ["least-connections", "latency", "consistent-hashing"],
         [("x", "expected one of: consistent-hashing, least-connections, round-robin, latency"), (1, STRING)]),
        ("hash_on", "none", ["consumer", "ip", "path"], [("x", f"expected one of: {HASHES}"), (1, STRING)]),
        ("hash_fallback", "none", [], []),
        ("hash_on_header", NONE, [], [("a b", bad_header("a b")), (1, STRING)]),
        ("hash_fallback_header", NONE, [], [("a b", bad_header("a b")), (1, STRING)]),
        ("hash_on_cookie", NONE, [], [("a b", COOKIE), (1, STRING)]),
        ("hash_on_cookie_path", "/", ["/x"], [("x", "should start with: /")]),
        ("hash_on_query_arg", NONE, [], [("", EMPTY), (1, STRING)]),
        ("hash_fallback_query_arg", NONE, [], [("", EMPTY), (1, STRING)]),
        ("hash_on_uri_capture", NONE, [], [("", EMPTY), (1, STRING)]),
        ("hash_fallback_uri_capture", NONE, [], [("", EMPTY), (1, STRING)]),
        integer("slots", 10000, 10, 65536),
        ("healthchecks", HEALTHCHECKS, [], HEALTH_BAD),
        ("host_header", NONE, ["a.example", "a.example:8080"], [(1, STRING), ("a b", "invalid hostname: a b")]),
        foreign("client_certificate"),
        boolean("use_srv_name", False, must=False),
    ],
    rules=[
        ({"hash_on": "header"}, [CONDITION.format("hash_on")], {"hash_on_header": REQUIRED}),
        ({"hash_on": "cookie"}, [CONDITION.format("hash_on")], {"hash_on_cookie": REQUIRED}),
        ({"hash_on": "query_arg"}, [CONDITION.format("hash_on")], {"hash_on_query_arg": REQUIRED}),
        ({"hash_on": "uri_capture"}, [CONDITION.format("hash_on")], {"hash_on_uri_capture": REQUIRED}),
        ({"hash_on": "ip", "hash_fallback": "header"}, [CONDITION.format("hash_fallback")],
         {"hash_fallback_header": REQUIRED}),
        ({"hash_on": "ip", "hash_fallback": "cookie"}, [CONDITION.format("hash_fallback")],
         {"hash_on_cookie": REQUIRED}),
        ({"hash_on": "ip", "hash_fallback": "query_arg"}, [CONDITION.format("hash_fallback")],
         {"hash_fallback_query_arg": REQUIRED}),
        ({"hash_on": "ip", "hash_fallback": "uri_capture"}, [CONDITION.format("hash_fallback")],
         {"hash_fallback_uri_capture": REQUIRED}),
        ({"hash_fallback": "ip"}, [CONDITION.format("hash_on")], {"hash_fallback": "expected one of: none"}),
        ({"hash_fallback": 1}, [CONDITION.format("hash_on")], {"hash_fallback": STRING}),
        ({"hash_on": "cookie", "hash_on_cookie": "c", "hash_fallback": "ip"}, [CONDITION.format("hash_on")],
         {"hash_fallback": "expected one of: none"}),
        ({"hash_on": "consumer", "hash_fallback": "consumer"}, [CONDITION.format("hash_on")],
         {"hash_fallback": "expected one of: none, ip, header, cookie, path, query_arg, uri_capture"}),
        ({"hash_on": "consumer", "hash_fallback": "x"}, [CONDITION.format("hash_on")],
         {"hash_fallback": "expected one of: none, ip, header, cookie, path, query_arg, uri_capture"}),
        ({"hash_on": "ip", "hash_fallback": "ip"}, [CONDITION.format("hash_on")],
         {"hash_fallback": "expected one of: none, consumer, header, cookie, path, query_arg, uri_capture"}),
        ({"hash_on": "path", "hash_fallback": "path"}, [CONDITION.format("hash_on")],
         {"hash_fallback": "expected one of: none, consumer, header, cookie, query_arg, ip, uri_capture"}),
        ({"hash_on": "header", "hash_on_header": "a", "hash_fallback": "header", "hash_fallback_header": "a"},
         ["values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'"], {}),
        ({"hash_on": "query_arg", "hash_on_query_arg": "a", "hash_fallback": "query_arg",
          "hash_fallback_query_arg": "a"},
         ["values of these fields must be distinct: 'hash_on_query_arg', 'hash_fallback_query_arg'"], {}),
        ({"hash_on": "uri_capture", "hash_on_uri_capture": "a", "hash_fallback": "uri_capture",
          "hash_fallback_uri_capture": "a"},
         ["values of these fields must be distinct: 'hash_on_uri_capture', 'hash_fallback_uri_capture'"], {}),
    ],
    shown=[({"hash_on": "ip"}, {"algorithm": "consistent-hashing"}),
           ({"algorithm": "least-connections"}, {"hash_on": "none"}),
           ({"algorithm": "latency"}, {"hash_on": "none"}),
           ({"healthchecks": {"active": {"healthy": {"interval": 5}}}},
            {"healthchecks": HEALTHCHECKS | {"active": HEALTHCHECKS["active"] | {
                "healthy": {"interval": 5, "http_statuses": [200, 302], "successes": 0}}}})],
    unique=[("name", "one.upstream")],
    foreign=[({"client_certificate": {"id": UUID}}, "client_certificate", "certificates")],
)


def invalid_target(value):
    return f"Invalid target ('{value}'); not a valid hostname or ip address"


TARGETS = dict(
    path="upstreams/parity.targets/targets", kind="targets", base={"target": "10.0.0.1:80"},
    parent=("upstreams", {"name": "parity.targets"}), single=False,
    fields=[
        ID, ("created_at", AUTO, [1700000000, 1700000000.25], [("x", NUMBER)]), UPDATED_AT, TAGS,
        ("target", MUST, ["a.example:81"],
         [(1, STRING), ("", EMPTY), ("a b", invalid_target("a b")), ("a:70000", invalid_target("a:70000")),
          (None, REQUIRED)]),
        integer("weight", 100, 0, 65535),
        ("upstream", AUTO, [], []),
    ],
    rules=[],
    shown=[({"target": "a.example"}, {"target": "a.example:8000"}), ({"target": "10.0.0.2"}, {"target": "10.0.0.2:8000"}),
           ({"target": "[::1]:82"}, {"target": "[0000:0000:0000:0000:0000:0000:0000:0001]:82"}),
           ({"weight": 0}, {"weight": 0})],
    unique=[], foreign=[],
)

KEYAUTH = dict(
    path="consumers/parity-keys/key-auth", kind="keyauth_credentials", base={},
    parent=("consumers", {"username": "parity-keys"}),
    fields=[
        ID, ("created_at", AUTO, [1700000000], [("x", INTEGER)]), TAGS,
        ("key", AUTO, ["a key"], [(1, STRING), ("", EMPTY)]),
        ("consumer", AUTO, [], []),
        ("ttl", NONE, [1000, 100000000], []),
    ],
    rules=[], shown=[], unique=[("key", "one-key")], foreign=[],
    # For Kong no field but an option of the request.
    options=[("ttl", value, "must be an integer between 0 and 100000000") for value in (-1, 1.5, 100000001)],
)

KEY_SETS = dict(
    path="key-sets", kind="key_sets", base={},
    fields=COMMON + [("name", NONE, ["x y"], [(1, STRING), ("", EMPTY)])],
    rules=[], shown=[], unique=[("name", "one")], foreign=[],
)

PEM = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEUZ5VM7JbPcEoC2X0RfVKRD2nUFVj
oGvNtZCRKMsHcEOySqsk9q8JzQkYcYgrpWXRRJ4GyvN+H3tUCEr5oWqzfA==
-----END PUBLIC KEY-----
"""
ONE_KEY = "only one or none of these fields must be set: 'jwk', 'pem'"

KEYS = dict(
    path="keys", base={"kid": "parity", "pem": {"public_key": "$public_key"}},
    fields=COMMON + [
        ("name", NONE, ["x"], [(1, STRING), ("", EMPTY)]),
        ("kid", MUST, ["x"], [(1, STRING), ("", EMPTY), (None, REQUIRED)]),
        ("jwk", NONE, [], []),
        ("pem", AUTO, [], [({"public_key": "x"}, "could not load public key"), ("x", RECORD),
                           ({"nope": 1}, {"nope": UNKNOWN,
                                          "@entity": ["at least one of these fields must be non-empty: 'private_key', 'public_key'"]})]),
        foreign("set"),
    ],
    rules=[({"pem": None}, ["at least one of these fields must be non-empty: 'jwk', 'pem'"], {}),
           ({"jwk": "{\"kid\": \"parity\"}"}, [ONE_KEY, "could not load JWK, likely not a valid key"], {}),
           ({"pem": None, "jwk": "x"}, ["could not json decode jwk string"], {}),
           ({"pem": None, "jwk": "{\"kid\": \"other\"}"}, ["kid in jwk.kid must be equal to keys.kid"], {}),
           ({"pem": None, "jwk": "{\"kid\": \"parity\"}"}, ["could not load JWK, likely not a valid key"], {})],
    shown=[], unique=[("name", "one")],
    foreign=[({"set": {"id": UUID}}, "set", "key_sets")],
)

VAULTS = dict(
    path="vaults", base={"prefix": "parity", "name": "env"},
    fields=COMMON + [
        ("prefix", MUST, ["a-b1"], [("env", "must not be one of: env"), (1, STRING), ("", EMPTY), (None, REQUIRED),
                                    ("A", "invalid value: A"), ("a_b", "invalid value: a_b")]),
        ("name", MUST, [], [("nothing", "vault 'nothing' is not installed"), (None, REQUIRED)]),
        ("description", NONE, ["x"], [(1, STRING)]),
        ("config", AUTO, [{"prefix": "MY_"}], [("x", RECORD), ({"nope": 1}, {"nope": UNKNOWN}),
                                                ({"prefix": "1a"}, {"prefix": "invalid value: 1a"}),
                                                ({"prefix": 1}, {"prefix": STRING})]),
    ],
    rules=[], shown=[], unique=[("prefix", "one")], foreign=[],
)

CERTIFICATES = dict(
    path="certificates", base={"cert": "$cert", "key": "$key"},
    fields=COMMON + [
        ("cert", MUST, [], [(1, STRING), ("", EMPTY), (None, REQUIRED)]),
        ("key", MUST, [], [(1, STRING), ("", EMPTY), (None, REQUIRED)]),
        ("cert_alt", NONE, [], []), ("key_alt", NONE, [], []),
        ("snis", [], [["a.example", "*.b.example"]],
         [("x", ARRAY), ([1], [STRING]), (["10.0.0.1"], ["must not be an IP"])]),
    ],
    rules=[({"cert_alt": "$cert"},
            ["all or none of these fields must be set: 'cert_alt', 'key_alt'",
             "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided "
             "certificates were both of the same type"], {}),
           ({"key_alt": "$key"}, ["all or none of these fields must be set: 'cert_alt', 'key_alt'"], {}),
           ({"key": "$other_key"}, ["certificate does not match key"], {}),
           ({"cert": None, "key": None}, [], {"cert": REQUIRED, "key": REQUIRED}),
           ({"cert_alt": "$cert", "key_alt": "$other_key"}, ["alternative certificate does not match key",
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided "
            "certificates were both of the same type"], {}),
           ({"cert_alt": "$cert", "key_alt": "$key"},
            ["certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided "
             "certificates were both of the same type"], {})],
    shown=[({"snis": ["b.example", "a.example"]}, {"snis": ["a.example", "b.example"]})],
    unique=[], foreign=[],
)

SNIS = dict(
    path="snis", base={"name": "parity.example", "certificate": {"id": "$certificate"}},
    fields=COMMON + [
        ("name", MUST, ["a.example", "*.b.example", "c.*"],
         [(1, STRING), ("", EMPTY), (None, REQUIRED), ("10.0.0.1", "must not be an IP"), ("a:1", "must not have a port"),
          ("a.*.b", "wildcard must be leftmost or rightmost character")]),
        ("certificate", MUST, [], [({"id": "x"}, {"id": BAD_UUID}), (None, REQUIRED)]),
    ],
    rules=[({"name": None, "certificate": None}, [], {"certificate": REQUIRED, "name": REQUIRED})],
    shown=[], unique=[("name", "one.example")],
    foreign=[({"certificate": {"id": UUID}}, "certificate", "certificates")],
)

CA_CERTIFICATES = dict(
    path="ca_certificates", base={"cert": "$ca"},
    fields=COMMON + [
        ("cert", MUST, [], [(1, STRING), ("", EMPTY), (None, REQUIRED)]),
        ("cert_digest", AUTO, [], []),
    ],
    rules=[({"cert": "$cert"}, ["certificate does not appear to be a CA because it is missing the \"CA\" basic constraint"], {}),
           ({"cert": "$ca$ca"}, ["please submit only one certificate at a time"], {})],
    shown=[], unique=[], foreign=[],
)

ENTITIES = [SERVICES, ROUTES, CONSUMERS, PLUGINS, KEYAUTH, UPSTREAMS, TARGETS, CERTIFICATES, SNIS, CA_CERTIFICATES,
            KEY_SETS, KEYS, VAULTS]
