//! The lines of a port: how it is served, and what became of its frames.

use std::fmt;

use super::balance::{counted, total, verdict};
use crate::gateway::PortState;
use crate::stats::DropReason;

/// Columns of the screen that words of explanation may fill.
const COLUMNS: usize = 118;

pub(super) struct PortLines<'a>(pub &'a PortState);

impl fmt::Display for PortLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0;
        let copy = if port.zero_copy { "zero-copy" } else { "copy" };
        write!(
            f,
            "  port      {} ({})  XDP {} {copy}, {} queue{}",
            port.name,
            port.role,
            port.xdp_mode,
            port.queues,
            if port.queues == 1 { "" } else { "s" }
        )?;
        if port.role == "underlay" {
            let node = port.numa_node.map(|node| node.to_string());
            write!(f, ", NUMA node {}", node.as_deref().unwrap_or("none"))?;
        }
        match &port.why_not_better {
            Some(why) => writeln!(f, "; not better: {why}")?,
            None => writeln!(f)?,
        }
        if let Some(by) = &port.outer_checksums {
            writeln!(f, "            outer checksums: by the {by}")?;
        }
        if let Some(way) = &port.superframes_leave {
            let why = port.why_cut.as_ref();
            let why = why.map_or(String::new(), |why| format!(" ({why})"));
            writeln!(f, "            superframes leave: {way}{why}")?;
        }
        let verdict = verdict(port.balance_ok);
        writeln!(
            f,
            "            received {} = forwarded {} + passed {} + dropped {} + in flight {}   {verdict}",
            port.received,
            port.forwarded,
            total(&port.passed),
            total(&port.drops),
            port.in_flight
        )?;
        if port.superframes > 0 {
            writeln!(
                f,
                "            superframes {} of {} segments",
                port.superframes, port.segments
            )?;
        }
        if port.segments_lost > 0 {
            let lost = port.segments_lost;
            writeln!(f, "            segments lost behind their first: {lost}")?;
        }
        if port.strangers_delivered > 0 {
            let count = port.strangers_delivered;
            writeln!(f, "            forwarded, of unknown VTEPs: {count}")?;
        }
        for (reason, count) in counted(&port.passed) {
            writeln!(f, "            passed {count} {reason}")?;
        }
        for (reason, count) in counted(&port.drops) {
            writeln!(f, "{}", drop_line(reason, count))?;
        }
        Ok(())
    }
}

/// How many died of a reason, the kernel's name for it where it has one, and as much of the explanation as fits.
fn drop_line(label: &str, count: u64) -> String {
    let mut line = format!("            dropped {count} {label}");
    // A newer daemon may have reasons that this program does not know.
    let Some(reason) = DropReason::ALL.iter().find(|r| r.label() == label) else {
        return line;
    };
    if reason.kernel_name() != "-" {
        line.push_str(&format!(" (kernel {})", reason.kernel_name()));
    }
    line.push_str(": ");
    for word in reason.help().split_inclusive(' ') {
        if line.chars().count() + word.chars().count() >= COLUMNS {
            line.truncate(line.trim_end().len());
            line.push('…');
            break;
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::tests::port;
    use super::*;
    use crate::gateway::Observation;

    #[test]
    fn the_screen_tells_how_superframes_leave_and_why_they_are_cut() {
        let mut cut = port();
        cut.superframes_leave = Some("cut".into());
        cut.why_cut = Some("its sockets are zero-copy".into());
        (cut.superframes, cut.segments, cut.segments_lost) = (2, 90, 3);
        let mut whole = port();
        whole.superframes_leave = Some("wire-gso".into());
        let observation = Observation {
            ports: vec![cut, whole],
            ..Observation::default()
        };
        let text = Status::new(observation, 7).to_string();
        for line in [
            "superframes leave: cut (its sockets are zero-copy)\n",
            "superframes leave: wire-gso\n",
            "superframes 2 of 90 segments\n",
            "segments lost behind their first: 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn the_screen_tells_where_a_device_is_and_who_finishes_its_checksums() {
        let mut hardware = port();
        hardware.outer_checksums = Some("device".into());
        hardware.numa_node = Some(1);
        let mut virtual_one = port();
        virtual_one.outer_checksums = Some("worker".into());
        let mut access = port();
        access.role = "access".into();
        let text = |port: &PortState| PortLines(port).to_string();
        assert!(text(&hardware).contains("1 queue, NUMA node 1; not better:"));
        assert!(text(&hardware).contains("outer checksums: by the device\n"));
        assert!(text(&virtual_one).contains("1 queue, NUMA node none; not better:"));
        assert!(text(&virtual_one).contains("outer checksums: by the worker\n"));
        assert!(!text(&access).contains("NUMA") && !text(&access).contains("outer checksums"));
    }

    #[test]
    fn the_screen_tells_the_balance_and_every_reason_that_is_not_zero() {
        let observation = Observation {
            ports: vec![port()],
            ..Observation::default()
        };
        let text = Status::new(observation, 7).to_string();
        assert!(text.contains("HEALTHY"), "{text}");
        assert!(
            text.contains(
                "received 10 = forwarded 6 + passed 3 + dropped 1 + in flight 0   balance OK"
            ),
            "{text}"
        );
        assert!(
            text.contains("dropped 1 no_i_flag") && text.contains("passed 3 not_ours"),
            "{text}"
        );
        assert!(!text.contains("oversize"), "{text}");
    }

    #[test]
    fn a_drop_is_told_with_the_kernels_name_and_what_it_means() {
        let line = drop_line("no_i_flag", 7);
        assert_eq!(
            line.trim_start(),
            "dropped 7 no_i_flag (kernel VXLAN_INVALID_HDR): The I flag is clear: not a valid VNI (RFC 7348 §5)."
        );
        assert!(drop_line("unknown_peer", 1).contains("unknown_peer: The outer source"));
        for reason in DropReason::ALL {
            let line = drop_line(reason.label(), 123_456_789);
            assert!(line.chars().count() <= COLUMNS, "{line}");
            let whole = line.ends_with('.') || line.ends_with('…');
            assert!(whole, "{line}");
        }
        let future = drop_line("of_the_future", 1);
        assert_eq!(future.trim_start(), "dropped 1 of_the_future");
    }
}
