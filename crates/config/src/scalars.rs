//! The small languages inside scalars: durations, sizes, addresses, URLs, names.
//! Pure functions from text to value; the caller knows where the text stands.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a duration looks like.
pub(crate) const DURATION_EXPECTED: &str = "a number with a unit, such as 200ms, 1s, 5m, 2h or 1m30s";
/// What a size looks like.
pub(crate) const SIZE_EXPECTED: &str = "a number with a unit, such as 512KiB, 64MiB or 1GiB, or bytes without one";
/// What an address looks like.
pub(crate) const ADDRESS_EXPECTED: &str =
    "an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000";

/// `1s`, `200ms`, `1m30s`, `1.5s`. `Err` says what is wrong.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty");
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or("it has no unit")?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds = match unit.trim() {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err("it has an unknown unit"),
        };
        let number: f64 = number.parse().map_err(|_| "it has no number")?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is too long")?;
        total = total.checked_add(part).ok_or("it is too long")?;
        rest = tail;
    }
    // Floating point: 0.1 s is exactly 100 ms again.
    let micros = u64::try_from((total.as_nanos() + 500) / 1_000).map_err(|_| "it is too long")?;
    Ok(Duration::from_micros(micros))
}

/// `64MiB`, `1GB`, `1024`. `None`: not a size.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1_000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// An address to listen on. `Err` is help, if there is some.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Option<String>> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port),
        _ if text.parse::<IpAddr>().is_ok() => return Err(Some(String::from("add a port"))),
        _ => match text.parse::<u16>() {
            Ok(port) => {
                return Err(Some(format!(
                    "for this machine only write 127.0.0.1:{port}, for all interfaces 0.0.0.0:{port}"
                )));
            }
            Err(_) => return Err(None),
        },
    };
    match host {
        "localhost" => Err(Some(format!("write 127.0.0.1:{port}"))),
        "" | "*" => Err(Some(format!("for all interfaces write 0.0.0.0:{port}"))),
        _ if host.contains(':') => Err(Some(format!("put the IPv6 address in brackets: [{host}]:{port}"))),
        _ => Err(None),
    }
}

/// A host name or IP address without port. `Err` says what is wrong.
pub(crate) fn host(text: &str) -> Result<(), &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if text.contains("://") {
        return Err("it is a URL; use `url` for that");
    }
    if text.contains('/') {
        return Err("it contains a path");
    }
    if text.contains(':') {
        return Err("it contains a port; use `port` for that");
    }
    if is_host_name(text) { Ok(()) } else { Err("it is not a host name") }
}

/// Letters, digits, dashes and underscores in labels of 1 to 63 characters.
pub(crate) fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The character that may not stand in a path (RFC 3986), if there is one.
pub(crate) fn bad_path_character(text: &str) -> Option<char> {
    text.chars().find(|&c| !(c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("1s", ms(1_000)),
            ("200ms", ms(200)),
            ("1m", ms(60_000)),
            ("1m30s", ms(90_000)),
            ("0.1s", ms(100)),
            ("1d", ms(86_400_000)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in ["", "1", "s", "1x", "1.2.3s", "-1s", "99999999999999999999999d", "1s 5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64MiB"), Some(64 << 20));
        assert_eq!(size("1GB"), Some(1_000_000_000));
        assert_eq!(size("1024"), Some(1024));
        assert_eq!(size("99999999999999GiB"), None);
        assert_eq!(size("MiB"), None);
    }

    #[test]
    fn addresses_that_are_nearly_right_get_help() {
        assert_eq!(address("127.0.0.1:8000"), Ok("127.0.0.1:8000".parse().unwrap()));
        assert_eq!(address("localhost:8000"), Err(Some("write 127.0.0.1:8000".into())));
        assert_eq!(address("*:80"), Err(Some("for all interfaces write 0.0.0.0:80".into())));
        assert_eq!(address("::1:80:x"), Err(None));
        assert!(address("8000").is_err() && address("127.0.0.1").is_err() && address("1.2.3.4:99999").is_err());
    }

    #[test]
    fn hosts() {
        for good in ["localhost", "a.b-c.d", "127.0.0.1", "::1", "my_svc"] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "http://x", "a/b", "a:80", "-a", "a..b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
