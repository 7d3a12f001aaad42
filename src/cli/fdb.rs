//! `vxgate fdb`.

use std::process::ExitCode;

use clap::Args;

use super::output::print_to_reader;
use super::peers::NoSuchVni;
use super::{SocketArgument, fail, print_json};
use crate::show::Fdb;

/// Arguments of `vxgate fdb`.
#[derive(Debug, Args)]
pub(super) struct ShowFdb {
    /// Only that of devices with this VNI.
    #[arg(long, value_name = "N")]
    vni: Option<u32>,
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

impl ShowFdb {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.socket.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        // A document is one; lines are printed as they come.
        let is_known = if self.json {
            Fdb::ask(&path, self.vni).map(|fdb| fdb.map(|fdb| print_json(&fdb)))
        } else {
            let print = |part: Fdb| print_to_reader(&part.to_string());
            let is_known = Fdb::ask_by_parts(&path, self.vni, print);
            is_known.map(|is_known| is_known.then_some(Ok(())))
        };
        match is_known {
            Ok(Some(Ok(()))) => ExitCode::SUCCESS,
            Ok(Some(Err(error))) => fail(&error),
            Ok(None) => fail(&NoSuchVni(self.vni.unwrap_or_default())),
            Err(error) => fail(&error),
        }
    }
}
