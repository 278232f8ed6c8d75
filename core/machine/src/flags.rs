//! Flags in history: which refinements of the core and of the language were in force when a task was completed.

use outlast_proto::lens::history::WorkflowTaskCompletedMetadata;

/// Refinements of the core's behaviour. Their numbers are shared with every SDK that stands on a Temporal core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreFlag {
    /// Ids and types of activities and children are compared in replay.
    IdAndTypeChecks = 1,
    /// Each patch marker is followed by an upsert of the attribute that lists patches.
    UpsertOnPatch = 2,
    /// Commands that close the workflow go to the end.
    MoveTerminalCommands = 3,
}

const ALL: [u32; 3] = [1, 2, 3];

/// Set by the first task that a run completes, or never: cores that join tasks without commands do it more carefully where it is, and
/// keep tasks apart that carry updates. This core shows each task by itself and so heeds it always; others read our histories.
const JOINS_WITH_CARE: u32 = 4;

/// The flags of one run.
#[derive(Debug)]
pub(crate) struct Flags {
    /// The server keeps them.
    pub enabled: bool,
    /// History has a completed task.
    begun: bool,
    core: [bool; 4],
    lang: Vec<u32>,
    lang_new: Vec<u32>,
}

impl Flags {
    pub fn new(enabled: bool) -> Self {
        Self { enabled, begun: false, core: [false; 4], lang: Vec::new(), lang_new: Vec::new() }
    }

    /// Takes in what a completed task used, if it says so. Flags of later cores are not known here, and so not heeded.
    pub fn absorb(&mut self, metadata: Option<&WorkflowTaskCompletedMetadata>) {
        self.begun = true;
        let Some(metadata) = metadata else { return };
        for &flag in &metadata.core_used_flags {
            if let Some(known) = self.core.get_mut(flag as usize) {
                *known = true;
            }
        }
        for &flag in &metadata.lang_used_flags {
            if !self.lang.contains(&flag) {
                self.lang.push(flag);
            }
        }
        self.lang_new.retain(|flag| !self.lang.contains(flag));
    }

    /// Whether a refinement is in force: live always, in replay if it was.
    pub fn on(&self, flag: CoreFlag, live: bool) -> bool {
        self.enabled && (live || self.core[flag as usize])
    }

    /// What the language must know of.
    pub fn lang(&self) -> Vec<u32> {
        self.lang.clone()
    }

    /// The language used these in the task at hand.
    pub fn lang_used(&mut self, flags: &[u32]) {
        for &flag in flags {
            if !self.lang.contains(&flag) && !self.lang_new.contains(&flag) {
                self.lang_new.push(flag);
            }
        }
    }

    /// What a live completion adds: of the core all that are not yet in history, of the language what it used. A completion
    /// may be dropped by the server: they are new until history has them.
    pub fn unrecorded(&self) -> (Vec<u32>, Vec<u32>) {
        if !self.enabled {
            return (Vec::new(), Vec::new());
        }
        let missing = ALL.into_iter().filter(|&f| !self.core[f as usize]);
        let core = missing.chain((!self.begun).then_some(JOINS_WITH_CARE)).collect();
        (core, self.lang_new.clone())
    }
}
