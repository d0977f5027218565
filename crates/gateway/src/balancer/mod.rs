//! Upstreams: which address a request goes to, what is thought of each address, and what is done after a failure.
//!
//! | module | what |
//! |---|---|
//! | [`Balancer`] | one upstream: its table of addresses, and the state that outlives it |
//! | `table` | the addresses by tier, and the choice among them |
//! | `wheel`, `ring`, `latency` | round-robin, consistent hashing, the moving average of latency |
//! | `address`, `health`, `outlier`, `slow_start` | what is known of one address |
//! | `breaker`, `bulkhead`, `connections`, `retry` | what is known of the whole upstream |
//! | `hash_input` | the value of a request that is hashed |
//! | `call` | one request: gate, tries, outcome |
//! | `catalogue` | an upstream whose targets a catalogue lists |
//! | `view` | health as people and the Admin API see it |
//!
//! Invariants: no IO; time and random numbers are passed in. State belongs to an address (or to the upstream) and
//! survives every change of configuration that keeps it. Names are resolved elsewhere, see [`Balancer::set_addresses`];
//! probes are sent elsewhere, see [`Balancer::probed`].

mod address;
#[expect(clippy::module_inception, reason = "the type the module is about")]
mod balancer;
mod breaker;
mod bulkhead;
mod call;
mod catalogue;
mod connections;
mod hash_input;
mod health;
mod latency;
mod outlier;
pub(crate) mod random;
mod resolution;
mod retry;
mod ring;
mod slow_start;
mod table;
mod view;
mod wheel;

pub use address::{Address, AddressKey, Outcome};
pub use balancer::{Balancer, NoPeer, Peer};
pub use breaker::BreakerState;
pub use bulkhead::{Entry, Granted, Place, Queued};
pub(crate) use call::{Call, Gate, Verdict};
pub use catalogue::CatalogueState;
pub use connections::{Connections, Keeper};
pub(crate) use hash_input::{HashedRequest, Key, hashed};
pub use health::HealthState;
pub use resolution::{Resolution, ResolvedAddress};
pub use table::Member;
pub use view::{AddressView, HealthWord, TargetView, UpstreamView};
