//! The bytes of AMQP 0-9-1 (§4.2): frames, methods, field tables, content headers. No state, no meaning.

pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod method;
pub(crate) mod properties;
pub(crate) mod reader;
pub(crate) mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

/// Class and method numbers of a method (§1.2), as error replies carry them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MethodId(pub(crate) u16, pub(crate) u16);

impl MethodId {
    /// No method is to blame.
    pub(crate) const NONE: Self = Self(0, 0);
    /// `basic.publish`
    pub(crate) const BASIC_PUBLISH: Self = Self(60, 40);
    /// `confirm.select`
    pub(crate) const CONFIRM_SELECT: Self = Self(85, 10);
}
