//! What can be wrong with profiles, as facts. How it is told to users, a language may decide for itself: the problem is
//! the source of the [`Error`] that it becomes.

use std::{fmt, ops::Range};

use crate::Error;

/// What is wrong with profiles. Its text holds no value of the file, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file is not TOML.
    Syntax {
        /// Where, in bytes.
        at: Range<usize>,
        /// The line, counted from one.
        line: usize,
        /// What the reader says.
        message: String,
    },
    /// The file has keys that nobody knows.
    Unknown(Vec<UnknownKey>),
    /// A value of the file has the wrong type.
    Mistyped {
        /// Where the value is, in bytes.
        at: Range<usize>,
        /// The full key: `profile.default.address`.
        name: String,
        /// What it should be.
        wanted: Wanted,
        /// What it is: "integer `1`".
        found: String,
    },
    /// A path and data for the same thing.
    Both {
        /// The full key or the variable of the path.
        path: String,
        /// The full key or the variable of the data.
        data: String,
    },
    /// A variable that is neither true nor false.
    Flag {
        /// The variable.
        name: String,
        /// What it is.
        value: String,
    },
    /// There is no such profile.
    NoProfile {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
}

/// A key that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The names that lead to it, itself last.
    pub path: Vec<String>,
    /// Where the key is, in bytes.
    pub at: Range<usize>,
    /// What may stand in its place.
    pub known: &'static [&'static str],
}

/// What a value should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// The table of all profiles.
    Profiles,
    /// The table of a profile.
    Profile,
    /// The table of TLS settings.
    Tls,
    /// The table of a codec.
    Codec,
    /// The table of metadata.
    Meta,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a string",
            Self::Flag => "true or false",
            Self::Profiles | Self::Profile | Self::Tls | Self::Codec | Self::Meta => "a table",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, message, .. } => {
                write!(f, "the profile file is not TOML, line {line}: {message}")
            }
            Self::Unknown(keys) => {
                let names: Vec<String> = keys.iter().map(|key| key.path.join(".")).collect();
                write!(f, "the profile file has unknown keys: {}", names.join(", "))
            }
            Self::Mistyped { name, wanted, .. } => write!(f, "the profile file's `{name}` must be {wanted}"),
            Self::Both { path, data } => write!(f, "{path} and {data} are both set; set one"),
            Self::Flag { name, value } => write!(f, "{name} is `{value}`; it must be true or false"),
            Self::NoProfile { name, known } => {
                write!(f, "there is no profile `{name}`; there are: {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for Problem {}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::config(problem.to_string()).with_source(problem)
    }
}
