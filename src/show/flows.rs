//! `vxgate flows`: the flows that the direct path knows, and why those that do not go it do not. Text and JSON come from the
//! same value.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::gateway::{FlowState, FlowsState};

/// The answer to `flows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flows {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether the daemon was asked for a direct path.
    pub direct: bool,
    /// Everything else.
    #[serde(flatten)]
    pub state: FlowsState,
}

impl Flows {
    /// What a gateway knows; none without a direct path.
    pub fn new(state: Option<FlowsState>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            direct: state.is_some(),
            state: state.unwrap_or_default(),
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.direct {
            return writeln!(
                f,
                "no direct path: vxgate runs without --direct flows or always, and knows no flows"
            );
        }
        let state = &self.state;
        for (what, why) in [
            ("no direct path", &state.why_not),
            ("no direct path for TCP", &state.why_not_tcp),
            ("none express", &state.why_not_express),
        ] {
            if let Some(why) = why {
                writeln!(f, "{what}: {why}")?;
            }
        }
        writeln!(
            f,
            "{} flows known, {} express, {} in the ring gear{}",
            state.known,
            state.express,
            state.ring,
            match state.mode.as_deref() {
                Some("always") => " (always: whatever filters say)",
                _ => "",
            }
        )?;
        let widths = Widths::of(&state.flows);
        if !state.flows.is_empty() {
            let head = ["POD", "REMOTE", "VTEP"];
            writeln!(
                f,
                "{:<5} {} {:<11} {:>9} {:>12} {:>12}  WHY NOT HIGHER",
                "PROTO",
                widths.line(head.map(str::to_owned)),
                "GEAR",
                "AGE",
                "OUT",
                "IN"
            )?;
        }
        for flow in &state.flows {
            writeln!(f, "{}", FlowLine(flow, &widths))?;
        }
        match state.known.checked_sub(state.flows.len() as u64) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(f, "and {more} more"),
        }
    }
}

/// Of the columns with addresses: those of IPv4 fit without a look at them.
struct Widths([usize; 3]);

impl Widths {
    fn of(flows: &[FlowState]) -> Self {
        let lens = flows
            .iter()
            .map(|flow| addresses(flow).map(|text| text.len()));
        let longest = |[a, b, c]: [usize; 3], [d, e, f]: [usize; 3]| [a.max(d), b.max(e), c.max(f)];
        Self(lens.fold([21, 21, 15], longest))
    }

    fn line(&self, [pod, remote, vtep]: [String; 3]) -> String {
        let Self([one, two, three]) = *self;
        format!("{pod:<one$} {remote:<two$} {vtep:<three$}")
    }
}

fn addresses(flow: &FlowState) -> [String; 3] {
    let vtep = flow.vtep.map(|vtep| vtep.to_string());
    [
        flow.local.to_string(),
        flow.remote.to_string(),
        vtep.unwrap_or_else(|| "-".to_owned()),
    ]
}

struct FlowLine<'a>(&'a FlowState, &'a Widths);

impl fmt::Display for FlowLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(flow, widths) = *self;
        let (out, into) = flow.frames();
        let age = format!("{}.{} s", flow.age_ms / 1000, flow.age_ms % 1000 / 100);
        write!(
            f,
            "{:<5} {} {:<11} {:>9} {:>12} {:>12}  {}",
            flow.protocol,
            widths.line(addresses(flow)),
            flow.gear,
            age,
            out,
            into,
            flow.why_not_higher.as_deref().unwrap_or("-")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> FlowState {
        FlowState {
            protocol: "udp".into(),
            local: "10.244.0.14:40000".parse().unwrap(),
            remote: "10.244.1.14:53".parse().unwrap(),
            device: Some("veth1".into()),
            vtep: Some([10, 0, 0, 11].into()),
            gear: "express".into(),
            ways: Some("both".into()),
            why_not_higher: None,
            age_ms: 12_345,
            out_frames: 1000,
            out_bytes: 64_000,
            in_frames: 999,
            in_bytes: 63_936,
            ring_out_frames: 0,
            ring_out_bytes: 0,
            ring_in_frames: 0,
            ring_in_bytes: 0,
        }
    }

    #[test]
    fn a_flow_is_a_line_and_survives_the_round_trip() {
        let waits = FlowState {
            gear: "transparent".into(),
            ways: None,
            why_not_higher: Some("not seen leaving".into()),
            vtep: None,
            ..flow()
        };
        let bulk = FlowState {
            gear: "ring".into(),
            why_not_higher: Some("its pod sends superframes".into()),
            ring_out_frames: 44,
            ..flow()
        };
        let flows = Flows::new(Some(FlowsState {
            why_not_tcp: Some("conntrack is strict".into()),
            why_not_express: Some("not on this kernel".into()),
            known: 6,
            express: 1,
            ring: 1,
            flows: vec![flow(), bulk, waits],
            ..FlowsState::default()
        }));
        let text = flows.to_string();
        for line in [
            "no direct path for TCP: conntrack is strict\nnone express: not on this kernel\n",
            "6 flows known, 1 express, 1 in the ring gear\n",
            "udp   10.244.0.14:40000     10.244.1.14:53        10.0.0.11       express        12.3 s         1000          999  -\n",
            "10.0.0.11       ring           12.3 s         1044          999  its pod sends superframes\n",
            "  not seen leaving\n",
            "and 3 more\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        let json = serde_json::to_value(&flows).unwrap();
        assert_eq!(json["flows"][0]["remote"], "10.244.1.14:53");
        assert_eq!(serde_json::from_value::<Flows>(json).unwrap(), flows);
    }

    #[test]
    fn columns_are_as_wide_as_the_longest_address() {
        let six = FlowState {
            local: "[fd00:10:244::14]:40000".parse().unwrap(),
            remote: "[fd00:10:244:1:1234:5678:9abc:def0]:53".parse().unwrap(),
            vtep: Some("fd00:a::11".parse().unwrap()),
            ..flow()
        };
        let flows = Flows::new(Some(FlowsState {
            known: 2,
            flows: vec![flow(), six],
            ..FlowsState::default()
        }));
        let text = flows.to_string();
        let columns = |line: &str| line.find("express").or(line.find("GEAR"));
        let places: Vec<_> = text.lines().skip(1).map(columns).collect();
        assert_eq!(places.len(), 3);
        assert!(
            places[0].is_some() && places.iter().all(|at| *at == places[0]),
            "{text}"
        );
        let json = serde_json::to_value(&flows).unwrap();
        assert_eq!(json["flows"][1]["local"], "[fd00:10:244::14]:40000");
        assert_eq!(serde_json::from_value::<Flows>(json).unwrap(), flows);
    }

    #[test]
    fn without_a_direct_path_that_is_said() {
        let text = Flows::new(None).to_string();
        assert!(text.contains("--direct flows"), "{text}");
    }
}
