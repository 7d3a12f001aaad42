//! The line of a vxlan device.

use std::fmt;

use crate::gateway::{DeviceState, SuperframesState};

pub(super) struct DeviceLine<'a>(pub &'a DeviceState);

impl fmt::Display for DeviceLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.0;
        write!(
            f,
            "{}  VNI {}  UDP {}",
            device.name, device.vni, device.port
        )?;
        if let Some(local) = device.local {
            write!(f, "  VTEP {local}")?;
        }
        if let Some(underlay) = &device.underlay {
            write!(f, " on {underlay}")?;
        }
        write!(f, "  MTU {}  ", device.mtu)?;
        if let Some(refused) = &device.refused {
            return write!(
                f,
                "left to the kernel: {} ({})",
                refused.attribute, refused.why
            );
        }
        if !device.taken_over {
            return write!(f, "left to the kernel for now");
        }
        write!(f, "taken over")?;
        if let Some(access) = &device.access {
            write!(f, " through {}/{}", access.kernel_side, access.worker_side)?;
        }
        if let Some(superframes) = &device.superframes {
            write!(f, "{}", SuperframesWords(superframes))?;
        }
        write!(
            f,
            ", {} FDB entries, {} flood",
            device.fdb_entries, device.flood_entries
        )?;
        if device.kernel_entries > 0 {
            let keeps = &device.kernel_keeps;
            write!(
                f,
                ", {} of them the kernel's: it keeps {keeps}",
                device.kernel_entries
            )?;
        }
        Ok(())
    }
}

struct SuperframesWords<'a>(&'a SuperframesState);

impl fmt::Display for SuperframesWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.access_tap, &self.0.wire_tap, &self.0.why_not) {
            (Some(access), Some(wire), _) => {
                write!(f, ", superframes by {access} and {wire}")
            }
            (Some(access), None, _) => write!(f, ", superframes by {access}, cut here"),
            (_, _, Some(why)) => write!(f, ", no superframes ({why})"),
            _ => Ok(()),
        }
    }
}
