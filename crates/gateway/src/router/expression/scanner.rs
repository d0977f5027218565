//! Reads the words of an expression: names, operators, values.
//!
//! Which words may come is the parser's business, so that `fd00::1` is an address where a value is due and `fd00` a name
//! where a field is.

use super::error::ExpressionError;
use model::{Network, NetworkError};
use std::net::IpAddr;

/// A value on the right of an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Literal {
    /// `"…"` with escapes, or `r#"…"#` without.
    Text(String),
    /// Decimal, `0x` hexadecimal or `0` octal.
    Number(i64),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// An address range in CIDR notation.
    Network(Network),
}

/// An operator between a field and a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Regex,
    Prefix,
    Suffix,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    In,
    NotIn,
    Contains,
}

/// Longer ones first where one begins like another.
const SYMBOLS: [(&str, Operator); 9] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("=^", Operator::Suffix),
    ("^=", Operator::Prefix),
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Regex),
];

/// A place in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// A mistake where the scanner stands.
    pub(super) fn error(&self, what: impl Into<String>) -> ExpressionError {
        self.error_at(self.at, what)
    }

    pub(super) fn error_at(&self, at: usize, what: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, at, what)
    }

    /// `expected …, found …`, at the next word.
    pub(super) fn expected(&mut self, what: &str) -> ExpressionError {
        self.skip_space();
        match self.rest().chars().next() {
            Some(found) => self.error(format!("expected {what}, found `{}`", found.escape_debug())),
            None => self.error(format!("expected {what}, found the end")),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The byte the next word begins at.
    pub(super) fn next_at(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Whether nothing but space is left.
    pub(super) fn is_done(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    /// Takes a symbol if it comes next.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(symbol);
        self.at += if found { symbol.len() } else { 0 };
        found
    }

    /// A name of a field or a function.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        self.skip_space();
        let rest = self.rest();
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let len = rest.find(|c| !known(c)).unwrap_or(rest.len());
        self.at += len;
        Some(&rest[..len])
    }

    pub(super) fn operator(&mut self) -> Result<Operator, ExpressionError> {
        if let Some((_, operator)) = SYMBOLS.iter().find(|(symbol, _)| self.eat(symbol)) {
            return Ok(*operator);
        }
        let at = self.next_at();
        let found = match self.name() {
            Some("in") => Some(Operator::In),
            Some("contains") => Some(Operator::Contains),
            Some("not") => (self.name() == Some("in")).then_some(Operator::NotIn),
            _ => None,
        };
        self.at = if found.is_some() { self.at } else { at };
        found.ok_or_else(|| {
            self.expected(
                "an operator: `==`, `!=`, `~`, `^=`, `=^`, `>`, `>=`, `<`, `<=`, `in`, `not in` or `contains`",
            )
        })
    }

    pub(super) fn literal(&mut self) -> Result<Literal, ExpressionError> {
        if self.eat("r#\"") {
            return self.raw_text().map(Literal::Text);
        }
        if self.eat("\"") {
            return self.text().map(Literal::Text);
        }
        let at = self.next_at();
        let rest = self.rest();
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '/' | '-');
        let word = &rest[..rest.find(|c| !known(c)).unwrap_or(rest.len())];
        if word.is_empty() {
            return Err(self.expected("a value: a string in quotes, a number, an address or a network"));
        }
        self.at += word.len();
        let value = if word.contains('/') {
            word.parse().map(Literal::Network).map_err(|error: NetworkError| error.to_string())
        } else if word.contains([':', '.']) {
            word.parse().map(Literal::Address).map_err(|_| "not an IP address".to_owned())
        } else {
            number(word).map(Literal::Number)
        };
        value.map_err(|what| self.error_at(at, format!("`{word}`: {what}")))
    }

    /// What stands before `"#`, as it is.
    fn raw_text(&mut self) -> Result<String, ExpressionError> {
        let Some(len) = self.rest().find("\"#") else {
            return Err(self.error("the string that begins here has no end: expected `\"#`"));
        };
        let text = &self.rest()[..len];
        self.at += len + 2;
        Ok(text.to_owned())
    }

    /// What stands before the next quote that is not escaped.
    fn text(&mut self) -> Result<String, ExpressionError> {
        let (begin, mut out) = (self.at, String::new());
        let mut chars = self.rest().char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.at = begin + at + 1;
                    return Ok(out);
                }
                '\\' => out.push(match chars.next() {
                    Some((_, char @ ('"' | '\\'))) => char,
                    Some((_, 'n')) => '\n',
                    Some((_, 'r')) => '\r',
                    Some((_, 't')) => '\t',
                    _ => {
                        let what = r#"expected one of the escapes `\"`, `\\`, `\n`, `\r`, `\t`"#;
                        return Err(self.error_at(begin + at, what));
                    }
                }),
                _ => out.push(char),
            }
        }
        Err(self.error("the string that begins here has no end: expected `\"`"))
    }
}

/// An integer. As in Kong, a zero before an octal digit makes it octal.
fn number(word: &str) -> Result<i64, String> {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'0'..=b'7', ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("not a number".to_owned());
    }
    let value = i64::from_str_radix(digits, radix).map_err(|_| "the number has more than 63 bits".to_owned())?;
    Ok(if negative { -value } else { value })
}
