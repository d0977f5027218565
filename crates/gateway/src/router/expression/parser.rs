//! From text to a checked tree.
//!
//! ```text
//! expression = either *( "&&" either )
//! either     = term *( "||" term )
//! term       = [ "!" ] "(" expression ")" / predicate
//! predicate  = left operator value
//! left       = field / ( "lower" / "any" ) "(" left ")"
//! ```
//!
//! As in Kong, and unlike most languages, `||` binds tighter than `&&`: `a && b || c` is `a && (b || c)`.

use super::error::ExpressionError;
use super::field::{Field, Fields};
use super::predicate::Predicate;
use super::scanner::Scanner;
use model::limits::{ROUTE_EXPRESSION_BYTES_MAX, ROUTE_EXPRESSION_DEPTH_MAX};

/// A checked expression.
#[derive(Debug)]
pub(super) enum Node {
    /// All of them hold.
    All(Vec<Node>),
    /// One of them holds.
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Predicate),
}

/// What stands left of an operator.
struct Left<'a> {
    field: Field,
    name: &'a str,
    lower: bool,
    any: bool,
}

pub(super) fn parse(text: &str, fields: Fields) -> Result<Node, ExpressionError> {
    let mut parser = Parser { scanner: Scanner::new(text), fields, depth: 0 };
    if text.len() > ROUTE_EXPRESSION_BYTES_MAX {
        let what = format!("the expression has {} bytes, more than {ROUTE_EXPRESSION_BYTES_MAX}", text.len());
        return Err(parser.scanner.error(what));
    }
    let node = parser.expression()?;
    if parser.scanner.is_done() { Ok(node) } else { Err(parser.scanner.expected("`&&`, `||` or the end")) }
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    fields: Fields,
    /// Parentheses that are open.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expression(&mut self) -> Result<Node, ExpressionError> {
        let mut all = vec![self.either()?];
        while self.scanner.eat("&&") {
            all.push(self.either()?);
        }
        Ok(single_or(all, Node::All))
    }

    fn either(&mut self) -> Result<Node, ExpressionError> {
        let mut any = vec![self.term()?];
        while self.scanner.eat("||") {
            any.push(self.term()?);
        }
        Ok(single_or(any, Node::Any))
    }

    fn term(&mut self) -> Result<Node, ExpressionError> {
        let negated = self.scanner.eat("!");
        if self.scanner.eat("(") {
            self.enter()?;
            let inner = self.expression()?;
            self.leave()?;
            return Ok(if negated { Node::Not(Box::new(inner)) } else { inner });
        }
        if negated {
            return Err(self.scanner.expected("`(` after `!`"));
        }
        self.predicate().map(Node::Test)
    }

    fn enter(&mut self) -> Result<(), ExpressionError> {
        self.depth += 1;
        if self.depth > ROUTE_EXPRESSION_DEPTH_MAX {
            return Err(self
                .scanner
                .error(format!("more than {ROUTE_EXPRESSION_DEPTH_MAX} parentheses inside each other")));
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), ExpressionError> {
        self.depth -= 1;
        if self.scanner.eat(")") { Ok(()) } else { Err(self.scanner.expected("`&&`, `||` or `)`")) }
    }

    fn predicate(&mut self) -> Result<Predicate, ExpressionError> {
        let at = self.scanner.next_at();
        let left = self.left()?;
        let operator = self.scanner.operator()?;
        let literal = self.scanner.literal()?;
        Predicate::new(left.field, left.lower, left.any, operator, literal)
            .map_err(|what| self.scanner.error_at(at, format!("`{}`: {what}", left.name)))
    }

    fn left(&mut self) -> Result<Left<'a>, ExpressionError> {
        let at = self.scanner.next_at();
        let Some(name) = self.scanner.name() else {
            return Err(self.scanner.expected("a field, a function, `(` or `!(`"));
        };
        if !self.scanner.eat("(") {
            let field = Field::named(name, self.fields).map_err(|what| self.scanner.error_at(at, what))?;
            return Ok(Left { field, name, lower: false, any: false });
        }
        self.enter()?;
        let mut left = self.left()?;
        match name {
            "lower" if matches!(left.field, Field::Text(_)) => left.lower = true,
            "lower" => return Err(self.scanner.error_at(at, format!("`lower`: `{}` is not text", left.name))),
            "any" => left.any = true,
            _ => {
                let what = format!("there is no function `{name}`: expected `lower` or `any`");
                return Err(self.scanner.error_at(at, what));
            }
        }
        self.leave().map(|()| left)
    }
}

fn single_or(mut nodes: Vec<Node>, many: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            many(nodes)
        }
        None => many(nodes),
    }
}
