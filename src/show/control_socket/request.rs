//! What is asked for on the control socket, and what is answered: a line of JSON each.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::capture::CaptureRequest;
use super::super::{Action, Done, Look, Seen, Status};
use super::error::Refused;
use crate::fault::{Fault, Report};

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub request: Asked,
}

/// What may be asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Asked {
    Look(Look),
    Act(Action),
    Watch(Watch),
}

/// What may be watched.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Watch {
    Capture(CaptureRequest),
}

/// An answer: the thing asked for, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer<T> {
    Error {
        error: String,
        /// The same for whoever prints it: each with its code, why, and what to do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reports: Vec<Report>,
    },
    Done(T),
}

/// What is said to whoever asks for nothing that there is.
pub(super) fn no_request(why: &str) -> Answer<Done> {
    Answer::Error {
        error: format!("not a request: {why}"),
        reports: Vec::new(),
    }
}

/// What is said to whoever may look only.
pub(super) fn denied() -> Report {
    let fault = Fault::RequestDenied;
    Report {
        cause: fault.cause().into(),
        fix: fault.fix().into(),
        ..Report::new(
            fault,
            "this is for root and for the user that vxgate runs as".into(),
        )
    }
}

/// What is said to whoever asks for the whole state while others are being told it.
pub(super) fn busy(others: usize) -> Report {
    let fault = Fault::StateBusy;
    Report {
        cause: fault.cause().into(),
        fix: fault.fix().into(),
        ..Report::new(fault, format!("{others} others are being told the state"))
    }
}

/// The answer to what a client wrote: one line of JSON. `look` and `act` are asked only when the client asks for that.
///
/// # Errors
/// When the answer cannot be written as JSON, which none of ours brings about.
pub fn answer_to(
    line: &[u8],
    look: impl FnOnce(Look) -> Result<Seen, Vec<Report>>,
    act: impl FnOnce(Action) -> Result<Done, Vec<Report>>,
) -> io::Result<Vec<u8>> {
    match read_request(line) {
        Ok(Asked::Look(what)) => written(&Answer::from(look(what))),
        Ok(Asked::Act(action)) => written(&Answer::from(act(action))),
        // Whoever may capture is served elsewhere.
        Ok(Asked::Watch(_)) => written(&Answer::<Done>::from(Err(vec![denied()]))),
        Err(why) => written(&no_request(&why)),
    }
}

impl<T> From<Result<T, Vec<Report>>> for Answer<T> {
    fn from(outcome: Result<T, Vec<Report>>) -> Self {
        match outcome {
            Ok(done) => Self::Done(done),
            Err(reports) => {
                let words: Vec<_> = reports.iter().map(|report| report.what.as_str()).collect();
                Self::Error {
                    error: words.join("; "),
                    reports,
                }
            }
        }
    }
}

/// An answer, or a request, as a line of JSON.
pub(super) fn written(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What a line asks for, or why it asks for nothing.
pub(super) fn read_request(line: &[u8]) -> Result<Asked, String> {
    // A list of a request's values would do for serde.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("no JSON object".into());
    }
    let request: Request = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    Ok(request.request)
}

/// What a daemon answered.
///
/// # Errors
/// Why it is no status: the daemon's own words, or what is wrong with the JSON.
pub fn read_answer(bytes: &[u8]) -> Result<Status, String> {
    read(bytes)?.map_err(|refused| refused.words)
}

/// What a daemon answered, or why not; an error when it is neither.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Result<T, Refused>, String> {
    match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
        Answer::Done(done) => Ok(Ok(done)),
        Answer::Error { error, reports } => Ok(Err(Refused {
            words: error,
            reports,
        })),
    }
}
