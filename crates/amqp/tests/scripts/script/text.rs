//! Frames as text and back: `1 basic.publish routing-key="q" mandatory=1`.
//!
//! Arguments that are zero or empty may be left out and are not printed. A table is `{name=value, …}`, an array
//! `[value, …]`; a value is `"text"`, `true`, `12` (type `I`), or `letter:number` for any other type of integer.

use super::spec::{Kind, METHODS, Method, PROPERTIES};
use std::fmt::Write as _;

/// Reads words of a line from the front.
pub(crate) struct Words<'a>(pub(crate) &'a str);

impl Words<'_> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', ',']);
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip_space();
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.0.is_empty()
    }

    /// A bare word.
    pub(crate) fn word(&mut self) -> String {
        self.skip_space();
        let end = self.0.find([' ', '=', ',', '{', '}', '[', ']', '"']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word.to_owned()
    }

    /// A text in quotes; `\0`, `\n`, `\r` and `\xNN` as in Rust, `\*N` repeats the character before N times in all.
    pub(crate) fn text(&mut self) -> Vec<u8> {
        assert!(self.eat('"'), "a text at {:?}", self.0);
        let mut bytes = Vec::new();
        loop {
            let c = self.0.chars().next().expect("an end of text");
            self.0 = &self.0[c.len_utf8()..];
            match c {
                '"' => return bytes,
                '\\' => self.escape(&mut bytes),
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) {
        let (c, rest) = self.0.split_at(1);
        self.0 = rest;
        match c {
            "0" => bytes.push(0),
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "x" => {
                bytes.push(u8::from_str_radix(&self.0[..2], 16).expect("hex"));
                self.0 = &self.0[2..];
            }
            "*" => {
                let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
                let n: usize = self.0[..digits].parse().expect("a count");
                self.0 = &self.0[digits..];
                let last = *bytes.last().expect("something to repeat");
                bytes.resize(bytes.len() + n - 1, last);
            }
            other => panic!("escape {other}"),
        }
    }

    /// `name=`
    pub(crate) fn name(&mut self) -> String {
        let name = self.word();
        assert!(self.eat('='), "`=` behind {name} at {:?}", self.0);
        name
    }

    pub(crate) fn number(&mut self) -> u64 {
        let word = self.word();
        word.parse().unwrap_or_else(|_| panic!("a number: {word}"))
    }

    fn table(&mut self) -> Vec<u8> {
        assert!(self.eat('{'), "a table at {:?}", self.0);
        let mut out = Vec::new();
        while !self.eat('}') {
            let name = self.name();
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            self.value(&mut out);
        }
        out
    }

    fn value(&mut self, out: &mut Vec<u8>) {
        self.skip_space();
        match self.0.as_bytes().first() {
            Some(b'"') => {
                out.push(b'S');
                long(&self.text(), out);
            }
            Some(b'{') => {
                out.push(b'F');
                long(&self.table(), out);
            }
            Some(b'[') => {
                self.eat('[');
                let mut values = Vec::new();
                while !self.eat(']') {
                    self.value(&mut values);
                }
                out.push(b'A');
                long(&values, out);
            }
            _ => scalar(&self.word(), out),
        }
    }
}

fn scalar(word: &str, out: &mut Vec<u8>) {
    if word == "true" || word == "false" {
        out.extend_from_slice(&[b't', u8::from(word == "true")]);
        return;
    }
    if word == "void" {
        out.push(b'V');
        return;
    }
    let (letter, number) = word.split_once(':').unwrap_or(("I", word));
    let n: i64 = number.parse().unwrap_or_else(|_| panic!("a value: {word}"));
    let letter = letter.as_bytes()[0];
    out.push(letter);
    let bytes = n.to_be_bytes();
    let len = match letter {
        b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' => 4,
        _ => 8,
    };
    out.extend_from_slice(&bytes[8 - len..]);
}

fn long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A whole frame.
pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    long(payload, &mut out);
    out.push(0xCE);
    out
}

/// What a line stands for.
pub(crate) fn encode(line: &str) -> Vec<u8> {
    let mut words = Words(line);
    let first = words.word();
    match first.as_str() {
        "raw" => return words.text(),
        "heartbeat" => return frame(8, 0, &[]),
        "frame" => {
            let (kind, channel) = (words.number() as u8, words.number() as u16);
            return frame(kind, channel, &words.text());
        }
        _ => {}
    }
    let channel: u16 = first.parse().unwrap_or_else(|_| panic!("a channel: {line}"));
    let name = words.word();
    match name.as_str() {
        "header" => frame(2, channel, &header(&mut words)),
        "body" => frame(3, channel, &words.text()),
        _ => frame(1, channel, &method(&name, &mut words)),
    }
}

fn method(name: &str, words: &mut Words<'_>) -> Vec<u8> {
    let spec = METHODS.iter().find(|m| m.0 == name).unwrap_or_else(|| panic!("no method {name}"));
    let mut given: Vec<(String, Vec<u8>)> = Vec::new();
    while !words.is_empty() {
        let name = words.name();
        let kind = spec.3.iter().find(|a| a.0 == name).unwrap_or_else(|| panic!("{} has no argument {name}", spec.0)).1;
        given.push((name, argument(kind, words)));
    }
    let mut out = Vec::new();
    out.extend_from_slice(&spec.1.to_be_bytes());
    out.extend_from_slice(&spec.2.to_be_bytes());
    let mut bits: Option<(u8, u8)> = None;
    for (name, kind) in spec.3 {
        let value = given.iter().find(|g| g.0 == *name).map(|g| &g.1);
        if *kind == Kind::Bit {
            let (n, byte) = bits.unwrap_or((0, 0));
            let set = value.is_some_and(|v| v[0] != 0);
            bits = Some((n + 1, byte | u8::from(set) << n));
            continue;
        }
        if let Some((_, byte)) = bits.take() {
            out.push(byte);
        }
        match value {
            Some(value) => out.extend_from_slice(value),
            None => out.resize(out.len() + width(*kind), 0),
        }
    }
    if let Some((_, byte)) = bits {
        out.push(byte);
    }
    out
}

/// Bytes of a value that is zero or empty.
fn width(kind: Kind) -> usize {
    match kind {
        Kind::Octet | Kind::ShortStr | Kind::Bit => 1,
        Kind::Short => 2,
        Kind::Long | Kind::LongStr | Kind::Table => 4,
        Kind::LongLong => 8,
    }
}

fn argument(kind: Kind, words: &mut Words<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        Kind::Octet | Kind::Bit => out.push(words.number() as u8),
        Kind::Short => out.extend_from_slice(&(words.number() as u16).to_be_bytes()),
        Kind::Long => out.extend_from_slice(&(words.number() as u32).to_be_bytes()),
        Kind::LongLong => out.extend_from_slice(&words.number().to_be_bytes()),
        Kind::ShortStr => {
            let text = words.text();
            out.push(text.len() as u8);
            out.extend_from_slice(&text);
        }
        Kind::LongStr => long(&words.text(), &mut out),
        Kind::Table => long(&words.table(), &mut out),
    }
    out
}

fn header(words: &mut Words<'_>) -> Vec<u8> {
    let (mut class, mut size, mut extra_flags) = (60u16, 0u64, 0u16);
    let (mut flags, mut lists) = (0u16, vec![Vec::new(); PROPERTIES.len()]);
    while !words.is_empty() {
        let name = words.name();
        match name.as_str() {
            "class" => class = words.number() as u16,
            "size" => size = words.number(),
            "flags" => extra_flags = words.number() as u16,
            _ => {
                let at = PROPERTIES.iter().position(|p| p.0 == name).unwrap_or_else(|| panic!("no property {name}"));
                flags |= 1 << (15 - at);
                lists[at] = argument(PROPERTIES[at].1, words);
            }
        }
    }
    let mut out = Vec::new();
    out.extend_from_slice(&class.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&(flags | extra_flags).to_be_bytes());
    out.extend(lists.into_iter().flatten());
    out
}

/// Takes the first frame (or protocol header) off `bytes` and prints it.
pub(crate) fn decode(bytes: &mut &[u8]) -> String {
    if let Some(rest) = bytes.strip_prefix(b"AMQP") {
        let line = format!("raw \"AMQP\\0\\0\\x{:02x}\\x{:02x}\"", rest[2], rest[3]);
        *bytes = &rest[4..];
        return line;
    }
    let channel = u16::from_be_bytes([bytes[1], bytes[2]]);
    let size = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as usize;
    let (kind, mut payload) = (bytes[0], &bytes[7..7 + size]);
    assert_eq!(bytes[7 + size], 0xCE, "a frame's end");
    *bytes = &bytes[8 + size..];
    match kind {
        1 => {
            let class = integer(&mut payload, 2) as u16;
            let number = integer(&mut payload, 2) as u16;
            let spec: &Method = METHODS
                .iter()
                .find(|m| (m.1, m.2) == (class, number))
                .unwrap_or_else(|| panic!("no method {class}.{number}"));
            let mut line = format!("{channel} {}", spec.0);
            arguments(spec.3, &mut payload, &mut line);
            assert!(payload.is_empty(), "bytes behind {line}");
            line
        }
        2 => {
            let mut line = format!("{channel} header");
            assert_eq!(integer(&mut payload, 4), 60 << 16, "class and weight");
            let _ = write!(line, " size={}", integer(&mut payload, 8));
            let flags = integer(&mut payload, 2) as u16;
            for (at, property) in PROPERTIES.iter().enumerate() {
                if flags & 1 << (15 - at) != 0 {
                    arguments(std::slice::from_ref(property), &mut payload, &mut line);
                }
            }
            assert!(payload.is_empty(), "bytes behind {line}");
            line
        }
        3 if size > 40 => format!("{channel} body of {size} bytes"),
        3 => format!("{channel} body {}", quoted(payload)),
        8 => "heartbeat".into(),
        kind => panic!("frame type {kind}"),
    }
}

fn integer(bytes: &mut &[u8], n: usize) -> u64 {
    let (taken, rest) = bytes.split_at(n);
    *bytes = rest;
    taken.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(n);
    *bytes = rest;
    taken
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii()).replace("\\x00", "\\0")
}

fn arguments(spec: &[(&str, Kind)], bytes: &mut &[u8], line: &mut String) {
    let mut bit = 0;
    let mut bits = 0;
    for (name, kind) in spec {
        if *kind == Kind::Bit {
            if bit == 0 {
                bits = integer(bytes, 1);
            }
            if bits & 1 << bit != 0 {
                let _ = write!(line, " {name}=1");
            }
            bit += 1;
            continue;
        }
        bit = 0;
        let (empty, text) = match kind {
            Kind::Octet => show(integer(bytes, 1)),
            Kind::Short => show(integer(bytes, 2)),
            Kind::Long => show(integer(bytes, 4)),
            Kind::LongLong => show(integer(bytes, 8)),
            Kind::ShortStr | Kind::LongStr => {
                let len = integer(bytes, if *kind == Kind::ShortStr { 1 } else { 4 });
                let text = take(bytes, len as usize);
                (text.is_empty(), quoted(text))
            }
            Kind::Table => {
                let len = integer(bytes, 4) as usize;
                (len == 0, fields(take(bytes, len)))
            }
            Kind::Bit => unreachable!("handled above"),
        };
        if !empty {
            let _ = write!(line, " {name}={text}");
        }
    }
}

fn show(n: u64) -> (bool, String) {
    (n == 0, n.to_string())
}

fn fields(mut bytes: &[u8]) -> String {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let len = integer(&mut bytes, 1) as usize;
        let name = String::from_utf8_lossy(take(&mut bytes, len)).into_owned();
        list.push(format!("{name}={}", value(&mut bytes)));
    }
    format!("{{{}}}", list.join(", "))
}

fn value(bytes: &mut &[u8]) -> String {
    let letter = integer(bytes, 1) as u8;
    let width = match letter {
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'V' => 0,
        b'l' | b'L' | b'T' | b'd' => 8,
        _ => 4,
    };
    let n = integer(bytes, width);
    match letter {
        b'V' => "void".into(),
        b't' => (n != 0).to_string(),
        b'I' => (n as u32 as i32).to_string(),
        b'S' => quoted(take(bytes, n as usize)),
        b'F' => fields(take(bytes, n as usize)),
        b'A' => {
            let mut content = take(bytes, n as usize);
            let mut list = Vec::new();
            while !content.is_empty() {
                list.push(value(&mut content));
            }
            format!("[{}]", list.join(", "))
        }
        letter => format!("{}:{n}", char::from(letter)),
    }
}
