//! Proves the machine: generated workflow programs, a small model of a server, faults, virtual time, one thread, one seed.
//! What must hold is asserted where it can be seen; a violation panics with the seed. See `world` for the invariants.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "test code: what a model does not act on is of no concern to it"
)]

pub mod program;
pub mod random;
pub mod replay;
pub mod server;
pub mod world;
