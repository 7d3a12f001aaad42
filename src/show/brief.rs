//! `vxgate status --brief`: health in one line, for prompts, scripts and whoever looks at many nodes.

use std::fmt;

use super::status::Status;

/// One line of a status.
#[derive(Debug, Clone, Copy)]
pub struct Brief<'a>(pub &'a Status);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = &self.0.observation;
        let devices = seen.devices.iter().filter(|device| device.taken_over);
        let alive = seen.workers.iter().filter(|worker| worker.alive);
        let resolved = seen.vteps.iter().filter(|vtep| vtep.state == "resolved");
        let drops: u64 = seen.drops.iter().map(|drop| drop.last_minute).sum();
        write!(
            f,
            "{}  devices {}/{}  workers {}/{}  VTEPs {}/{}  drops in the last minute {drops}",
            self.0.state,
            devices.count(),
            seen.devices.len(),
            alive.count(),
            seen.workers.len(),
            resolved.count(),
            seen.vteps.len(),
        )?;
        if let Some(reason) = seen.reasons.first() {
            write!(f, "  {reason}")?;
        }
        match seen.reasons.len() {
            0 | 1 => Ok(()),
            all => write!(f, " (and {} more)", all - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{DropState, Observation};

    #[test]
    fn it_is_one_line_that_begins_with_the_verdict() {
        let mut observation = Observation::default();
        let drop = DropState {
            port: "eth1".into(),
            direction: "rx".into(),
            reason: "no_i_flag".into(),
            count: 90,
            last_age_ms: 0,
            last_minute: 4,
            last_10_minutes: 70,
            last_hour: 90,
        };
        observation.drops = vec![drop.clone(), drop];
        let line =
            |observation: &Observation| Brief(&Status::new(observation.clone(), 7)).to_string();
        assert_eq!(
            line(&observation),
            "HEALTHY  devices 0/0  workers 0/0  VTEPs 0/0  drops in the last minute 8"
        );
        observation.reasons = vec!["worker 1 hangs".into(), "eth1 is down".into()];
        assert_eq!(
            line(&observation),
            "DEGRADED  devices 0/0  workers 0/0  VTEPs 0/0  drops in the last minute 8  worker 1 hangs (and 1 more)"
        );
    }
}
