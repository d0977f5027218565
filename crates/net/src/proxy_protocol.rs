//! The PROXY protocol, versions 1 and 2: a load balancer in front of us says where a connection really comes from
//! (HAProxy's specification of 2020).
//!
//! Strict: what is not a whole and well-formed header ends the connection, for the next bytes would be taken for the
//! protocol's own. Of version 2 the extensions (TLVs) are skipped unread and LOCAL connections keep the socket's own
//! addresses, as UNKNOWN and UNSPEC do. Not a byte behind the header is read.

use model::limits::PROXY_HEADER_BYTES_MAX;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const PREFIX_BYTES: usize = 16;
/// Bytes of a line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// How long a connection has to bring its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The addresses a header gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Announced {
    /// Who connected.
    pub(crate) source: SocketAddr,
    /// The address it connected to.
    pub(crate) destination: SocketAddr,
}

/// What is wrong with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(&'static str);

/// Read the header off a new connection; `None` if it gives no addresses.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<Announced>> {
    tokio::time::timeout(HEADER_TIMEOUT, read_header(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no PROXY header in time"))?
}

async fn read_header(stream: &mut TcpStream) -> io::Result<Option<Announced>> {
    let (mut header, mut ahead) = (Vec::new(), [0; 256]);
    loop {
        let n_ahead = stream.peek(&mut ahead).await?;
        if n_ahead == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n_before = header.len();
        header.extend_from_slice(&ahead[..n_ahead]);
        let parsed = parse(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // While the header is not whole, all that is there belongs to it.
        let n_taken = parsed.map_or(n_ahead, |(n_header, _)| n_header - n_before);
        stream.read_exact(&mut ahead[..n_taken]).await?;
        if let Some((_, announced)) = parsed {
            return Ok(announced);
        }
    }
}

/// The header at the front of `bytes`: its length and the addresses it gives. `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<Announced>)>, Malformed> {
    let n_common = bytes.len().min(SIGNATURE.len());
    if bytes[..n_common] == SIGNATURE[..n_common] {
        return parse_binary(bytes);
    }
    parse_line(bytes)
}

fn parse_line(bytes: &[u8]) -> Result<Option<(usize, Option<Announced>)>, Malformed> {
    let n_common = bytes.len().min(b"PROXY ".len());
    if bytes[..n_common] != b"PROXY "[..n_common] {
        return Err(Malformed("it does not begin with a PROXY header"));
    }
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed("the PROXY line is too long")) };
    };
    let line = std::str::from_utf8(&seen[..end]).map_err(|_| Malformed("the PROXY line is not text"))?;
    let announced = addresses_of_line(line)?;
    Ok(Some((end + 2, announced)))
}

fn addresses_of_line(line: &str) -> Result<Option<Announced>, Malformed> {
    let mut words = line.split(' ');
    let (_, family) = (words.next(), words.next());
    let (source, destination) = match family {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => (ip::<Ipv4Addr>(words.next())?, ip::<Ipv4Addr>(words.next())?),
        Some("TCP6") => (ip::<Ipv6Addr>(words.next())?, ip::<Ipv6Addr>(words.next())?),
        _ => return Err(Malformed("the PROXY line names no known family")),
    };
    let (source_port, destination_port) = (port(words.next())?, port(words.next())?);
    if words.next().is_some() {
        return Err(Malformed("the PROXY line has too many words"));
    }
    let source = SocketAddr::new(source, source_port);
    Ok(Some(Announced { source, destination: SocketAddr::new(destination, destination_port) }))
}

fn ip<T: std::str::FromStr + Into<IpAddr>>(word: Option<&str>) -> Result<IpAddr, Malformed> {
    let parsed = word.and_then(|word| word.parse::<T>().ok());
    parsed.map(Into::into).ok_or(Malformed("the PROXY line has a bad address"))
}

fn port(word: Option<&str>) -> Result<u16, Malformed> {
    let is_decimal =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit()) && (word.len() == 1 || !word.starts_with('0'));
    let parsed = word.filter(is_decimal).and_then(|word| word.parse().ok());
    parsed.ok_or(Malformed("the PROXY line has a bad port"))
}

fn parse_binary(bytes: &[u8]) -> Result<Option<(usize, Option<Announced>)>, Malformed> {
    let Some(prefix) = bytes.get(..PREFIX_BYTES) else { return Ok(None) };
    let (command, family) = (prefix[12], prefix[13]);
    let n_header = PREFIX_BYTES + usize::from(u16::from_be_bytes([prefix[14], prefix[15]]));
    if n_header > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed("the PROXY header is too long"));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("the PROXY header has an unknown version or command")),
    };
    let Some(rest) = bytes.get(PREFIX_BYTES..n_header) else { return Ok(None) };
    let announced = match (is_local, family) {
        (true, _) => None,
        (false, 0x11) => Some(inet(rest.first_chunk().ok_or(SHORT)?)),
        (false, 0x21) => Some(inet6(rest.first_chunk().ok_or(SHORT)?)),
        // UNSPEC, UNIX sockets and datagrams: a receiver goes by the socket's own addresses.
        (false, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        (false, _) => return Err(Malformed("the PROXY header has an unknown family")),
    };
    Ok(Some((n_header, announced)))
}

const SHORT: Malformed = Malformed("the PROXY header is too short for its addresses");

fn inet(bytes: &[u8; 12]) -> Announced {
    let [a, b, c, d, e, f, g, h, s0, s1, d0, d1] = *bytes;
    Announced {
        source: SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([s0, s1])),
        destination: SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([d0, d1])),
    }
}

fn inet6(bytes: &[u8; 36]) -> Announced {
    let address = |from: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[from..from + 16]);
        IpAddr::from(octets)
    };
    let port = |from: usize| u16::from_be_bytes([bytes[from], bytes[from + 1]]);
    Announced { source: SocketAddr::new(address(0), port(32)), destination: SocketAddr::new(address(16), port(34)) }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<Announced> {
        Some(Announced { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines_are_read_to_their_end_and_no_further() {
        let cases: [(&str, Option<Announced>); 5] = [
            ("PROXY TCP4 10.0.0.1 10.0.0.2 65535 443\r\n", addresses("10.0.0.1:65535", "10.0.0.2:443")),
            ("PROXY TCP6 2001:db8::1 ::1 0 80\r\n", addresses("[2001:db8::1]:0", "[::1]:80")),
            ("PROXY TCP6 ffff:f...f:ffff ignored\r\n", None),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ];
        for (line, expected) in cases {
            if line.contains("...") {
                assert!(parse(line.as_bytes()).is_err());
                continue;
            }
            let with_more = [line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&with_more), Ok(Some((line.len(), expected))), "{line:?}");
            for cut in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..cut]), Ok(None), "{line:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 ::1 1 2\r\n",
            "PROXY TCP6 1.1.1.1 ::1 1 2\r\n",
            "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        let mut long = b"PROXY UNKNOWN ".to_vec();
        long.resize(LINE_BYTES_MAX - 2, b'x');
        let whole = [&long[..], b"\r\n"].concat();
        assert_eq!(parse(&whole), Ok(Some((LINE_BYTES_MAX, None))));
        long.resize(LINE_BYTES_MAX, b'x');
        assert!(parse(&long).is_err());
    }

    #[test]
    fn binary_headers_give_addresses_and_skip_what_follows_them() {
        let four = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x01, 0xbb];
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 80, 90);
        let tlv = [&four[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        let cases = [
            (binary(0x21, 0x11, &four), addresses("10.0.0.1:4660", "10.0.0.2:443")),
            (binary(0x21, 0x11, &tlv), addresses("10.0.0.1:4660", "10.0.0.2:443")),
            (binary(0x21, 0x21, &six), addresses("[::1]:80", "[::2]:90")),
            (binary(0x20, 0x11, &four), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x21, 0x00, &[1, 2, 3]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ];
        for (header, expected) in cases {
            let with_more = [&header[..], b"AMQP"].concat();
            assert_eq!(parse(&with_more), Ok(Some((header.len(), expected))), "{header:?}");
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed_binary_headers_are_refused() {
        for header in [
            binary(0x22, 0x11, &[0; 12]),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x41, &[0; 36]),
        ] {
            assert!(parse(&header).is_err(), "{header:?}");
        }
        let fits = binary(0x21, 0x00, &vec![0; PROXY_HEADER_BYTES_MAX - PREFIX_BYTES]);
        assert_eq!(parse(&fits), Ok(Some((PROXY_HEADER_BYTES_MAX, None))));
        // Refused by its length alone, before it is there.
        let too_long = binary(0x21, 0x00, &vec![0; PROXY_HEADER_BYTES_MAX - PREFIX_BYTES + 1]);
        assert!(parse(&too_long[..PREFIX_BYTES]).is_err());
    }
}
