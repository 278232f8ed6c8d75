//! Local activities of a workflow: when they run, when the language hears of them, what is recorded of them.

use crate::fault::Fault;
use crate::io::{LocalName, LocalReport};
use crate::marker::Marker;
use crate::ops::Op;
use crate::ops::local::{Local, Next, Resolution, State};
use crate::queue::{Ask, Kind};
use crate::time::Time;
use outlast_proto::lens::lang::ActivityCancellationType as Cancellation;

use super::commands::known;
use super::{LocalOut, Mode, Resolved, Workflow};

impl Workflow {
    /// Whether any runs, is to run, or waits for its next attempt: then the task is not answered yet.
    pub fn locals_open(&self) -> bool {
        self.locals_open > 0
    }

    /// How many attempts there were.
    pub fn local_executions(&self) -> u32 {
        self.local_executions
    }

    /// The task is answered: how many attempts were started in it of local activities that began in a task before, for
    /// the server's metering. As in the reference, only a task that leaves some of them running tells.
    pub fn take_nonfirst_attempts(&mut self, leaves_some: bool) -> u32 {
        let attempts = std::mem::take(&mut self.nonfirst_attempts);
        if !leaves_some {
            return 0;
        }
        for (_, local) in self.locals_mut() {
            local.began_before = true;
        }
        attempts
    }

    /// What the shell must do for them.
    pub fn take_locals(&mut self) -> Vec<LocalOut> {
        std::mem::take(&mut self.locals_out)
    }

    /// In an open task: starts what was asked for and what waited in replay for a marker that never came.
    pub fn start_locals(&mut self, now: Time) {
        if self.mode != Mode::Live || self.locals_open == 0 {
            return;
        }
        let wanted = |l: &Local| matches!(l.state, State::Wanted | State::Replaying);
        let wanted: Vec<u32> = self.locals_mut().filter(|(_, l)| wanted(l)).map(|(index, _)| index).collect();
        for index in wanted {
            self.start_local(index, now);
        }
    }

    /// The earliest next attempt.
    pub fn locals_deadline(&mut self) -> Option<Time> {
        let abandoned = self.abandoned.iter().filter_map(Local::next_attempt).min();
        if self.locals_open == 0 {
            return abandoned;
        }
        self.locals_mut().filter_map(|(_, local)| local.next_attempt()).chain(abandoned).min()
    }

    fn locals_mut(&mut self) -> impl Iterator<Item = (u32, &mut Local)> {
        self.ops.iter_mut().filter_map(|(index, op)| {
            let Op::Local(local) = op else { return None };
            Some((index, &mut **local))
        })
    }

    /// Starts the attempts whose time has come.
    pub fn locals_tick(&mut self, now: Time) {
        if self.locals_deadline().is_none_or(|d| d > now) {
            return;
        }
        let is_due = |l: &Local| l.next_attempt().is_some_and(|at| at <= now);
        let due: Vec<u32> = self.locals_mut().filter(|(_, l)| is_due(l)).map(|(index, _)| index).collect();
        for index in due {
            self.start_local(index, now);
        }
        for local in self.abandoned.iter_mut().filter(|l| is_due(l)) {
            self.local_executions = self.local_executions.wrapping_add(1);
            let task = local.start(now, self.local_executions, &self.workflow_id, &self.workflow_type);
            self.locals_out.push(LocalOut::Start(Box::new(task)));
        }
    }

    fn start_local(&mut self, index: u32, now: Time) {
        let Some(Op::Local(local)) = self.ops.get_mut(index) else { return };
        if let Some(late) = local.too_late(now) {
            self.resolve(index, late, Some(now));
            return;
        }
        self.nonfirst_attempts = self.nonfirst_attempts.saturating_add(u32::from(local.began_before));
        self.local_executions = self.local_executions.wrapping_add(1);
        let task = local.start(now, self.local_executions, &self.workflow_id, &self.workflow_type);
        let (name, canceling) = (task.name, local.canceling);
        self.locals_out.push(LocalOut::Start(Box::new(task)));
        if canceling {
            // The code gave it up in a task of another worker, which did not live to see it end.
            self.locals_out.push(LocalOut::Cancel(name));
        }
    }

    /// How an attempt went. Reports of attempts that nobody waits for any more are dropped.
    pub fn local_reported(&mut self, now: Time, report: LocalReport) {
        if let Some(at) = self.abandoned.iter().position(|l| l.running() == Some(report.name)) {
            match self.abandoned[at].report(now, report) {
                Next::Retry(until) => self.abandoned[at].state = State::Backoff { until },
                Next::Over(_) => drop(self.abandoned.swap_remove(at)),
            }
            return;
        }
        let Some(index) = self.locals.find(report.name.seq.into()) else { return };
        let Some(Op::Local(local)) = self.ops.get_mut(index) else { return };
        if local.running() != Some(report.name) {
            return;
        }
        match local.report(now, report) {
            Next::Retry(until) => local.state = State::Backoff { until },
            Next::Over(resolution) => self.resolve(index, resolution, Some(now)),
        }
    }

    fn resolve(&mut self, index: u32, resolution: Resolution, now: Option<Time>) {
        let Some(Op::Local(local)) = self.ops.get_mut(index) else { return };
        let complete_time = now.map(|now| local.complete_time(now));
        local.state = State::Resolved { from_marker: false };
        let seq = local.seq;
        self.locals_open = self.locals_open.saturating_sub(1);
        let ended = Resolved { op: index, seq, resolution, complete_time };
        match complete_time {
            Some(_) => self.resolved.push(ended),
            // What the code itself brought about it hears first, in its order; results that came meanwhile after that.
            None => {
                let at = self.resolved.iter().take_while(|other| other.complete_time.is_none()).count();
                self.resolved.insert(at, ended);
            }
        }
    }

    /// The language gives one up, in the way it chose when it asked for it.
    pub(super) fn cancel_local(&mut self, seq: u32) -> Result<(), Fault> {
        let Some(index) = known(&self.locals, "local activity", seq)? else { return Ok(()) };
        let Some(Op::Local(local)) = self.ops.get_mut(index) else { return Ok(()) };
        local.canceling = true;
        match (local.state, local.cancellation) {
            // Its result came, but the code gave it up before it heard of that.
            (State::Resolved { from_marker: false }, Cancellation::TryCancel | Cancellation::Abandon) => {
                let Some(at) =
                    self.resolved.iter().position(|it| it.op == index && it.complete_time.is_some())
                else {
                    return Ok(());
                };
                self.resolved.remove(at);
                self.locals_open = self.locals_open.saturating_add(1);
            }
            // Its marker tells how that went.
            (State::Replaying, _) | (State::Resolved { .. }, _) => return Ok(()),
            (State::Running { .. } | State::Backoff { .. }, Cancellation::Abandon) => {
                self.abandoned.push(local.abandoned());
            }
            (State::Running { execution }, how) => {
                self.locals_out.push(LocalOut::Cancel(LocalName { seq, execution }));
                if how == Cancellation::WaitCancellationCompleted {
                    return Ok(());
                }
            }
            (State::Wanted | State::Backoff { .. }, _) => {}
        }
        let cancelled = local.cancelled();
        self.resolve(index, cancelled, None);
        Ok(())
    }

    /// The workflow closes, or leaves the cache: nothing of them is waited for any more.
    pub fn drop_locals(&mut self) {
        let abandoned = self.abandoned.drain(..).filter_map(|local| local.running());
        self.locals_out.extend(abandoned.map(LocalOut::Cancel));
        if self.locals_open == 0 && self.resolved.is_empty() {
            return;
        }
        for (_, op) in self.ops.iter_mut() {
            let Op::Local(local) = op else { continue };
            self.locals_out.extend(local.running().map(LocalOut::Cancel));
            local.state = State::Resolved { from_marker: false };
        }
        self.locals_open = 0;
        self.resolved.clear();
    }

    /// Puts results of local activities among the jobs, as far as it is their turn.
    pub(super) fn deliver_locals(&mut self) {
        for ended in std::mem::take(&mut self.resolved) {
            self.deliver_live(ended);
        }
        if self.mode == Mode::Replay {
            self.deliver_recorded();
        }
    }

    fn deliver_live(&mut self, ended: Resolved) {
        let index = self.activations;
        let Some(Op::Local(local)) = self.ops.get_mut(ended.op) else { return };
        if local.seq != ended.seq {
            return;
        }
        let resolution = ended.resolution;
        self.jobs.push(local.job(&resolution));
        if let Some(time) = ended.complete_time {
            self.clock = self.clock.max(time);
        }
        let marker = local.marker(resolution, ended.complete_time, index);
        let extras = local.extras.take();
        self.queue.push(Kind::LocalMarker, ended.op, Ask::LocalMarker(Box::new(marker)), extras);
    }

    /// In replay the markers of the turn give the results, in their order. A result is due in the activation that its
    /// marker names; when there is nothing else to tell, all are.
    fn deliver_recorded(&mut self) {
        let due = self.activations;
        let mut told = !self.jobs.is_empty();
        let mut all = false;
        while let Some(marker) = self.markers.get(self.markers_delivered) {
            let Marker::Local(marker) = marker else {
                self.markers_delivered += 1;
                continue;
            };
            let index = self.locals.find(marker.data.seq.into());
            let Some(Op::Local(local)) = index.and_then(|i| self.ops.get_mut(i)) else { return };
            all |= !told;
            if marker.data.activation_index.is_some_and(|at| at > due) && !all {
                return;
            }
            if marker.data.activation_index.is_none_or(|at| at <= due) {
                all = false; // the first that is due in its own right: what comes after waits for its own turn
            }
            told = true;
            self.markers_delivered += 1;
            if local.state != State::Replaying {
                continue;
            }
            let resolution = local.recorded(marker);
            local.state = State::Resolved { from_marker: true };
            self.jobs.push(local.job(&resolution));
            if let Some(time) = marker.data.complete_time {
                self.clock = self.clock.max(time.into());
            }
            self.locals_open = self.locals_open.saturating_sub(1);
        }
    }
}

/// Names a local activity for people.
pub(super) fn words(local: &Local) -> String {
    format!(
        "local activity {:?} of type {:?}",
        String::from_utf8_lossy(local.names.id()),
        String::from_utf8_lossy(local.names.kind())
    )
}
