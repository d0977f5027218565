//! The router's rules, one a test, and the index held to a scan.

mod many;

use super::*;
use crate::entity::{Id, RouteProtocols};
use http::HeaderValue;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A route whose id is `n`, changed by `edit`.
fn route(n: u8, edit: impl FnOnce(&mut Route)) -> Route {
    let mut bytes = [0; 16];
    bytes[15] = n;
    let mut route = Route::new(RouteId(Id::from_bytes(bytes)));
    edit(&mut route);
    route
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn paths(n: u8, values: &[&str]) -> Route {
    route(n, |r| r.paths = texts(values))
}

fn hosts(n: u8, values: &[&str]) -> Route {
    route(n, |r| r.hosts = texts(values))
}

#[derive(Debug)]
struct Request {
    method: Method,
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    sni: Option<String>,
}

impl Request {
    fn new(host: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            scheme: Scheme::Http,
            host: host.to_owned(),
            port: 8000,
            path: path.to_owned(),
            query: None,
            headers: HeaderMap::new(),
            sni: None,
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            scheme: self.scheme,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            sni: self.sni.as_deref(),
            source: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            destination: SocketAddr::from(([10, 0, 0, 1], self.port)),
        }
    }
}

/// The same answer as a lookup's, by asking every rule in order.
fn by_scan(router: &Router, ask: &Ask<'_>) -> Option<Match> {
    let all = router.ids().filter_map(|id| Some((router.place_of(id)?, router.compiled(id)?)));
    let mut entries: Vec<_> = all.flat_map(|(place, compiled)| Entry::of(place, compiled)).collect();
    entries.sort_by(Entry::turn);
    entries.iter().find_map(|entry| {
        let (route_idx, part) = entry.place();
        Some(Match { route_idx, matched_len: entry.ask(ask)?, part })
    })
}

/// The number of the route that takes the request; 0 if none does.
fn winner(routes: &[Route], request: &Request) -> u8 {
    let router = Router::new(routes, None).unwrap();
    let found = router.route(&request.ask());
    assert_eq!(found, by_scan(&router, &request.ask()));
    found.map_or(0, |found| routes[found.route_idx].id.0.to_bytes()[15])
}

fn by_path(routes: &[Route], path: &str) -> u8 {
    winner(routes, &Request::new("a.com", path))
}

fn by_host(routes: &[Route], host: &str) -> u8 {
    winner(routes, &Request::new(host, "/"))
}

#[test]
fn the_longer_prefix_wins() {
    let routes = [paths(3, &["/a"]), paths(2, &["/a/b"]), paths(1, &["/"])];
    assert_eq!([by_path(&routes, "/a/b/c"), by_path(&routes, "/a/c"), by_path(&routes, "/x")], [2, 3, 1]);
    assert_eq!(by_path(&routes[..2], "/x"), 0);
}

#[test]
fn a_regex_beats_a_prefix_and_its_priority_beats_its_length() {
    let high = route(1, |r| {
        r.paths = texts(&[r"~/a/\d+$"]);
        r.regex_priority = 5;
    });
    let routes = [paths(9, &["/a/12/longest"]), paths(3, &[r"~/a/\d+"]), high];
    assert_eq!([by_path(&routes, "/a/12"), by_path(&routes, "/a/12/longest")], [1, 3]);
}

#[test]
fn a_regex_is_anchored_in_every_alternative() {
    let routes = [paths(1, &["~/a|/b"])];
    assert_eq!([by_path(&routes, "/b/x"), by_path(&routes, "/x/b")], [1, 0]);
    assert_eq!(by_path(&[paths(1, &[r"~/(?<user>\w+)/x"])], "/ann/x"), 1);
}

#[test]
fn more_categories_beat_everything_else() {
    let two = route(1, |r| {
        r.paths = texts(&["/"]);
        r.methods = texts(&["GET"]);
    });
    let routes = [paths(8, &["/long/prefix"]), paths(9, &["~/long/.*"]), two];
    assert_eq!(by_path(&routes, "/long/prefix"), 1);
}

#[test]
fn of_equals_the_largest_id_wins() {
    assert_eq!(by_path(&[paths(2, &["/a"]), paths(7, &["/a"]), paths(4, &["/a"])], "/a"), 7);
}

#[test]
fn a_route_of_paths_of_different_lengths_competes_with_each() {
    let routes = [paths(9, &["/a", "/a/b/c"]), paths(1, &["/a/b"])];
    assert_eq!([by_path(&routes, "/a/b"), by_path(&routes, "/a/b/c"), by_path(&routes, "/a")], [1, 9, 9]);
    let mixed = [paths(1, &["/a", "~/zzz"]), paths(2, &["/a/b"])];
    assert_eq!([by_path(&mixed, "/a/b"), by_path(&mixed, "/zzz")], [2, 1]);
}

#[test]
fn plain_hosts_beat_wildcards_and_a_mixed_list_counts_as_wildcard() {
    let routes = [hosts(9, &["*.a.com"]), hosts(1, &["x.a.com"]), hosts(5, &["x.*"])];
    assert_eq!(by_host(&routes, "x.a.com"), 1);
    assert_eq!(by_host(&[hosts(9, &["*.a.com", "x.a.com"]), hosts(1, &["x.a.com"])], "x.a.com"), 1);
}

#[test]
fn wildcard_hosts_match_whole_labels() {
    let suffix = [hosts(1, &["*.A.com"])];
    let got = ["b.a.com", "c.b.a.com", "a.com", "ba.com"].map(|host| by_host(&suffix, host));
    assert_eq!(got, [1, 1, 0, 0]);
    let prefix = [hosts(1, &["a.*"])];
    let got = ["a.com", "a.b.com", "ab.com", "a"].map(|host| by_host(&prefix, host));
    assert_eq!(got, [1, 1, 0, 0]);
}

#[test]
fn a_host_with_port_compares_the_port() {
    let routes = [hosts(1, &["a.com:8000"]), hosts(2, &["a.com:9000"])];
    assert_eq!(by_host(&routes, "a.com"), 1);
    assert_eq!(by_host(&[hosts(1, &["[::1]:8000"])], "[::1]"), 1);
}

#[test]
fn headers_match_any_value_of_every_name_without_case() {
    let header = |n, pairs: &[(&str, &[&str])]| {
        route(n, |r| r.headers = pairs.iter().map(|(name, v)| ((*name).to_owned(), texts(v))).collect())
    };
    let routes = [header(1, &[("X-A", &["One", "two"])]), header(2, &[("x-a", &["two"]), ("x-b", &["~*^v[0-9]"])])];
    let ask = |request| winner(&routes, &request);
    assert_eq!(ask(Request::new("h", "/").header("x-a", "ONE")), 1);
    assert_eq!(ask(Request::new("h", "/").header("x-a", "two").header("x-b", "V7")), 2);
    assert_eq!(ask(Request::new("h", "/").header("x-a", "no").header("x-a", "two")), 1);
    assert_eq!(ask(Request::new("h", "/").header("x-b", "v7")), 0);
}

#[test]
fn protocols_and_server_names() {
    let https = route(1, |r| {
        r.protocols = RouteProtocols::Https;
        r.snis = texts(&["A.com"]);
        r.paths = texts(&["/"]);
    });
    let http = route(2, |r| {
        r.protocols = RouteProtocols::Http;
        r.paths = texts(&["/plain"]);
    });
    let routes = [https, http];
    // Plain requests match an https only route too: it answers them with a redirect.
    assert_eq!(by_path(&routes, "/x"), 1);
    let mut tls = Request { scheme: Scheme::Https, sni: Some("a.com".to_owned()), ..Request::new("a.com", "/x") };
    assert_eq!(winner(&routes, &tls), 1);
    tls.sni = Some("b.com".to_owned());
    assert_eq!(winner(&routes, &tls), 0);
    tls.sni = None;
    assert_eq!(winner(&routes, &tls), 0);
    // A route for plain requests takes both, as in Kong.
    assert_eq!(winner(&routes[1..], &Request { path: "/plain".to_owned(), ..tls }), 2);
}

#[test]
fn server_names_match_by_wildcard_and_without_their_last_dot() {
    for (pattern, name, expected) in [
        ("a.com", "a.com", 1),
        ("A.com.", "a.com", 1),
        ("a.com", "a.com.", 1),
        ("*.a.com", "x.a.com", 1),
        ("*.a.com.", "x.a.com", 1),
        ("*.a.com", "a.com", 0),
        ("a.*", "a.org", 1),
        ("a.*", "b.a.org", 0),
    ] {
        let routes = [route(1, |r| r.snis = texts(&[pattern]))];
        let tls = Request { scheme: Scheme::Https, sni: Some(name.to_owned()), ..Request::new("h", "/") };
        assert_eq!(winner(&routes, &tls), expected, "{pattern} {name}");
    }
}

/// What Kong's generator makes of the route with id 1.
const PART_IDS: [&str; 3] = [
    "3a184dfe-491e-5108-ad97-30094f995e90",
    "256cb423-a1f6-52df-be0b-57ac8c250513",
    "063e3a5f-c4d5-520c-ae9b-5148805406d5",
];

#[test]
fn the_parts_of_a_split_route_have_the_ids_of_kong() {
    // In the order in which each kind of path first appears, as UUIDv5 of id and number in Kong's namespace.
    let compiled = Compiled::new(&paths(1, &["/aa", "~/r", "/b", "/cc"])).unwrap();
    let ids: Vec<_> = compiled.rules.iter().map(|rule| rule.id.to_string()).collect();
    assert_eq!(ids, PART_IDS);
    assert_eq!(Compiled::new(&paths(1, &["/aa", "/bb"])).unwrap().rules[0].id, paths(1, &[]).id.0);
}

#[test]
fn expressions_come_first_by_priority_then_id() {
    let expression = |n, text: &str, priority| {
        route(n, |r| {
            r.expression = Some(text.to_owned());
            r.priority = priority;
        })
    };
    let classic = route(9, |r| {
        r.paths = texts(&["/a/b/c"]);
        r.methods = texts(&["GET"]);
        r.hosts = texts(&["a.com"]);
    });
    let routes = [
        classic,
        expression(1, r#"http.path ^= "/a""#, 1),
        expression(2, r#"http.host == "a.com""#, 0),
        expression(3, r#"http.path ^= "/""#, 0),
    ];
    assert_eq!(by_path(&routes, "/a/b/c"), 1);
    assert_eq!(by_path(&routes, "/b"), 3);
    assert_eq!(by_path(&routes[..1], "/a/b/c"), 9);
}

#[test]
fn an_expression_is_for_its_protocols_but_plain_requests_see_redirects() {
    let of = |protocols| {
        [route(1, |r| {
            r.expression = Some(r#"http.path ^= "/" || http.path == "/x""#.to_owned());
            r.protocols = protocols;
        })]
    };
    let tls = Request { scheme: Scheme::Https, ..Request::new("a.com", "/x") };
    let got = |protocols| [by_path(&of(protocols), "/x"), winner(&of(protocols), &tls)];
    assert_eq!(
        [got(RouteProtocols::Http), got(RouteProtocols::Https), got(RouteProtocols::Both)],
        [[1, 0], [1, 1], [1, 1]]
    );
}

#[test]
fn captures_are_taken_of_the_route_that_matched() {
    let both = route(3, |r| {
        r.expression = Some(
            r#"http.path ~ "^/(?<kind>\\w+)/" && (http.path ~ "/(?<n>\\d+)x" || http.path ~ "/(?<n>\\d+)")"#.to_owned(),
        )
    });
    let routes = [paths(1, &[r"~/u/(?<user>\w+)/(\d+)", r"~/v/(?<user>\w+)"]), both];
    let group = |path: &str, group| {
        let request = Request::new("h", path);
        let router = Router::new(&routes, None).unwrap();
        let found = router.route(&request.ask()).unwrap();
        router.uri_captures(&found, path).get(group).map(str::to_owned)
    };
    let some = |text: &str| Some(text.to_owned());
    let routes_of = |path| by_path(&routes[..1], path);
    assert_eq!([group("/k/7", "kind"), group("/k/7", "n"), group("/k/7", "1")], [some("k"), some("7"), some("7")]);
    assert_eq!(routes_of("/u/ann/12"), 1);
    let classic = Router::new(&routes[..1], None).unwrap();
    let found = classic.route(&Request::new("h", "/u/ann/12").ask()).unwrap();
    let captures = classic.uri_captures(&found, "/u/ann/12");
    assert_eq!(
        [captures.get("user"), captures.get("2"), captures.get("3"), captures.get("x")],
        [Some("ann"), Some("12"), None, None]
    );
}

#[test]
fn what_an_expression_compared_last_is_what_is_stripped() {
    for (text, path, len) in [
        (r#"http.path ^= "/a""#, "/a/b", Some(2)),
        (r#"http.path == "/a/b""#, "/a/b", Some(4)),
        (r#"http.path ~ "^/a/\\w""#, "/a/b", Some(4)),
        (r#"http.path ^= "/a/b" || http.path ^= "/a""#, "/a/b", Some(4)),
        (r#"http.path ^= "/a/b" && http.path ^= "/a""#, "/a/b", Some(2)),
        (r#"http.path contains "a""#, "/a/b", None),
        (r#"http.path ~ "x*""#, "/a/b", None),
        (r#"http.path =^ "é""#, "/é/é", Some(1)),
        (r#"http.method == "GET""#, "/a/b", None),
    ] {
        let routes = [route(1, |r| r.expression = Some(text.to_owned()))];
        let router = Router::new(&routes, None).unwrap();
        assert_eq!(router.route(&Request::new("h", path).ask()).unwrap().matched_len, len, "{text}");
    }
}

#[test]
fn what_did_not_change_is_kept() {
    let mut routes =
        vec![paths(1, &["~/a"]), paths(2, &["~/b"]), route(3, |r| r.expression = Some("net.src.port > 1".to_owned()))];
    let first = Router::new(&routes, None).unwrap();
    routes[1].paths = texts(&["~/c"]);
    routes.swap(0, 2);
    let second = Router::new(&routes, Some(&first)).unwrap();
    let of = |router: &Router, n: usize| Arc::as_ptr(router.compiled(routes[n].id).unwrap());
    let kept = |n: usize| of(&first, n) == of(&second, n);
    assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
    assert_eq!(second.route(&Request::new("h", "/c").ask()).unwrap().route_idx, 2, "it keeps its place");
    assert_eq!((first.ids().count(), second.ids().count()), (3, 3));
}

#[test]
fn methods_are_exact() {
    let routes = [route(1, |r| r.methods = texts(&["POST", "PURGE"]))];
    let purge = Request { method: Method::from_bytes(b"PURGE").unwrap(), ..Request::new("a", "/") };
    assert_eq!([winner(&routes, &purge), by_path(&routes, "/")], [1, 0]);
}

#[test]
fn the_matched_length_is_that_of_prefix_or_regex() {
    let routes = [paths(1, &["/a/b"]), paths(2, &[r"~/u/\d+"]), hosts(3, &["h"])];
    let router = Router::new(&routes, None).unwrap();
    let len = |host, path| router.route(&Request::new(host, path).ask()).unwrap().matched_len;
    assert_eq!([len("x", "/a/bcd"), len("x", "/u/123/x"), len("h", "/zzz")], [Some(4), Some(6), None]);
}

#[test]
fn every_bad_pattern_is_reported() {
    let routes = [paths(1, &["~/(", "/ok", "~/["]), hosts(2, &["a.*.b", "*b", "a*", "a:0", "*.a.*", ""])];
    assert_eq!(Router::new(&routes, None).unwrap_err().len(), 8);
    assert!(check_path("/a").is_ok() && check_path("a").is_err() && check_path("/a//b").is_err());
    assert!(check_host("*.a.com:80").is_ok() && check_header_value("~*[").is_err());
}

#[test]
fn a_literal_prefix_is_never_too_long() {
    for (pattern, prefix) in [
        (r"/users/\d+", "/users/"),
        ("/a?b", "/"),
        ("/ab*", "/a"),
        ("/ab{0}", "/a"),
        ("/ab+", "/ab"),
        ("/a|/b", ""),
        ("(?i)/a", ""),
    ] {
        assert_eq!(pattern::literal_prefix(pattern), prefix, "{pattern}");
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(pool: &'static [T], max: usize) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(proptest::sample::select(pool), 0..=max)
}

fn any_route() -> impl Strategy<Value = Route> {
    let hosts = some(&["a.com", "b.a.com", "*.a.com", "*.com", "a.*", "b.a.*", "a.com:8000", "a.com:81"], 2);
    let paths = some(&["/", "/a", "/ab", "/a/b", "/b", "/a/", r"~/a/\w+", "~/(a|b)$", "~/ab?", "~.*b", "~/a|/b"], 3);
    let methods = some(&["GET", "POST"], 1);
    let headers = some(&[("x-a", "1"), ("x-b", "~*^1")], 1);
    let classic = (any::<u8>(), hosts, paths, methods, headers, 0i64..3);
    let classic = classic.prop_map(|(n, hosts, paths, methods, headers, priority)| {
        route(n, |r| {
            r.hosts = texts(&hosts);
            r.paths = texts(&paths);
            r.methods = texts(&methods);
            r.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), texts(&[value]))).collect();
            r.regex_priority = priority;
        })
    });
    let expression = (any::<u8>(), any_expression(), 0u64..3).prop_map(|(n, text, priority)| {
        route(n, |r| {
            r.expression = Some(text);
            r.priority = priority;
        })
    });
    prop_oneof![classic, expression]
}

/// Conditions on host, path and more, joined in every way.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(
        &[
            r#"http.host == "a.com""#,
            r#"http.host != "a.com""#,
            r#"http.host =^ ".com""#,
            r#"http.host =^ "com""#,
            r#"http.host =^ "a.com""#,
            r#"http.host ^= "b.a""#,
            r#"http.host ^= "a""#,
            r#"http.host contains "b""#,
            r#"http.host ~ "^A""#,
            r#"http.path == "/a""#,
            r#"http.path ^= "/a/b""#,
            r#"http.path ^= "/""#,
            r#"http.path =^ "b""#,
            r#"lower(http.path) ^= "/a""#,
            r#"http.path ~ "^/ab?""#,
            r#"http.path ~ "^/a|/b""#,
            r#"http.path ~ "b$""#,
            r#"http.path.segments.0 == "a""#,
            r#"http.path.segments.0 ^= "a""#,
            r#"http.path.segments.0_1 == "a/b""#,
            r#"http.path.segments.1 == "b""#,
            r#"http.method == "POST""#,
            r#"any(http.headers.x_a) == "1""#,
        ][..],
    );
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let parts = ("(b\\.)?(a|c)\\.(com|b)", "/[ab/]{0,5}", any::<bool>(), any::<bool>());
    parts.prop_map(|(host, path, post, header)| {
        let method = if post { Method::POST } else { Method::GET };
        let request = Request { method, ..Request::new(&host, &path) };
        if header { request.header("x-a", "1").header("x-b", "12") } else { request }
    })
}

fn numbered(n: u8, route: Route) -> Route {
    Route { id: self::route(n, |_| ()).id, ..route }
}

/// Routes to put in the places of those with the same numbers, and numbers of those to take away.
fn any_change() -> impl Strategy<Value = (Vec<Route>, Vec<RouteId>)> {
    let put = proptest::collection::btree_map(0u8..12, any_route(), 0..4);
    let gone = proptest::collection::btree_set(0u8..12, 0..6);
    (put, gone).prop_map(|(put, gone)| {
        let gone = gone.into_iter().filter(|n| !put.contains_key(n)).map(|n| route(n, |_| ()).id).collect();
        (put.into_iter().map(|(n, route)| numbered(n, route)).collect(), gone)
    })
}

proptest! {
    #[test]
    fn the_index_answers_as_a_scan(
        routes in proptest::collection::vec(any_route(), 0..24),
        requests in proptest::collection::vec(any_request(), 1..16),
    ) {
        // Equal ids would make the order of equals chance.
        let routes: Vec<_> = (0..).zip(routes).map(|(n, route)| numbered(n, route)).collect();
        let router = Router::new(&routes, None).unwrap();
        for request in requests {
            prop_assert_eq!(router.route(&request.ask()), by_scan(&router, &request.ask()));
        }
    }

    #[test]
    fn a_router_of_many_changes_answers_as_one_made_at_once(
        changes in proptest::collection::vec(any_change(), 1..12),
        requests in proptest::collection::vec(any_request(), 1..16),
    ) {
        let (mut routes, mut router) = (BTreeMap::new(), Router::default());
        for (put, gone) in changes {
            let before = (router.clone(), format!("{:?}", router.index));
            router = router.changed(&put, gone.iter().copied()).unwrap();
            gone.iter().for_each(|id| drop(routes.remove(id)));
            routes.extend(put.into_iter().map(|route| (route.id, route)));
            prop_assert_eq!(format!("{:?}", before.0.index), before.1, "the router before stays as it was");
            let at_once = Router::new(routes.values(), None).unwrap();
            for request in &requests {
                let id = |router: &Router, found: &Match| router.ids().find(|id| router.place_of(*id) == Some(found.route_idx));
                let winner = |router: &Router| router.route(&request.ask()).map(|found| (id(router, &found), found.matched_len));
                prop_assert_eq!(winner(&router), winner(&at_once));
                prop_assert_eq!(router.route(&request.ask()), by_scan(&router, &request.ask()));
            }
        }
        let emptied = router.changed([], routes.into_keys()).unwrap();
        prop_assert_eq!(format!("{:?}", emptied.index), format!("{:?}", Index::default()));
        prop_assert_eq!((emptied.ids().count(), emptied.free.len()), (0, emptied.end));
    }
}
