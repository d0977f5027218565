//! One comparison of a field with a value: checked when it is made, cheap when it is asked.
//!
//! A field without a value never holds, whatever the operator. Of several values (a header or query argument that is
//! repeated) all must hold, or one if the field stands in `any`. A value that is not UTF-8 does not hold.

use super::field::{AddressField, Field, NumberField, TextField};
use super::scanner::{Literal, Operator};
use super::subject::Subject;
use model::Network;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::net::IpAddr;

/// A comparison whose types fit.
#[derive(Debug)]
pub(super) enum Predicate {
    Text(TextPredicate),
    Number { field: NumberField, operator: NumberTest, value: i64 },
    Address { field: AddressField, test: AddressTest },
}

/// A comparison of text.
#[derive(Debug)]
pub(super) struct TextPredicate {
    pub(super) field: TextField,
    pub(super) test: TextTest,
    /// Values are compared in lower case.
    pub(super) lower: bool,
    /// One value is enough.
    pub(super) any: bool,
}

#[derive(Debug)]
pub(super) enum TextTest {
    Equal(Box<str>),
    NotEqual(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Regex(Regex),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NumberTest {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Debug)]
pub(super) enum AddressTest {
    Equal(IpAddr),
    NotEqual(IpAddr),
    In(Network),
    NotIn(Network),
}

impl Predicate {
    /// Checks that field, operator and value go together.
    pub(super) fn new(
        field: Field,
        lower: bool,
        any: bool,
        operator: Operator,
        value: Literal,
    ) -> Result<Self, String> {
        match (field, value) {
            (Field::Text(field), Literal::Text(value)) => {
                TextPredicate::new(field, lower, any, operator, value).map(Self::Text)
            }
            (Field::Number(field), Literal::Number(value)) => {
                number_test(operator).map(|operator| Self::Number { field, operator, value })
            }
            (Field::Address(field), value) => address_test(operator, value).map(|test| Self::Address { field, test }),
            (Field::Text(_), _) => Err("it is text, expected a string in quotes".to_owned()),
            (Field::Number(_), _) => Err("it is a number, expected an integer".to_owned()),
        }
    }

    /// Whether it holds. `taken` becomes the bytes of the path that a comparison of the path took.
    pub(super) fn holds(&self, subject: &Subject<'_>, taken: &mut Option<usize>) -> bool {
        match self {
            Self::Text(predicate) => predicate.holds(subject, taken),
            Self::Number { field, operator, value } => {
                subject.number(*field).is_some_and(|number| operator.holds(number, *value))
            }
            Self::Address { field, test } => test.holds(subject.address(*field)),
        }
    }
}

impl TextPredicate {
    fn new(field: TextField, lower: bool, any: bool, operator: Operator, value: String) -> Result<Self, String> {
        let ignores_case = field.ignores_case();
        let value = if ignores_case && operator != Operator::Regex { value.to_lowercase() } else { value };
        let value = value.into_boxed_str();
        let test = match operator {
            Operator::Equal => TextTest::Equal(value),
            Operator::NotEqual => TextTest::NotEqual(value),
            Operator::Prefix => TextTest::Prefix(value),
            Operator::Suffix => TextTest::Suffix(value),
            Operator::Contains => TextTest::Contains(value),
            Operator::Regex => {
                let regex = RegexBuilder::new(&value).case_insensitive(ignores_case).build();
                TextTest::Regex(regex.map_err(|error| format!("`{value}` is no regular expression: {error}"))?)
            }
            Operator::In | Operator::NotIn => return Err("`in` and `not in` are for addresses".to_owned()),
            Operator::Greater | Operator::GreaterOrEqual | Operator::Less | Operator::LessOrEqual => {
                return Err("it is text, and `>`, `>=`, `<`, `<=` are for numbers".to_owned());
            }
        };
        Ok(Self { field, test, lower: lower && !ignores_case, any })
    }

    fn holds(&self, subject: &Subject<'_>, taken: &mut Option<usize>) -> bool {
        match &self.field {
            TextField::Header { written, dashed } => {
                let values = subject.header(written, dashed.as_ref());
                self.over(values.map(|value| std::str::from_utf8(value.as_bytes()).ok().map(Cow::Borrowed)))
            }
            TextField::Query(name) => self.over(subject.query(name)),
            TextField::Path => subject.path().is_some_and(|path| {
                let found = self.test.matches(path, self.lower);
                // As in Kong the last comparison of the path that held says what is stripped.
                *taken = found.flatten().or(*taken);
                found.is_some()
            }),
            field => subject.text(field).is_some_and(|value| self.test.matches(value, self.lower).is_some()),
        }
    }

    fn over<'v>(&self, values: impl Iterator<Item = Option<Cow<'v, str>>>) -> bool {
        let mut some = false;
        for value in values {
            some = true;
            let holds = value.is_some_and(|value| self.test.matches(&value, self.lower).is_some());
            if holds == self.any {
                return holds;
            }
        }
        some && !self.any
    }
}

impl TextTest {
    /// If the value passes: the bytes of what was found in it, for tests that find something.
    fn matches(&self, value: &str, lower: bool) -> Option<Option<usize>> {
        let lowered;
        let (value, lower) = match lower {
            // Only what is beyond ASCII, or for a regular expression, is copied.
            true if !value.is_ascii() || matches!(self, Self::Regex(_)) => {
                lowered = value.to_lowercase();
                (lowered.as_str(), false)
            }
            lower => (value, lower),
        };
        let same = |part: &str, wanted: &str| if lower { is_lower_of(part, wanted) } else { part == wanted };
        let part = |range: std::ops::Range<usize>| value.get(range);
        let found = |wanted: &str| Some(Some(wanted.len()));
        match self {
            Self::Equal(wanted) if same(value, wanted) => found(wanted),
            Self::NotEqual(unwanted) if !same(value, unwanted) => Some(None),
            Self::Prefix(wanted) if part(0..wanted.len()).is_some_and(|start| same(start, wanted)) => found(wanted),
            Self::Suffix(wanted) => {
                let start = value.len().checked_sub(wanted.len())?;
                part(start..value.len()).is_some_and(|end| same(end, wanted)).then_some(Some(wanted.len()))
            }
            Self::Contains(wanted) if !lower => value.contains(&**wanted).then_some(None),
            Self::Contains(wanted) => {
                let starts = 0..=value.len().checked_sub(wanted.len())?;
                let mut parts = starts.map(|start| part(start..start + wanted.len()));
                parts.any(|part| part.is_some_and(|part| same(part, wanted))).then_some(None)
            }
            Self::Regex(regex) => regex.find(value).map(|found| Some(found.len())),
            Self::Equal(_) | Self::NotEqual(_) | Self::Prefix(_) => None,
        }
    }
}

/// Whether ASCII text is this in lower case.
fn is_lower_of(text: &str, wanted: &str) -> bool {
    text.len() == wanted.len()
        && text.bytes().zip(wanted.bytes()).all(|(byte, wanted)| byte.to_ascii_lowercase() == wanted)
}

fn number_test(operator: Operator) -> Result<NumberTest, String> {
    Ok(match operator {
        Operator::Equal => NumberTest::Equal,
        Operator::NotEqual => NumberTest::NotEqual,
        Operator::Greater => NumberTest::Greater,
        Operator::GreaterOrEqual => NumberTest::GreaterOrEqual,
        Operator::Less => NumberTest::Less,
        Operator::LessOrEqual => NumberTest::LessOrEqual,
        Operator::Regex | Operator::Prefix | Operator::Suffix | Operator::Contains | Operator::In | Operator::NotIn => {
            return Err("it is a number, expected one of `==`, `!=`, `>`, `>=`, `<`, `<=`".to_owned());
        }
    })
}

impl NumberTest {
    const fn holds(self, number: i64, value: i64) -> bool {
        match self {
            Self::Equal => number == value,
            Self::NotEqual => number != value,
            Self::Greater => number > value,
            Self::GreaterOrEqual => number >= value,
            Self::Less => number < value,
            Self::LessOrEqual => number <= value,
        }
    }
}

fn address_test(operator: Operator, value: Literal) -> Result<AddressTest, String> {
    Ok(match (operator, value) {
        (Operator::Equal, Literal::Address(address)) => AddressTest::Equal(address),
        (Operator::NotEqual, Literal::Address(address)) => AddressTest::NotEqual(address),
        (Operator::In, Literal::Network(network)) => AddressTest::In(network),
        (Operator::NotIn, Literal::Network(network)) => AddressTest::NotIn(network),
        (Operator::In | Operator::NotIn, _) => return Err("expected a network such as 10.0.0.0/8".to_owned()),
        (Operator::Equal | Operator::NotEqual, _) => return Err("it is an address, expected one".to_owned()),
        _ => return Err("it is an address, expected `==`, `!=`, `in` or `not in`".to_owned()),
    })
}

impl AddressTest {
    fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Equal(wanted) => address == *wanted,
            Self::NotEqual(unwanted) => address != *unwanted,
            Self::In(network) => network.contains(address),
            Self::NotIn(network) => !network.contains(address),
        }
    }
}
