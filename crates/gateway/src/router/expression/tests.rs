//! The language as tables: what holds for one request, what is refused and where.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use model::limits::{HTTP_QUERY_ARGS_MAX, ROUTE_EXPRESSION_BYTES_MAX, ROUTE_EXPRESSION_DEPTH_MAX};
use proptest::prelude::*;

const QUERY: &str = "a=1&b=2&a=3&flag&e=&enc%6Fded=x+y%2Fz&bad=%ff";

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-one", "One"),
        ("x-two", "first"),
        ("x-two", "second"),
        ("under_score", "u"),
        ("x-bytes", "caf\u{e9}"),
        ("x-umlaut", "\u{c4}B"),
    ] {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value);
    }
    headers.append("x-latin", HeaderValue::from_bytes(b"\xff").unwrap());
    headers
}

/// Whether the expression holds for one fixed request.
fn holds_with(text: &str, query: &str) -> bool {
    let headers = headers();
    let subject = Subject {
        protocol: "https",
        sni: Some("api.example.com"),
        source: "192.168.1.7:40000".parse().unwrap(),
        destination: "[fd00::1]:8443".parse().unwrap(),
        http: Some(Request {
            method: &Method::GET,
            host: "api.example.com",
            path: "/Foo/bar/1",
            query: Some(query),
            headers: &headers,
        }),
    };
    Expression::parse(text, Fields::Http).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&subject).is_some()
}

fn holds(text: &str) -> bool {
    holds_with(text, QUERY)
}

#[test]
fn every_operator_of_every_type() {
    for (text, expected) in [
        (r#"http.method == "GET""#, true),
        (r#"http.method != "GET""#, false),
        (r#"http.method ~ "^G.T$""#, true),
        (r#"http.path ^= "/Foo""#, true),
        (r#"http.path ^= "/foo""#, false),
        (r#"http.path =^ "/1""#, true),
        (r#"http.path =^ "/2""#, false),
        (r#"http.path contains "o/b""#, true),
        (r#"http.path contains "x""#, false),
        (r#"http.path == "/Foo/bar/1""#, true),
        (r#"net.protocol == "https""#, true),
        ("net.src.port == 40000", true),
        ("net.src.port != 40000", false),
        ("net.src.port > 39999 && net.src.port >= 40000", true),
        ("net.src.port < 40000", false),
        ("net.src.port <= 40000", true),
        ("net.src.ip == 192.168.1.7", true),
        ("net.src.ip != 192.168.1.7", false),
        ("net.src.ip in 192.168.0.0/16", true),
        ("net.src.ip not in 192.168.0.0/16", false),
        ("net.src.ip not   in fd00::/8", true),
        ("net.dst.ip == fd00::1", true),
        ("net.dst.ip in fd00::/64", true),
        ("net.dst.port == 8443 && net.port == 8443", true),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn every_field() {
    for (text, expected) in [
        (r#"tls.sni == "API.example.com""#, true),
        (r#"http.host == "API.example.com""#, true),
        (r#"http.host ~ "^API""#, true),
        (r#"lower(http.host) =^ ".Example.com""#, true),
        (r#"http.path.segments.0 == "Foo""#, true),
        (r#"http.path.segments.1_2 == "bar/1""#, true),
        (r#"http.path.segments.3 == """#, false),
        ("http.path.segments.len == 3", true),
        (r#"http.headers.x_one == "One""#, true),
        (r#"http.headers.X_One == "One""#, true),
        (r#"http.headers.under_score == "u""#, true),
        (r#"http.headers.x_umlaut == "ÄB""#, true),
        (r#"lower(http.headers.x_umlaut) == "äb""#, true),
        (r#"http.queries.b == "2""#, true),
        (r#"http.queries.flag == """#, true),
        (r#"http.queries.e == """#, true),
        (r#"http.queries.encoded == "x y/z""#, true),
        (r#"http.queries.B == "2""#, false),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn all_values_must_hold_unless_any_may() {
    for (text, expected) in [
        (r#"http.headers.x_two == "first""#, false),
        (r#"any(http.headers.x_two) == "second""#, true),
        (r#"http.headers.x_two ~ "^(first|second)$""#, true),
        (r#"http.headers.x_two != "third""#, true),
        (r#"any(http.headers.x_two) != "first""#, true),
        (r#"any(lower(http.headers.x_one)) == "one""#, true),
        (r#"lower(any(http.headers.x_one)) ^= "on""#, true),
        (r#"lower(http.headers.x_one) contains "ne""#, true),
        (r#"lower(http.headers.x_one) =^ "e""#, true),
        (r#"lower(http.headers.x_one) ~ "^one$""#, true),
        (r#"lower(http.headers.x_one) == "One""#, false),
        (r#"any(http.queries.a) == "3""#, true),
        (r#"http.queries.a == "3""#, false),
        ("any(net.src.port) == 40000", true),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn what_has_no_value_or_is_no_text_never_holds() {
    for (text, expected) in [
        (r#"http.headers.absent != "x""#, false),
        (r#"!(http.headers.absent == "x")"#, true),
        (r#"any(http.queries.absent) != "x""#, false),
        (r#"http.headers.x_latin != "x""#, false),
        (r#"http.queries.bad != "x""#, false),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn or_binds_tighter_than_and_as_in_kong() {
    let (yes, no) = (r#"http.method == "GET""#, r#"http.method == "PUT""#);
    for (text, expected) in [
        (format!("{no} && {yes} || {yes}"), false),
        (format!("({no} && {yes}) || {yes}"), true),
        (format!("{yes} || {yes} && {no}"), false),
        (format!("{yes} || ({yes} && {no})"), true),
        (format!("!({no}) && !(!({yes}))"), true),
        (format!("! ( {no} || {yes} )"), false),
    ] {
        assert_eq!(holds(&text), expected, "{text}");
    }
}

#[test]
fn literals_are_written_in_every_way() {
    for (text, expected) in [
        ("net.src.port == 0x9C40", true),
        ("net.src.port == 0116100", true),
        ("net.src.port > -1", true),
        ("net.src.port != 09", true),
        (r##"http.path ~ r#"^/Foo/\w+/\d$"#"##, true),
        (r##"http.path != r#"a"b"#"##, true),
        (r#"http.path != "\"\\\n\r\t""#, true),
        ("\thttp.method==\"GET\"&&(net.src.port>1)\r\n", true),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, expected) in [
        ("", "at character 1: expected a field, a function, `(` or `!(`, found the end"),
        (
            "http.path = \"/\"",
            "at character 11: expected an operator: `==`, `!=`, `~`, `^=`, `=^`, `>`, `>=`, `<`, `<=`, `in`, `not in` or `contains`, found `=`",
        ),
        (
            "http.path not \"/\"",
            "at character 11: expected an operator: `==`, `!=`, `~`, `^=`, `=^`, `>`, `>=`, `<`, `<=`, `in`, `not in` or `contains`, found `n`",
        ),
        ("http.path == /a", "at character 14: `/a`: not an address, a slash and the length of the prefix"),
        (
            "http.path == 'a'",
            "at character 14: expected a value: a string in quotes, a number, an address or a network, found `\\'`",
        ),
        ("http.path == \"a", "at character 15: the string that begins here has no end: expected `\"`"),
        ("http.path == r#\"a\"", "at character 17: the string that begins here has no end: expected `\"#`"),
        (r#"http.path == "é\x""#, r#"at character 16: expected one of the escapes `\"`, `\\`, `\n`, `\r`, `\t`"#),
        ("net.src.port == 1 net.src.port", "at character 19: expected `&&`, `||` or the end, found `n`"),
        ("(net.src.port == 1", "at character 19: expected `&&`, `||` or `)`, found the end"),
        ("! net.src.port == 1", "at character 3: expected `(` after `!`, found `n`"),
        ("net.src.port == \"1\"", "at character 1: `net.src.port`: it is a number, expected an integer"),
        (
            "net.src.port ~ 1",
            "at character 1: `net.src.port`: it is a number, expected one of `==`, `!=`, `>`, `>=`, `<`, `<=`",
        ),
        ("http.path > \"1\"", "at character 1: `http.path`: it is text, and `>`, `>=`, `<`, `<=` are for numbers"),
        ("http.path in \"1\"", "at character 1: `http.path`: `in` and `not in` are for addresses"),
        ("http.path == 1", "at character 1: `http.path`: it is text, expected a string in quotes"),
        ("net.src.ip in 10.0.0.1", "at character 1: `net.src.ip`: expected a network such as 10.0.0.0/8"),
        ("net.src.ip == 10.0.0.0/8", "at character 1: `net.src.ip`: it is an address, expected one"),
        (
            "net.src.ip ^= \"10\"",
            "at character 1: `net.src.ip`: it is an address, expected `==`, `!=`, `in` or `not in`",
        ),
        ("net.src.ip in 10.0.0.1/8", "at character 15: `10.0.0.1/8`: bits after the prefix are set, write 10.0.0.0/8"),
        ("net.src.ip == 1.2.3", "at character 15: `1.2.3`: not an IP address"),
        ("net.src.port == 0789", "at character 17: `0789`: not a number"),
        (
            "net.src.port == 9223372036854775808",
            "at character 17: `9223372036854775808`: the number has more than 63 bits",
        ),
        ("lower(net.src.port) == 1", "at character 1: `lower`: `net.src.port` is not text"),
        ("upper(http.path) == \"A\"", "at character 1: there is no function `upper`: expected `lower` or `any`"),
        ("any(http.path == \"A\")", "at character 15: expected `&&`, `||` or `)`, found `=`"),
        (
            "http.path.segments.01 == \"a\"",
            "at character 1: `http.path.segments.01`: expected the number of a segment, as in `http.path.segments.0`, or two, as in `.0_1`",
        ),
        (
            "http.path.segments.2_1 == \"a\"",
            "at character 1: `http.path.segments.2_1`: expected the number of a segment, as in `http.path.segments.0`, or two, as in `.0_1`",
        ),
    ] {
        assert_eq!(check_expression(text, Fields::Http).unwrap_err().to_string(), expected, "{text}");
    }
    for text in ["http.headers.a.b == \"\"", "tcp.port == 1", "http.queries. == \"\"", "http == \"\""] {
        let error = check_expression(text, Fields::Http).unwrap_err().to_string();
        assert!(error.contains("there is no field `"), "{text}: {error}");
    }
    let regex = check_expression(r#"net.src.port > 1 && http.path ~ "[""#, Fields::Http).unwrap_err();
    assert_eq!(regex.character, 21);
    assert!(regex.what.starts_with("`http.path`: `[` is no regular expression: "), "{regex}");
}

#[test]
fn connections_have_no_fields_of_requests() {
    assert!(check_expression(r#"tls.sni == "a" && net.src.port > 1"#, Fields::Stream).is_ok());
    let error = check_expression(r#"http.path == "a""#, Fields::Stream).unwrap_err();
    assert_eq!(error.what, "`http.path` is a field of requests, and this route is for connections");
}

#[test]
fn length_and_depth_are_limited() {
    let deep = |n: usize| format!("{}net.src.port > 1{}", "(".repeat(n), ")".repeat(n));
    assert!(check_expression(&deep(ROUTE_EXPRESSION_DEPTH_MAX), Fields::Http).is_ok());
    let error = check_expression(&deep(ROUTE_EXPRESSION_DEPTH_MAX + 1), Fields::Http).unwrap_err();
    assert_eq!(error.what, "more than 64 parentheses inside each other");
    let functions = |n: usize| format!("{}http.path{} == \"\"", "any(".repeat(n), ")".repeat(n));
    assert!(check_expression(&functions(ROUTE_EXPRESSION_DEPTH_MAX), Fields::Http).is_ok());
    assert!(check_expression(&functions(ROUTE_EXPRESSION_DEPTH_MAX + 1), Fields::Http).is_err());
    let long = |len: usize| {
        let text = "net.src.port > 1";
        text.to_owned() + &" ".repeat(len - text.len())
    };
    assert!(check_expression(&long(ROUTE_EXPRESSION_BYTES_MAX), Fields::Http).is_ok());
    assert!(check_expression(&long(ROUTE_EXPRESSION_BYTES_MAX + 1), Fields::Http).is_err());
}

#[test]
fn only_so_many_query_arguments_are_read() {
    let query = |before: usize| "x=1&".repeat(before) + "last=1";
    let text = r#"http.queries.last == "1""#;
    assert!(holds_with(text, &query(HTTP_QUERY_ARGS_MAX - 1)));
    assert!(!holds_with(text, &query(HTTP_QUERY_ARGS_MAX)));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_fall_over(text in r##"([a-z.]{0,9}|http\.path|"|r#"|"#|[()!&|~=^<>]{1,2}| |in|not|é|[0-9:./]{1,6}|\\){0,20}"##) {
        let _ = check_expression(&text, Fields::Http);
    }
}
