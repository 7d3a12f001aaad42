//! `vxgate flows`.

use std::process::ExitCode;

use clap::Args;

use super::order::OrderArguments;
use crate::show::{Action, Flows};

/// Arguments of `vxgate flows`.
#[derive(Debug, Args)]
pub(super) struct ShowFlows {
    #[command(flatten)]
    arguments: OrderArguments,
}

impl ShowFlows {
    pub(super) fn execute(self) -> ExitCode {
        self.arguments.execute::<Flows>(Action::Flows)
    }
}
