//! Stand-in until the machine's own shard is merged.
use std::collections::VecDeque;
use outlast_machine::io::{Input, Output};
use outlast_machine::time::Time;

#[derive(Debug, Default)]
pub(crate) struct Shard { out: VecDeque<Output> }
impl Shard {
    pub(crate) fn handle(&mut self, _now: Time, _input: Input) {}
    pub(crate) fn poll(&mut self) -> Option<Output> { self.out.pop_front() }
    pub(crate) fn deadline(&self) -> Option<(Time, ())> { None }
    pub(crate) fn runs(&self) -> usize { 0 }
    pub(crate) fn is_idle(&self) -> bool { true }
    pub(crate) fn drain(&mut self, _now: Time) {}
}
