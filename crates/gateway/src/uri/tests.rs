//! Upstream paths, as a table.

use super::*;
use proptest::prelude::*;

#[test]
fn upstream_paths_follow_v0() {
    // base, request, matched prefix (None: route without paths), strip_path=false, strip_path=true
    let table = [
        ("/", "/", Some(1), "/", "/"),
        ("/", "/api", Some(4), "/api", "/"),
        ("/", "/api/", Some(4), "/api/", "/"),
        ("/", "/api/x", Some(4), "/api/x", "/x"),
        ("/", "/api/x", Some(5), "/api/x", "/x"),
        ("/", "/apix", Some(4), "/apix", "/x"),
        ("/", "/api/x", None, "/api/x", "/api/x"),
        ("/v1", "/", Some(1), "/v1", "/v1"),
        ("/v1", "/api", Some(4), "/v1/api", "/v1"),
        ("/v1", "/api/", Some(4), "/v1/api/", "/v1/"),
        ("/v1", "/api/x", Some(4), "/v1/api/x", "/v1/x"),
        ("/v1", "/apix", Some(4), "/v1/apix", "/v1/x"),
        ("/v1", "/x", None, "/v1/x", "/v1/x"),
        ("/v1", "/", None, "/v1", "/v1"),
        ("/v1/", "/", Some(1), "/v1/", "/v1/"),
        ("/v1/", "/api", Some(4), "/v1/api", "/v1"),
        ("/v1/", "/api/", Some(4), "/v1/api/", "/v1/"),
        ("/v1/", "/api/x", Some(4), "/v1/api/x", "/v1/x"),
        ("/v1/", "/apix", Some(4), "/v1/apix", "/v1/x"),
        ("/v1/", "/", None, "/v1/", "/v1/"),
        ("/", "/api..", Some(4), "/api..", "/"),
        ("/", "/api../x", Some(4), "/api../x", "/x"),
        ("/v1", "/api./x", Some(4), "/v1/api./x", "/v1/x"),
    ];
    for (base, path, matched, kept, stripped) in table {
        assert_eq!(upstream_path(base, path, None), kept, "keep: {base} {path}");
        assert_eq!(upstream_path(base, path, Some(matched)), stripped, "strip {matched:?}: {base} {path}");
    }
}

proptest! {
    #[test]
    fn an_upstream_path_is_a_path(base in "/|/v1|/v1/", path in "/[a./]{0,12}", len in 0usize..14) {
        let path = normalize(&path).unwrap().into_owned();
        let matched = (len > 0 && len <= path.len()).then_some(len);
        let built = upstream_path(&base, &path, Some(matched));
        prop_assert!(built.starts_with('/') && !built.contains("//"));
    }
}
