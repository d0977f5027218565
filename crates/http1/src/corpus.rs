//! Named raw requests and what a server must do with them: the request-smuggling corpus.
//!
//! One table, used by the tests here (at once and split at every byte) and over a real socket in `net`. Each
//! refused case must be answered with its status and a closed connection; an accepted one with its method,
//! target and body, and what follows it stays unread.

/// What a server does with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The head or the body is refused with this status.
    Refuse(u16),
    /// Served, with this body after decoding.
    Accept {
        /// The method as read.
        method: &'static str,
        /// The target in origin form.
        target: &'static str,
        /// The body without its framing.
        body: &'static [u8],
    },
}

/// One raw request.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The rule it tries to break, unique.
    pub name: &'static str,
    /// The bytes on the wire.
    pub raw: &'static [u8],
    /// What must happen.
    pub verdict: Verdict,
}

const fn refuse(name: &'static str, status: u16, raw: &'static [u8]) -> Case {
    Case { name, raw, verdict: Verdict::Refuse(status) }
}

const fn accept(
    name: &'static str,
    (method, target): (&'static str, &'static str),
    body: &'static [u8],
    raw: &'static [u8],
) -> Case {
    Case { name, raw, verdict: Verdict::Accept { method, target, body } }
}

/// All cases.
pub const CASES: &[&[Case]] =
    &[LENGTH_AND_ENCODING, LENGTH, ENCODING, CHUNKS, LINES, HOST, TARGET, START_LINE, FIELDS, TRAILERS, ACCEPTED];

/// All cases in order.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().copied().flatten()
}

const LENGTH_AND_ENCODING: &[Case] = &[
    refuse("cl_te", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    refuse("te_cl", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"),
    refuse("cl_0_te", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refuse("cl_te_on_get", 400, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refuse("cl_te_identity", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: identity\r\n\r\nabc"),
    refuse("connection_names_cl", 400, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc"),
    refuse("connection_names_te", 400, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refuse("connection_names_host", 400, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n"),
    refuse("cl_underscore", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\nabc"),
    refuse("te_underscore", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer_Encoding: chunked\r\n\r\nabc"),
];

const LENGTH: &[Case] = &[
    refuse(
        "cl_twice_different",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    refuse("cl_twice_equal", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    refuse("cl_list_equal", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    refuse("cl_list_different", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3,4\r\n\r\nabcd"),
    refuse("cl_plus", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    refuse("cl_minus", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc"),
    refuse("cl_hex", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
    refuse("cl_inner_space", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n0123456789"),
    refuse("cl_decimal_point", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3.0\r\n\r\nabc"),
    refuse("cl_exponent", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3e0\r\n\r\nabc"),
    refuse("cl_empty", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    refuse("cl_word", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: three\r\n\r\nabc"),
    refuse("cl_quoted", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"3\"\r\n\r\nabc"),
    refuse("cl_underscore_digits", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n0123456789"),
    refuse("cl_overflow_u64", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    refuse("cl_overflow_i64", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n"),
    refuse("cl_many_digits", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000000000003\r\n\r\nabc"),
    refuse("cl_utf8_digits", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xd9\xa3\r\n\r\nabc"),
    refuse("cl_vertical_tab", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b3\r\n\r\nabc"),
    refuse("cl_space_before_colon", 400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc"),
];

const ENCODING: &[Case] = &[
    refuse(
        "te_twice",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refuse(
        "te_chunked_identity_fields",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    refuse(
        "te_chunked_identity",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    refuse(
        "te_identity_chunked",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    ),
    refuse("te_gzip_chunked", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    refuse(
        "te_chunked_chunked",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    refuse("te_identity", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    refuse("te_xchunked", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    refuse("te_chunkedx", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"),
    refuse("te_chunk", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunk\r\n\r\n0\r\n\r\n"),
    refuse("te_quoted", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    refuse("te_parameter", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    refuse("te_trailing_comma", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    refuse("te_leading_comma", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_empty", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    refuse("te_http10", 400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_vertical_tab", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    refuse("te_nul", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n"),
    refuse("te_nbsp", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_space_before_colon", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_tab_before_colon", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_folded", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    refuse("te_bare_cr", 400, b"POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
];

const CHUNKS: &[Case] = &[
    refuse(
        "chunk_size_plus",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_minus",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_0x",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_blank",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_leading_space",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_trailing_space",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_not_hex",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3g\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_underscore",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0_3\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_overflow_u64",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_overflow_i64",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8000000000000000\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_many_zeros",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000003\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_nul",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\x00\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_only_extension",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n;a=b\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_bare_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_bare_cr",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\rabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_size_cr_cr_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_extension_bare_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_extension_control",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\x01\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_extension_nul",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;\x00\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_extension_bare_cr",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_data_too_long",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ),
    refuse(
        "chunk_data_bare_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
    ),
    refuse(
        "chunk_data_no_ending",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
    ),
    refuse(
        "chunk_last_bare_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\n\n",
    ),
    refuse(
        "chunk_end_bare_lf",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\n",
    ),
];

const LINES: &[Case] = &[
    refuse("lf_everywhere", 400, b"GET / HTTP/1.1\nHost: a\n\n"),
    refuse("lf_after_request_line", 400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    refuse("lf_after_field", 400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    refuse("lf_as_empty_line", 400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    refuse("cr_after_request_line", 400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    refuse("cr_in_value", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n"),
    refuse("cr_before_crlf", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
    refuse("leading_lf", 400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("leading_two_empty_lines", 400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("leading_space", 400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("obs_fold_space", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    refuse("obs_fold_tab", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    refuse("obs_fold_first_field", 400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
];

const HOST: &[Case] = &[
    refuse("host_missing", 400, b"GET / HTTP/1.1\r\nX: y\r\n\r\n"),
    refuse("host_twice_different", 400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    refuse("host_twice_equal", 400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    refuse("host_twice_http10", 400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    refuse("host_list", 400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    refuse("host_empty", 400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    refuse("host_userinfo", 400, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    refuse("host_path", 400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    refuse("host_fragment", 400, b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"),
    refuse("host_query", 400, b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    refuse("host_inner_space", 400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    refuse("host_port_word", 400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    refuse("host_port_too_large", 400, b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    refuse("host_port_signed", 400, b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n"),
    refuse("host_port_empty", 400, b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n"),
    refuse("host_two_ports", 400, b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    refuse("host_unclosed_bracket", 400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    refuse("host_not_ipv6", 400, b"GET / HTTP/1.1\r\nHost: [a]\r\n\r\n"),
    refuse("host_not_ascii", 400, b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"),
    refuse("host_space_before_colon", 400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
];

const TARGET: &[Case] = &[
    refuse("target_absolute_other_host", 400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_absolute_other_port", 400, b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_absolute_no_host", 400, b"GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n"),
    refuse("target_absolute_userinfo", 400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_absolute_empty_host", 400, b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_other_scheme", 400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_relative", 400, b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_authority_on_get", 400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_asterisk_on_get", 400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_fragment", 400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_space", 400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_tab", 400, b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_nul", 400, b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_control", 400, b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_delete", 400, b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_not_utf8", 400, b"GET /a\xffb HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("target_missing", 400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("connect", 405, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    refuse("trace", 405, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
];

const START_LINE: &[Case] = &[
    refuse("version_missing", 400, b"GET /\r\nHost: a\r\n\r\n"),
    refuse("version_0_9", 400, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    refuse("version_1_2", 400, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    refuse("version_2_0", 400, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    refuse("version_lower_case", 400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    refuse("version_two_digits", 400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    refuse("version_trailing_space", 400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    refuse("two_spaces_after_method", 400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("two_spaces_after_target", 400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("tab_after_method", 400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_empty", 400, b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_colon", 400, b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_parentheses", 400, b"G(ET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_nul", 400, b"GE\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_not_ascii", 400, b"G\xc3\xa4T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("method_too_long", 400, b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refuse("tls_hello", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refuse("response_as_request", 400, b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n"),
];

const FIELDS: &[Case] = &[
    refuse("field_no_colon", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    refuse("field_no_name", 400, b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
    refuse("field_name_space", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n"),
    refuse("field_space_before_colon", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
    refuse("field_name_nul", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: y\r\n\r\n"),
    refuse("field_name_not_ascii", 400, b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: y\r\n\r\n"),
    refuse("field_name_bracket", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX[]: y\r\n\r\n"),
    refuse("field_value_nul", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n"),
    refuse("field_value_control", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n"),
    refuse("field_value_delete", 400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
    refuse("expect_unknown", 417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\nabc"),
];

const TRAILERS: &[Case] = &[
    refuse(
        "trailer_content_length",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    ),
    refuse(
        "trailer_transfer_encoding",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    refuse(
        "trailer_host",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
    ),
    refuse(
        "trailer_authorization",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Basic eDp5\r\n\r\n",
    ),
    refuse(
        "trailer_connection",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n",
    ),
    refuse("trailer_no_colon", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n"),
    refuse(
        "trailer_space_before_colon",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n",
    ),
    refuse(
        "trailer_folded",
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n",
    ),
    refuse("trailer_bare_lf", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n"),
    refuse("trailer_nul", 400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: \x00\r\n\r\n"),
];

const ACCEPTED: &[Case] = &[
    accept("get", ("GET", "/"), b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("get_http10_no_host", ("GET", "/"), b"", b"GET / HTTP/1.0\r\n\r\n"),
    accept("leading_empty_line", ("GET", "/"), b"", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("query", ("GET", "/a?b=c&d"), b"", b"GET /a?b=c&d HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("empty_query", ("GET", "/a?"), b"", b"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("target_utf8", ("GET", "/\u{e4}"), b"", b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("absolute", ("GET", "/b?c"), b"", b"GET http://a:80/b?c HTTP/1.1\r\nHost: A:80\r\n\r\n"),
    accept("absolute_no_path", ("GET", "/"), b"", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("absolute_query_only", ("GET", "/?b"), b"", b"GET https://a?b HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("asterisk", ("OPTIONS", "*"), b"", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("host_ipv6", ("GET", "/"), b"", b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"),
    accept("host_underscore", ("GET", "/"), b"", b"GET / HTTP/1.1\r\nHost: a_b.c-d.e:65535\r\n\r\n"),
    accept("extension_method", ("PROPFIND", "/"), b"", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"),
    accept("length", ("POST", "/"), b"abc", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    accept("length_zero", ("POST", "/"), b"", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    accept(
        "length_around_whitespace",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 3 \t\r\n\r\nabc",
    ),
    accept("length_on_get", ("GET", "/"), b"abc", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    accept(
        "length_then_next_request",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    accept(
        "chunked",
        ("POST", "/"),
        b"abcdefghijklm",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\ndefghijklm\r\n0\r\n\r\n",
    ),
    accept(
        "chunked_upper_case",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    accept(
        "chunked_empty",
        ("POST", "/"),
        b"",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    accept(
        "chunked_extension",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0;c\r\n\r\n",
    ),
    accept(
        "chunked_leading_zeros",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n003\r\nabc\r\n000\r\n\r\n",
    ),
    accept(
        "chunked_trailers",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\nZ: w\r\n\r\n",
    ),
    accept(
        "chunked_crlf_inside_data",
        ("POST", "/"),
        b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ),
    accept("value_obs_text", ("GET", "/"), b"", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n"),
    accept("value_empty", ("GET", "/"), b"", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n"),
    accept(
        "expect_continue",
        ("POST", "/"),
        b"abc",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ),
];
