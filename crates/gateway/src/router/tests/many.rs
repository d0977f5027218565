//! Ten thousand routes: how many rules a lookup asks, and what a change costs, in counts and not in time.

use super::*;

const N: usize = 10_000;

fn numbered(n: usize, edit: impl FnOnce(&mut Route)) -> Route {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
    let mut route = Route::new(RouteId(Id::from_bytes(bytes)));
    edit(&mut route);
    route
}

fn expressions(text: impl Fn(usize) -> String) -> Vec<Route> {
    (0..N).map(|n| numbered(n, |r| r.expression = Some(text(n)))).collect()
}

/// The most rules that lookups of these hosts and paths ask; each must find its route.
fn most_asked(routes: &[Route], request: impl Fn(usize) -> (String, String)) -> usize {
    let router = Router::new(routes, None).unwrap();
    let asked = (0..N).step_by(37).map(|n| {
        let (host, path) = request(n);
        let request = Request::new(&host, &path);
        let ask = request.ask();
        let search = router.search(&ask);
        assert_eq!(search.found().map(|found| found.route_idx), Some(n), "{host} {path}");
        search.n_asked
    });
    asked.max().unwrap()
}

#[test]
fn a_lookup_among_expressions_of_the_usual_shapes_asks_few() {
    let any_host = |n: usize| ("a.com".to_owned(), format!("/api/v1/r{n}/x"));
    let own_host = |n: usize| (format!("t{n}.example.com"), format!("/p{n}/x"));
    let prefix = expressions(|n| format!(r#"http.path ^= "/api/v1/r{n}/""#));
    assert_eq!(most_asked(&prefix, any_host), 1);
    let joined = expressions(|n| {
        format!(
            r#"http.host == "t{n}.example.com" && http.path ^= "/" && (http.method == "GET" || http.method == "PUT")"#
        )
    });
    assert_eq!(most_asked(&joined, own_host), 1);
    let choice =
        expressions(|n| format!(r#"http.path == "/p{n}/x" || http.path == "/q{n}/x" && net.protocol == "http""#));
    assert_eq!(most_asked(&choice, own_host), 1);
    let regex = expressions(|n| format!(r#"http.path ~ "^/api/v1/r{n}/[a-z]+$""#));
    assert_eq!(most_asked(&regex, any_host), 1);
    let segment = expressions(|n| format!(r#"http.path.segments.0 == "p{n}" && !(http.method == "DELETE")"#));
    // `/p1` is filed before `/p12` and so on, down the digits.
    assert!(most_asked(&segment, own_host) <= 4);
    let wildcard = expressions(|n| format!(r#"http.host =^ ".g{n}.example.com""#));
    assert_eq!(most_asked(&wildcard, |n| (format!("x.g{n}.example.com"), "/".to_owned())), 1);
}

#[test]
fn a_lookup_among_classic_and_expression_routes_asks_few() {
    let mixed: Vec<_> = (0..N)
        .map(|n| {
            numbered(n, |r| match n % 4 {
                0 => r.expression = Some(format!(r#"http.host == "t{n}.example.com" && http.path ^= "/p{n}""#)),
                1 => r.paths = texts(&[&format!("/p{n}/")]),
                2 => r.hosts = texts(&[&format!("t{n}.example.com")]),
                _ => r.paths = texts(&[&format!("~/p{n}/[a-z]+")]),
            })
        })
        .collect();
    let most = most_asked(&mixed, |n| (format!("t{n}.example.com"), format!("/p{n}/x")));
    assert!(most <= 2, "{most}");
}

#[test]
fn a_change_compiles_only_what_it_changes() {
    let mut routes = expressions(|n| format!(r#"http.path ~ "^/api/v1/r{n}/[a-z]+$""#));
    let first = Router::new(&routes, None).unwrap();
    routes[5000].expression = Some(r#"http.path == "/new""#.to_owned());
    let second = Router::new(&routes, Some(&first)).unwrap();
    let of = |router: &Router, id| Arc::as_ptr(router.compiled(id).unwrap());
    let n_kept = routes.iter().filter(|r| of(&first, r.id) == of(&second, r.id)).count();
    assert_eq!(n_kept, N - 1);
}
