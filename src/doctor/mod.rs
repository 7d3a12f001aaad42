//! `vxgate doctor`: what is wrong with a node, why, and what mends it. With a running daemon and without.
//!
//! ```text
//!   kernel, /proc, driver, control socket ── gather ──▶ Facts ── checks ──▶ Findings ──▶ Report ──▶ text, JSON
//!                                                         ▲                    │
//!                                                         └──── mend ◀─────────┘  with --fix: the commands that it names
//! ```
//!
//! Gathering touches nothing, and judges nothing: it asks what `vxgate run` would ask, by the same code, and what a mirror
//! would know. Judging is a pure function of the facts, one file a subject, tried on facts that were written down. What a
//! finding can be mended by is a command that an operator could type; `--fix` types it, says so, and looks again.
//!
//! What it does not do: send frames, load programs, open sockets on queues, look into pods. What only root may know is left
//! out for others.

mod checks;
mod facts;
mod finding;
#[cfg(test)]
mod healthy;
mod mend;
mod report;

use std::path::Path;

use serde_json::Value;

pub use facts::{AccessEnd, Classifier, Daemon, Facts, GatherError, Kernel, Overlay, Process};
pub use facts::{Sysctls, Underlay};
pub use finding::{Finding, Fix, Verdict};
pub use report::{Counts, Mended, Report, SCHEMA};

/// The JSON Schema of a report.
const REPORT_SCHEMA: &str = include_str!("schema.json");

/// Looks at everything. `socket` is where the daemon would listen.
///
/// # Errors
/// When the kernel does not tell of its devices.
pub fn examine(socket: &Path) -> Result<Report, GatherError> {
    let facts = Facts::gather(socket.to_owned())?;
    Ok(Report::new(checks::all(&facts), Vec::new()))
}

/// Looks at everything, runs what mends it, and looks again.
///
/// # Errors
/// As [`examine`].
pub fn mend(socket: &Path) -> Result<Report, GatherError> {
    let before = examine(socket)?;
    let mends = before.mends();
    if mends.is_empty() {
        return Ok(before);
    }
    let mended = mends.into_iter().map(mend::run).collect();
    let facts = Facts::gather(socket.to_owned())?;
    Ok(Report::new(checks::all(&facts), mended))
}

/// The JSON Schema of what `--json` prints.
///
/// # Errors
/// When the schema that is built in is no JSON, which a test rules out.
pub fn schema() -> serde_json::Result<Value> {
    serde_json::from_str(REPORT_SCHEMA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn reports_are_as_their_schema_says() {
        let mut compiler = boon::Compiler::new();
        compiler
            .add_resource("doctor.json", schema().unwrap())
            .unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("doctor.json", &mut schemas).unwrap();
        let mut broken = healthy::served();
        broken.overlays[0].found.device.mtu = 1500;
        broken.sysctls.ip_forward = Some(false);
        broken.underlays[0].link.running = false;
        let run = Mended {
            command: vec!["true".into()],
            error: Some("x".into()),
        };
        for (facts, mended) in [
            (healthy::node(), Vec::new()),
            (healthy::served(), Vec::new()),
            (broken, vec![run]),
        ] {
            let report = Report::new(checks::all(&facts), mended);
            let json = serde_json::to_value(&report).unwrap();
            if let Err(error) = schemas.validate(&json, index) {
                panic!("{error}\n{json:#}");
            }
            let mut wrong = json.clone();
            wrong["findings"][0]["result"] = "fine".into();
            assert!(schemas.validate(&wrong, index).is_err());
            assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
        }
    }

    #[test]
    fn every_finding_that_something_is_wrong_says_why_and_what_to_do() {
        let mut broken = healthy::served();
        broken.overlays[0].found.device.mtu = 1500;
        broken.overlays[0].fdb.clear();
        broken.underlays[0].link.up = false;
        broken.sysctls.ip_forward = Some(false);
        broken.kernel.tcx = Some(false);
        broken.daemon = Daemon::Stale;
        let bad: Vec<_> = checks::all(&broken)
            .into_iter()
            .filter(|finding| finding.result >= Verdict::Warning)
            .collect();
        assert!(bad.len() >= 6, "{bad:?}");
        for finding in bad {
            assert!(
                finding.why.is_some() && finding.fix.is_some(),
                "{finding:?}"
            );
            let code = finding.code.as_deref().and_then(Fault::from_code);
            assert!(code.is_some(), "{finding:?}");
        }
    }
}
