//! Why a document is none.

use std::io;
use std::path::{Path, PathBuf};

use crate::fault::{Explained, Fault};

/// What is wrong with a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no state, or of another schema, or contradicts itself.
    #[error("{}no state of a gateway: {why}", name(file.as_deref()))]
    Malformed {
        /// Its path, if it was a file.
        file: Option<PathBuf>,
        /// What is wrong, and where.
        why: String,
    },
}

fn name(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!("{}: ", file.display()))
}

impl StateError {
    pub(super) fn malformed(why: String) -> Self {
        Self::Malformed { file: None, why }
    }

    pub(super) fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Malformed { why, .. } => Self::Malformed {
                file: Some(path.to_owned()),
                why,
            },
            other => other,
        }
    }
}

impl Explained for StateError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unreadable { .. } => Fault::StateUnreadable,
            Self::Malformed { .. } => Fault::StateInvalid,
        }
    }
}
