//! The scenarios, by what they are about.

mod activities;
mod children;
mod locals;
mod timers;
