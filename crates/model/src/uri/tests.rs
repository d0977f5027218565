//! The normal form, as tables.

use super::*;
use proptest::prelude::*;

#[test]
fn paths_are_brought_to_normal_form() {
    for (path, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("//a///b//", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/../../etc", "/etc"),
        ("/a/b/../", "/a/"),
        ("/.hidden/..x/...", "/.hidden/..x/..."),
        ("/%61%7e%2D", "/a~-"),
        ("/a%2fb%c3%a9", "/a%2Fbé"),
        ("/a%20b%22%7c", "/a b\"|"),
        ("/%ff%C3%0a%7f", "/%FF%C3%0A%7F"),
        ("/%5c%5B%2b", "/\\%5B%2B"),
        ("/%2561", "/%2561"),
        ("/a|b", "/a|b"),
        ("/a\u{1}\n\u{7f}", "/a%01%0A%7F"),
        ("/a/%2e%2E/b", "/b"),
    ] {
        assert_eq!(normalize(path).unwrap(), normal, "{path}");
    }
}

#[test]
fn a_percent_sign_that_encodes_nothing_and_nul_have_no_normal_form() {
    for path in ["/100%", "/%4", "/%zz", "/%%361", "/%é", "/a/%00", "/%0", "/\0"] {
        assert_eq!(normalize(path), Err(BadPath), "{path}");
    }
}

#[test]
fn a_normal_path_is_written_for_http() {
    for (normal, written) in [("/a b", "/a%20b"), ("/é", "/%C3%A9"), ("/a\\|\"", "/a%5C%7C%22"), ("/a%2F!~", "/a%2F!~")]
    {
        assert_eq!(escape(normal), written);
    }
    assert!(matches!(escape("/a/b?=[]"), Cow::Borrowed(_)));
}

#[test]
fn a_normal_path_is_borrowed() {
    assert!(matches!(normalize("/orders/17/items.json"), Ok(Cow::Borrowed(_))));
}

proptest! {
    #[test]
    fn normal_form_is_stable_and_has_no_dot_segments(path in "/([a./é\\x01 ]|%2[0eEfF5]|%[cC]3|%[aA]9|%6[1]){0,12}") {
        let once = normalize(&path).unwrap().into_owned();
        let twice = normalize(&once).unwrap();
        prop_assert_eq!(&*twice, once.as_str());
        let written = escape(&once).into_owned();
        prop_assert!(written.is_ascii());
        let again = normalize(&written).unwrap();
        prop_assert_eq!(&*again, once.as_str());
        prop_assert!(once.starts_with('/') && !once.contains("//"));
        prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
    }
}
