//! Matching of headers exchanges (AMQP 0-9-1 §3.1.3.4, with RabbitMQ's `all-with-x` and `any-with-x`).

use model::{Table, Value};
use protocol::{Refusal, RefusalKind};

/// What the arguments of a binding ask of a message's headers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeadersMatch {
    all: bool,
    /// Name and value; `Void` asks for existence only.
    wanted: Vec<(String, Value)>,
}

impl HeadersMatch {
    /// Reads the arguments of a binding.
    pub(crate) fn new(arguments: &Table) -> Result<Self, Refusal> {
        let (all, with_x) = match arguments.get("x-match") {
            None => (true, false),
            Some(mode) => match mode.as_str() {
                Some("all") => (true, false),
                Some("any") => (false, false),
                Some("all-with-x") => (true, true),
                Some("any-with-x") => (false, true),
                _ => {
                    return Err(Refusal::new(
                        RefusalKind::PreconditionFailed,
                        format!("Invalid x-match field value '{mode}'; expected all, any, all-with-x, or any-with-x"),
                    ));
                }
            },
        };
        let wanted = arguments
            .iter()
            .filter(|(name, _)| *name != "x-match" && (with_x || !name.starts_with("x-")))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        Ok(Self { all, wanted })
    }

    /// Whether a message with these headers is wanted.
    pub(crate) fn matches(&self, headers: &Table) -> bool {
        let mut hits = self
            .wanted
            .iter()
            .map(|(name, value)| headers.get(name).is_some_and(|is| *value == Value::Void || value.same_argument(is)));
        if self.all { hits.all(|hit| hit) } else { hits.any(|hit| hit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(fields: &[(&str, Value)]) -> Table {
        Table(fields.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect())
    }

    fn matches(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        HeadersMatch::new(&table(arguments)).unwrap().matches(&table(headers))
    }

    #[test]
    fn all_any_existence_and_x_names() {
        let a = || ("a", Value::I32(1));
        let b = || ("b", Value::text("x"));
        let x = || ("x-a", Value::Bool(true));
        let mode = |m: &str| ("x-match", Value::text(m));
        assert!(matches(&[a(), b()], &[b(), ("a", Value::I64(1))]));
        assert!(!matches(&[a(), b()], &[a()]));
        assert!(matches(&[mode("any"), a(), b()], &[a()]));
        assert!(!matches(&[mode("any"), a(), b()], &[]));
        assert!(matches(&[("a", Value::Void)], &[("a", Value::Bool(false))]));
        assert!(!matches(&[("a", Value::Void)], &[]));
        assert!(matches(&[mode("all"), x()], &[]));
        assert!(!matches(&[mode("all-with-x"), x()], &[]));
        assert!(!matches(&[mode("any"), x()], &[x()]));
        assert!(matches(&[mode("any-with-x"), x()], &[x()]));
        assert!(matches(&[], &[]));
        assert!(!matches(&[mode("any")], &[a()]));
    }

    #[test]
    fn another_mode_is_refused() {
        let refusal = HeadersMatch::new(&table(&[("x-match", Value::text("most"))])).unwrap_err();
        assert_eq!(refusal.text, "Invalid x-match field value 'most'; expected all, any, all-with-x, or any-with-x");
    }
}
