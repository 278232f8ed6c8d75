//! The scenarios, by what they are about.

mod activities;
mod children;
mod lives;
mod locals;
mod messages;
mod operations;
mod timers;
mod workers;
