//! What became of frames, as vxgate counts them.

use serde_json::Value;

use crate::support::vxgate::Status;

/// Frames that have entered by vx1's access port and where they went, since `before`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) forwarded: u64,
    pub(super) copies: u64,
    pub(super) kernels: u64,
    pub(super) dropped: u64,
}

pub(super) fn books(status: &Status) -> Books {
    let ports = status.list("ports");
    let port = ports
        .filter(|port| port["role"] == "access")
        .find(|port| port["name"] == "vx1")
        .expect("vx1 is carried");
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    Books {
        forwarded: count(&port["forwarded"]),
        copies: count(&port["flood_copies"]),
        kernels: count(&port["passed"]["kernel_route"]),
        dropped: count(&port["drops"]["total"]),
    }
}
