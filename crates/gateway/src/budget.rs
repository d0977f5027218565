//! One bound for the request bodies that are collected, of all connections together.
//!
//! Invariants: what a room took is given back when it is dropped, so a client that leaves costs nothing; the rooms
//! together never hold more than the budget. Not here: the bound of one body, which is its route's.

use crate::decision::BodyFailure;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that collected bodies may take together.
#[derive(Debug)]
pub struct BodyBudget {
    used: AtomicUsize,
    bytes_max: usize,
}

/// What the bodies of one request take of a budget.
#[derive(Debug)]
pub struct BodyRoom<'a> {
    budget: &'a BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    /// A budget of `bytes_max` bytes, all of it free.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { used: AtomicUsize::new(0), bytes_max }
    }

    /// Room for a request that has taken nothing yet; costs nothing until it grows.
    #[must_use]
    pub fn room(&self) -> BodyRoom<'_> {
        BodyRoom { budget: self, bytes: 0 }
    }
}

impl BodyRoom<'_> {
    /// Takes more.
    ///
    /// # Errors
    /// [`BodyFailure::Overload`] if the budget is used up; then nothing was taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BodyFailure> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.budget.bytes_max);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| BodyFailure::Overload)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for BodyRoom<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_it_and_give_back_what_they_took() {
        let budget = BodyBudget::new(10);
        let (mut a, mut b) = (budget.room(), budget.room());
        assert_eq!(a.grow(6), Ok(()));
        assert_eq!(b.grow(5), Err(BodyFailure::Overload));
        assert_eq!(b.grow(4), Ok(()));
        assert_eq!(b.grow(1), Err(BodyFailure::Overload));
        assert_eq!(b.grow(usize::MAX), Err(BodyFailure::Overload));
        drop(a);
        assert_eq!(b.grow(6), Ok(()));
        drop(b);
        assert_eq!(budget.room().grow(10), Ok(()));
    }
}
