//! `vxgate reload`.

use std::process::ExitCode;

use clap::Args;

use super::order::OrderArguments;
use crate::show::{Action, Reloaded};

/// Arguments of `vxgate reload`.
#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    arguments: OrderArguments,
}

impl Reload {
    pub(super) fn execute(self) -> ExitCode {
        self.arguments.execute::<Reloaded>(Action::Reload)
    }
}
