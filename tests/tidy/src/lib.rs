//! Rules of this repository that no compiler checks, as tests: which crate may use which, what a file must open with,
//! what a pure crate may not name, that documents point at things that exist. Knows nothing of what the crates do.

#[cfg(test)]
mod docs;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod protos;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod sources;
