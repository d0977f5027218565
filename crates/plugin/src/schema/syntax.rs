//! The small languages inside texts: hosts, addresses, paths, names, tags. Each is a [`Syntax`]: a check that says what is
//! wrong in Kong's words, and an example for people.
//!
//! Addresses are read as Kong reads them: what has only digits and dots is an IPv4 address, what has two colons an IPv6
//! address, everything else a name.

use std::net::{IpAddr, Ipv6Addr};

/// A language of texts.
#[derive(Debug)]
pub struct Syntax {
    /// What it is called.
    pub name: &'static str,
    /// What such a text looks like, for people: a noun and an example.
    pub expected: &'static str,
    /// Checks a text that is not empty.
    pub check: fn(&str) -> Result<(), String>,
}

/// Any text.
pub const ANYTHING: Syntax = Syntax { name: "text", expected: "at least one character", check: |_| Ok(()) };
/// The name of an HTTP header, as nginx takes it.
pub const HEADER_NAME: Syntax = Syntax { name: "header name", expected: "a header name", check: header_name };
/// The name of a cookie: a token of RFC 2616.
pub const COOKIE_NAME: Syntax = Syntax { name: "cookie name", expected: "the name of a cookie", check: cookie_name };
/// A host name or an IP address.
pub const HOST: Syntax = Syntax { name: "host", expected: "a host name or an IP address", check: host };
/// The same with an optional port.
pub const HOST_AND_PORT: Syntax = Syntax {
    name: "host and port",
    expected: "a host name or an IP address, with or without a port, such as example.com:8443",
    check: |text| Address::parse(text).map(drop),
};
/// A host name with at most one `*`, which is its first or last character.
pub const WILDCARD_HOST: Syntax =
    Syntax { name: "server name", expected: "such as example.com or *.example.com", check: wildcard_host };
/// A server name of TLS.
pub const SNI: Syntax = Syntax { name: "server name", expected: "such as example.com", check: sni };
/// An IP address or a range of them.
pub const IP_OR_CIDR: Syntax =
    Syntax { name: "IP address or range", expected: "such as 10.0.0.1 or 10.0.0.0/8", check: ip_or_cidr };
/// A path of an upstream.
pub const PATH: Syntax = Syntax { name: "path", expected: "a path such as /api", check: path };
/// The name of an entity.
pub const NAME: Syntax = Syntax { name: "name", expected: "letters, digits, `.`, `-`, `_` and `~`", check: name };
/// A label.
pub const TAG: Syntax = Syntax { name: "tag", expected: "printable characters except `,` and `/`", check: tag };
/// An HTTP method.
pub const METHOD: Syntax = Syntax { name: "method", expected: "capital letters, such as GET", check: method };

/// A host with an optional port, as Kong reads one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// What stands for the host.
    pub host: AddressHost,
    /// The port, if one is given.
    pub port: Option<u16>,
}

/// The host of an [`Address`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressHost {
    /// An IP address.
    Ip(IpAddr),
    /// A name.
    Name(String),
}

/// Why a text is no [`Address`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// Its port is above 65535.
    Port,
    /// Its host is wrong; Kong's words.
    Host(String),
}

impl From<AddressError> for String {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Port => "invalid port number".to_owned(),
            AddressError::Host(message) => message,
        }
    }
}

impl Address {
    /// Reads `name`, `name:port`, `1.2.3.4`, `1.2.3.4:port`, `::1` or `[::1]:port`.
    ///
    /// # Errors
    /// Kong's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(Into::into)
    }

    /// The same, with an error that tells a bad port from a bad host.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn read(text: &str) -> Result<Self, AddressError> {
        if text.matches(':').count() > 1 {
            return ipv6(text);
        }
        let digits = text.replace(':', "");
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return ipv4(text);
        }
        hostname(text)
    }

    /// The address with its port, or with `default`: how Kong stores a target.
    #[must_use]
    pub fn with_port(&self, default: u16) -> String {
        let port = self.port.unwrap_or(default);
        match &self.host {
            AddressHost::Ip(IpAddr::V4(ip)) => format!("{ip}:{port}"),
            AddressHost::Ip(IpAddr::V6(ip)) => {
                let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:04x}")).collect();
                format!("[{}]:{port}", groups.join(":"))
            }
            AddressHost::Name(name) => format!("{name}:{port}"),
        }
    }
}

fn port(digits: &str) -> Result<u16, AddressError> {
    digits.parse().map_err(|_| AddressError::Port)
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn ipv4(text: &str) -> Result<Address, AddressError> {
    let invalid = || AddressError::Host(format!("invalid ipv4 address: {text}"));
    let (ip, given_port) = match text.split_once(':') {
        Some((ip, port)) => (ip, Some(port)),
        None => (text, None),
    };
    let mut octets = [0u8; 4];
    let mut parts = ip.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| all_digits(part) && part.len() <= 3).ok_or_else(invalid)?;
        *octet = part.parse().map_err(|_| invalid())?;
    }
    if parts.next().is_some() || given_port.is_some_and(|port| !all_digits(port)) {
        return Err(invalid());
    }
    Ok(Address { host: AddressHost::Ip(IpAddr::from(octets)), port: given_port.map(port).transpose()? })
}

fn ipv6(text: &str) -> Result<Address, AddressError> {
    let (ip, given_port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, "")) => (ip, None),
        Some((ip, rest)) => match rest.strip_prefix(':').filter(|digits| all_digits(digits)) {
            Some(digits) => (ip, Some(digits)),
            None => return Err(AddressError::Host("invalid ipv6 address".to_owned())),
        },
        None => (text, None),
    };
    let given_port = given_port.map(port).transpose()?;
    match ip.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Address { host: AddressHost::Ip(IpAddr::V6(ip)), port: given_port }),
        Err(_) => Err(AddressError::Host(format!("invalid ipv6 address: {text}"))),
    }
}

fn hostname(text: &str) -> Result<Address, AddressError> {
    let invalid = || AddressError::Host(format!("invalid hostname: {text}"));
    let (name, given_port) = match text.rsplit_once(':') {
        Some((name, digits)) if all_digits(digits) => (name, Some(port(digits)?)),
        _ => (text, None),
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || !name.bytes().all(known) {
        return Err(invalid());
    }
    let labels: Vec<&str> = name.split('.').collect();
    let last = labels.len() - 1;
    // A name may end in a dot.
    if labels.iter().enumerate().any(|(at, label)| label.ends_with('-') || (label.is_empty() && at != last)) {
        return Err(invalid());
    }
    Ok(Address { host: AddressHost::Name(name.to_owned()), port: given_port })
}

fn host(text: &str) -> Result<(), String> {
    match Address::read(text) {
        Err(AddressError::Port) | Ok(Address { port: Some(_), .. }) => Err("must not have a port".to_owned()),
        Err(AddressError::Host(_)) => Err(format!("invalid value: {text}")),
        Ok(_) => Ok(()),
    }
}

fn sni(text: &str) -> Result<(), String> {
    named(text, text)
}

fn wildcard_host(text: &str) -> Result<(), String> {
    if let Some(at) = text.find('*') {
        if at != 0 && at != text.len() - 1 {
            return Err("wildcard must be leftmost or rightmost character".to_owned());
        }
        if text.matches('*').count() > 1 {
            return Err("only one wildcard must be specified".to_owned());
        }
    }
    named(&text.replace('*', "wildcard"), text)
}

/// A name and no address, without a port; `shown` is what the user wrote.
fn named(text: &str, shown: &str) -> Result<(), String> {
    match Address::read(text) {
        Err(AddressError::Host(_)) => Err(format!("invalid value: {shown}")),
        Ok(Address { host: AddressHost::Ip(_), .. }) => Err("must not be an IP".to_owned()),
        Err(AddressError::Port) | Ok(Address { port: Some(_), .. }) => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
    }
}

fn ip_or_cidr(text: &str) -> Result<(), String> {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let longest = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err(format!("invalid ip or cidr range: '{text}'")),
    };
    let fits = |prefix: &str| all_digits(prefix) && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest);
    match prefix {
        Some(prefix) if !fits(prefix) => Err(format!("invalid ip or cidr range: '{text}'")),
        _ => Ok(()),
    }
}

/// The path of an upstream: RFC 3986 characters, properly percent-encoded, no empty segments.
fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("should start with: /".to_owned());
    }
    if text.contains("//") {
        return Err("must not have empty segments".to_owned());
    }
    if !text.bytes().all(is_path_byte) {
        return Err(format!("invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"));
    }
    percent_encoded(text)
}

/// Whether a byte may stand in a path as RFC 3986 has it.
#[must_use]
pub const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'/' | b'.'
                | b'-'
                | b'_'
                | b'~'
                | b'%'
                | b':'
                | b'@'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// Checks that every `%` begins two hexadecimal digits.
///
/// # Errors
/// Kong's words.
pub fn percent_encoded(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let bad = bytes.iter().enumerate().find(|&(at, &byte)| byte == b'%' && !(hex(at + 1) && hex(at + 2)));
    match bad {
        Some((at, _)) => {
            let shown: String = text[at..].chars().take(3).collect();
            Err(format!("invalid url-encoded value: '{shown}'"))
        }
        None => Ok(()),
    }
}

/// ASCII letters, digits, `. - _ ~` and every character beyond ASCII.
fn name(text: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~') || !c.is_ascii();
    if text.chars().all(known) {
        return Ok(());
    }
    Err(format!("invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"))
}

fn tag(text: &str) -> Result<(), String> {
    let known = |c: char| matches!(c, ' '..='~' if c != ',' && c != '/') || !c.is_ascii();
    if text.chars().all(known) {
        return Ok(());
    }
    Err(format!("invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"))
}

fn method(text: &str) -> Result<(), String> {
    if text.bytes().all(|byte| byte.is_ascii_uppercase()) { Ok(()) } else { Err(format!("invalid value: {text}")) }
}

fn header_name(text: &str) -> Result<(), String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Ok(());
    }
    Err(format!("bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}

fn cookie_name(text: &str) -> Result<(), String> {
    let separator = |byte: u8| b" \t()<>@,;:\\\"/?={}[]".contains(&byte);
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !separator(byte)) {
        return Ok(());
    }
    Err("contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters \
         ()<>@,;:\\\"/?={}[] are not allowed."
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(syntax: &Syntax, cases: &[(&str, &str)]) {
        for (text, message) in cases {
            let found = (syntax.check)(text).err().unwrap_or_default();
            assert_eq!(found, *message, "{}: `{text}`", syntax.name);
        }
    }

    #[test]
    fn hosts() {
        messages(
            &HOST,
            &[
                ("a.b-c_d", ""),
                ("127.0.0.1", ""),
                ("::1", ""),
                ("[::1]", ""),
                ("a.", ""),
                ("a:80", "must not have a port"),
                ("a:99999", "must not have a port"),
                ("a b", "invalid value: a b"),
                ("a..b", "invalid value: a..b"),
                ("-a-", "invalid value: -a-"),
                ("1.2.3", "invalid value: 1.2.3"),
                ("http://x", "invalid value: http://x"),
            ],
        );
        messages(
            &HOST_AND_PORT,
            &[
                ("a:80", ""),
                ("1.2.3.4:80", ""),
                ("[::1]:80", ""),
                ("a:99999", "invalid port number"),
                ("1.2.3.999", "invalid ipv4 address: 1.2.3.999"),
                ("::g", "invalid ipv6 address: ::g"),
                ("a b", "invalid hostname: a b"),
            ],
        );
        messages(
            &WILDCARD_HOST,
            &[
                ("*.a.com", ""),
                ("a.*", ""),
                ("*", ""),
                ("a.*.com", "wildcard must be leftmost or rightmost character"),
                ("*.a.*", "only one wildcard must be specified"),
                ("1.2.3.4", "must not be an IP"),
                ("a.com:1", "must not have a port"),
                ("a b", "invalid value: a b"),
            ],
        );
        messages(&SNI, &[("a.b", ""), ("1.2.3.4", "must not be an IP"), ("*.a", "invalid value: *.a")]);
    }

    #[test]
    fn targets_are_stored_with_their_port() {
        for (text, stored) in [
            ("a.b", "a.b:8000"),
            ("a.b:1", "a.b:1"),
            ("001.002.003.004:5", "1.2.3.4:5"),
            ("[::1]:80", "[0000:0000:0000:0000:0000:0000:0000:0001]:80"),
        ] {
            assert_eq!(Address::parse(text).map(|address| address.with_port(8000)), Ok(stored.to_owned()));
        }
    }

    #[test]
    fn paths_names_and_the_rest() {
        messages(
            &PATH,
            &[
                ("/a/b%20c", ""),
                ("a", "should start with: /"),
                ("/a//b", "must not have empty segments"),
                ("/a b", "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)"),
                ("/%zz1", "invalid url-encoded value: '%zz'"),
                ("/%", "invalid url-encoded value: '%'"),
            ],
        );
        messages(
            &NAME,
            &[
                ("a.b-c_d~é", ""),
                ("a b", "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~"),
            ],
        );
        messages(
            &TAG,
            &[
                ("a b", ""),
                ("a,b", "invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"),
            ],
        );
        messages(&METHOD, &[("GET", ""), ("Get", "invalid value: Get")]);
        messages(
            &IP_OR_CIDR,
            &[
                ("10.0.0.0/8", ""),
                ("::/0", ""),
                ("10.0.0.0/33", "invalid ip or cidr range: '10.0.0.0/33'"),
                ("x", "invalid ip or cidr range: 'x'"),
            ],
        );
        messages(
            &HEADER_NAME,
            &[("X-a_1", ""), ("a b", "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'")],
        );
        assert!((COOKIE_NAME.check)("a=b").is_err_and(|message| message.ends_with("are not allowed.")));
    }
}
