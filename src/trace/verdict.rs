//! A traced frame, as it is told: text and JSON come from the same value.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::headers::sent_to;
use super::{At, Counter, Fate, Outcome, Step, Tracer};

/// Bytes a line of a dump.
const LINE: usize = 16;

/// What would happen to a frame. Field names are keys of `vxgate trace --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trace {
    /// The number of the frame in its recording, counted from 1.
    pub packet: Option<u64>,
    /// The port that it comes in by.
    pub port: String,
    /// `underlay` or `access`.
    pub role: String,
    /// Its bytes, in hexadecimal digits.
    pub frame: String,
    /// What it meets on its way.
    pub steps: Vec<Step>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The counters that move, that of the verdict first.
    pub counters: Vec<Counter>,
    /// What is handed on: once, or a copy to each VTEP.
    pub sent: Vec<SentFrame>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// `forward`, `drop` or `pass`: handed on, dead, or left to the kernel.
    pub fate: String,
    /// Why, where it is not handed on: the metric label.
    pub reason: Option<String>,
    /// The kernel's name for the same.
    pub kernel_name: Option<String>,
    /// What that means.
    pub meaning: Option<String>,
    /// What to do about it.
    pub action: Option<String>,
}

/// A frame that is handed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SentFrame {
    /// The port by which it leaves.
    pub port: String,
    /// The VTEP that it is sent to.
    pub vtep: Option<IpAddr>,
    /// The UDP port there.
    pub udp_port: Option<u16>,
    /// The VNI that it has on the wire.
    pub vni: Option<u32>,
    /// The mark that it has on a device with the Group Policy extension.
    pub mark: Option<u32>,
    /// Its bytes, in hexadecimal digits.
    pub frame: String,
}

impl Verdict {
    fn of(fate: Fate) -> Self {
        let (kernel_name, meaning, action) = match fate {
            Fate::Pass(reason) => (None, Some(reason.help()), None),
            Fate::Drop(reason) => {
                let name = Some(reason.kernel_name()).filter(|name| *name != "-");
                (name, Some(reason.help()), Some(reason.action()))
            }
            Fate::Forward => (None, None, None),
        };
        Self {
            fate: fate.label().to_owned(),
            reason: fate.reason().map(str::to_owned),
            kernel_name: kernel_name.map(str::to_owned),
            meaning: meaning.map(str::to_owned),
            action: action.map(str::to_owned),
        }
    }
}

impl Tracer {
    /// What would happen to a frame that comes in at a port, as [`Tracer::judge`] finds, explained.
    pub fn trace(&mut self, at: At, frame: &[u8], mark: u32) -> Trace {
        let outcome = self.judge(at, frame, mark);
        Trace {
            packet: None,
            port: self.name(at).to_owned(),
            role: match at {
                At::Underlay(_) => "underlay",
                At::Access(_) => "access",
            }
            .to_owned(),
            frame: hex(frame),
            steps: self.steps(at, frame, &outcome),
            verdict: Verdict::of(outcome.fate),
            counters: self.counters(at, &outcome),
            sent: self.sent(&outcome),
            notes: self.notes(at),
        }
    }

    fn sent(&self, outcome: &Outcome) -> Vec<SentFrame> {
        let frames = outcome.sent.iter().map(|sent| {
            let to = match sent.at {
                At::Underlay(_) => sent_to(&sent.bytes),
                At::Access(_) => None,
            };
            SentFrame {
                port: self.name(sent.at).to_owned(),
                vtep: to.map(|(addr, ..)| addr),
                udp_port: to.map(|(_, port, _)| port),
                vni: to.map(|(.., vni)| vni),
                mark: sent.mark,
                frame: hex(&sent.bytes),
            }
        });
        frames.collect()
    }

    /// What a verdict does not show.
    fn notes(&self, at: At) -> Vec<String> {
        let mut notes = Vec::new();
        let own = env!("CARGO_PKG_VERSION");
        if self.state.version != own {
            notes.push(format!(
                "the state is of vxgate {}, and this is {own}: the daemon may judge otherwise",
                self.state.version
            ));
        }
        if matches!(at, At::Underlay(_)) {
            let hung = self.state.workers.iter().filter(|worker| !worker.alive);
            let some_live = self.state.workers.iter().any(|worker| worker.alive);
            notes.extend(hung.filter(|_| some_live).map(|worker| {
                format!(
                    "worker {} stores no heartbeat: what comes in by its queues is left to the kernel",
                    worker.worker
                )
            }));
        }
        notes
    }
}

impl Trace {
    /// One line: for each frame of a recording.
    pub fn line(&self) -> String {
        let number = self
            .packet
            .map_or_else(String::new, |number| format!("{number} "));
        let rx = self.steps.first().map_or("", |step| step.what.as_str());
        let verdict = &self.verdict;
        let reason = verdict.reason.as_deref().unwrap_or_default();
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(" {reason}")
        };
        format!("{number}{}{reason}  {rx}\n", verdict.fate)
    }

    /// The bytes that come in and those that leave, as `xxd` writes them.
    pub fn bytes(&self) -> String {
        let mut text = format!("in {}\n{}", self.port, dump(&self.frame));
        for sent in &self.sent {
            text.push_str(&format!("out {}\n{}", sent.port, dump(&sent.frame)));
        }
        text
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.packet {
            writeln!(f, "packet {number}")?;
        }
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:>2} {step}")?;
        }
        let verdict = &self.verdict;
        write!(f, "VERDICT {}", verdict.fate)?;
        if let Some(reason) = &verdict.reason {
            write!(f, " {reason}")?;
        }
        if let Some(name) = &verdict.kernel_name {
            write!(f, " (the kernel: {name})")?;
        }
        writeln!(f)?;
        for (label, text) in [("why", &verdict.meaning), ("do", &verdict.action)] {
            if let Some(text) = text {
                writeln!(f, "  {label:<8} {text}")?;
            }
        }
        for (place, counter) in self.counters.iter().enumerate() {
            let label = if place == 0 { "counter" } else { "" };
            writeln!(f, "  {label:<8} {counter}")?;
        }
        for note in &self.notes {
            writeln!(f, "  {:<8} {note}", "note")?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines of an offset and sixteen bytes.
fn dump(digits: &str) -> String {
    let bytes: Vec<_> = digits
        .as_bytes()
        .chunks(2)
        .map(String::from_utf8_lossy)
        .collect();
    let lines = bytes.chunks(LINE).enumerate();
    lines
        .map(|(number, line)| format!("  {:04x}: {}\n", number * LINE, line.join(" ")))
        .collect()
}
