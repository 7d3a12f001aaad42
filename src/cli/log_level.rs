//! `vxgate log-level`.

use std::process::ExitCode;

use clap::Args;

use super::order::OrderArguments;
use crate::show::{Action, LogLevel};

/// Arguments of `vxgate log-level`.
#[derive(Debug, Args)]
pub(super) struct ChangeLogLevel {
    /// What to log from now on: error, warn, info, debug, trace, off; or directives by module such as
    /// `info,vxgate::control=debug` [default: say what is logged now].
    level: Option<String>,
    #[command(flatten)]
    arguments: OrderArguments,
}

impl ChangeLogLevel {
    pub(super) fn execute(self) -> ExitCode {
        let action = Action::LogLevel(self.level);
        self.arguments.execute::<LogLevel>(action)
    }
}
