//! `vxgate drain` and `vxgate resume`.

use std::process::ExitCode;

use clap::Args;

use super::order::OrderArguments;
use crate::show::{Action, Traffic};

/// Arguments of `vxgate drain`.
#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    arguments: OrderArguments,
}

/// Arguments of `vxgate resume`.
#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    arguments: OrderArguments,
}

impl Drain {
    pub(super) fn execute(self) -> ExitCode {
        self.arguments.execute::<Traffic>(Action::Drain)
    }
}

impl Resume {
    pub(super) fn execute(self) -> ExitCode {
        self.arguments.execute::<Traffic>(Action::Resume)
    }
}
