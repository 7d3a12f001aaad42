//! `vxgate peers`.

use std::process::ExitCode;

use clap::Args;

use super::{SocketArgument, fail, print, print_json};
use crate::fault::{Explained, Fault};
use crate::show::Peers;

/// Arguments of `vxgate peers`.
#[derive(Debug, Args)]
pub(super) struct ShowPeers {
    /// Only those of this VNI.
    #[arg(long, value_name = "N")]
    vni: Option<u32>,
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    /// Print tab-separated lines: vni vtep mac subnet state source age_s rx_pkts rx_bytes tx_pkts tx_bytes drops device;
    /// a dash for what is not known.
    #[arg(long, conflicts_with = "json")]
    dump: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// No device that is taken over has this VNI.
#[derive(Debug, thiserror::Error)]
#[error("no vxlan device with VNI {0} is taken over")]
pub(super) struct NoSuchVni(pub(super) u32);

impl Explained for NoSuchVni {
    fn fault(&self) -> Fault {
        Fault::VniUnknown
    }
}

impl ShowPeers {
    pub(super) fn execute(self) -> ExitCode {
        let status = match self.socket.ask() {
            Ok(status) => status,
            Err(code) => return code,
        };
        let Some(peers) = Peers::of(&status, self.vni) else {
            return fail(&NoSuchVni(self.vni.unwrap_or_default()));
        };
        if self.json {
            if let Err(error) = print_json(&peers) {
                return fail(&error);
            }
        } else if self.dump {
            print(&peers.dump());
        } else {
            print(&peers.to_string());
        }
        ExitCode::SUCCESS
    }
}
