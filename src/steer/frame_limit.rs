//! The longest frame that the data path takes from each vxlan device; longer ones stay with the kernel.

use std::sync::Arc;

use super::Error;
use super::copy::Copy;
use super::heartbeat::Cells;

/// The limits of a session's vxlan devices, to be set by whoever knows the paths. Outlives the programs harmlessly.
#[derive(Debug, Clone)]
pub struct FrameLimits {
    devices: Arc<Vec<(u32, Cells)>>,
}

impl FrameLimits {
    /// Maps each device's cell, and sets no limit yet.
    pub(super) fn map<'a>(devices: impl Iterator<Item = (u32, &'a Copy)>) -> Result<Self, Error> {
        let cells = devices.map(|(ifindex, copy)| {
            let cell =
                Cells::map(copy.frame_limit()?, 1, size_of::<u64>()).map_err(Error::Heartbeat)?;
            cell.store(0, u64::MAX);
            Ok((ifindex, cell))
        });
        Ok(Self {
            devices: Arc::new(cells.collect::<Result<_, Error>>()?),
        })
    }

    /// Leaves frames of the vxlan device `ifindex` that are longer than `bytes` (Ethernet header and tags included) to the
    /// kernel. A store, no system call; a device that is not in the plan has no frames here.
    pub fn set(&self, ifindex: u32, bytes: u32) {
        for (_, cell) in self.devices.iter().filter(|(of, _)| *of == ifindex) {
            cell.store(0, bytes.into());
        }
    }
}
