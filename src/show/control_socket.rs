//! The control socket: a UNIX stream, one JSON request a line, one JSON answer, then closed; but for a capture, whose stream follows
//! the answer (`capture/`).
//!
//! Everybody who may connect may look. What changes the daemon is for root and for the daemon's own user, and is done on a
//! thread of its own: it may take a while, and looking goes on meanwhile.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::capture::{self, CaptureBegun, CaptureRequest, CaptureStream};
use super::unix_socket::{self, BindError};
use super::{Action, Done, Look, Seen, Status};
use crate::fault::{Explained, Fault, Report};
use crate::gateway::{Captures, peer_may_change, peer_pid};
use crate::heap;

/// A request is one short line; more than this is not one.
const REQUEST_LEN_MAX: u64 = 4096;
/// Of an answer of so many bytes, the memory is given back.
const LONG: usize = 1 << 20;
/// Bytes of a capture that are read at once.
const CAPTURE_CHUNK: usize = 1 << 18;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait until something is done: another takeover may take some seconds.
const PATIENCE_ORDER: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    request: Asked,
}

/// What may be asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Asked {
    Look(Look),
    Act(Action),
    Watch(Watch),
}

/// What may be watched.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Watch {
    Capture(CaptureRequest),
}

/// An answer: the thing asked for, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Error {
        error: String,
        /// The same for whoever prints it: each with its code, why, and what to do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reports: Vec<Report>,
    },
    Done(T),
}

/// Why a daemon did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In its own words.
    pub words: String,
    /// All that it has to say; empty when it did not understand.
    pub reports: Vec<Report>,
}

/// What can go wrong with the socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there already.
    #[error("control socket {path} is served by a running vxgate{holder}")]
    InUse {
        /// Where.
        path: PathBuf,
        /// What the one that answers says of itself.
        holder: String,
    },
    /// Something else has the name.
    #[error("cannot make control socket {0}: there is a file of that name that is no socket")]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("cannot make control socket {path}: {source}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no vxgate answers on {path}: {source}")]
    NotRunning {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It did not do what it was asked for.
    #[error("vxgate on {path} refuses: {}", .refused.words)]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        refused: Refused,
    },
    /// A process has the socket, and does not answer.
    #[error("vxgate on {path}{} has not answered for {waited_s} s", pid_words(*pid))]
    Silent {
        /// Where.
        path: PathBuf,
        /// The process, where the kernel tells.
        pid: Option<i32>,
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// The peer answered something else.
    #[error("vxgate on {path} gave no valid answer: {why}")]
    BadAnswer {
        /// Where.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

fn pid_words(pid: Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", pid {pid},"))
}

impl Explained for SocketError {
    fn fault(&self) -> Fault {
        match self {
            Self::InUse { .. } => Fault::SocketServed,
            Self::NoSocket(_) => Fault::SocketNameTaken,
            Self::Bind { .. } => Fault::SocketNotMade,
            Self::NotRunning { .. } => Fault::DaemonSilent,
            Self::Silent { .. } => Fault::DaemonHangs,
            Self::BadAnswer { .. } => Fault::AnswerInvalid,
            Self::Refused { refused, .. } => {
                let mut reports = refused.reports.iter();
                reports
                    .next()
                    .map_or(Fault::AnswerInvalid, |report| report.fault)
            }
        }
    }

    /// Of a refusal, what the daemon has to say: as if it had been said here.
    fn reports(&self) -> Vec<Report> {
        match self {
            Self::Refused { refused, .. } if !refused.reports.is_empty() => refused.reports.clone(),
            _ => vec![Report::whole(self)],
        }
    }
}

/// A bound socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    captures: Captures,
}

impl ControlSocket {
    /// Binds the path. A file that a dead process left is replaced.
    ///
    /// # Errors
    /// When another daemon answers there, or the file cannot be made.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let listener = unix_socket::bind(path).map_err(|error| match error {
            BindError::Served => SocketError::InUse {
                path: path.to_owned(),
                holder: holder(path),
            },
            BindError::NoSocket => SocketError::NoSocket(path.to_owned()),
            BindError::Io(source) => SocketError::Bind {
                path: path.to_owned(),
                source,
            },
        })?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            captures: Captures::default(),
        })
    }

    /// Lets those who ask capture by this handle.
    #[must_use]
    pub fn capturing(mut self, captures: Captures) -> Self {
        self.captures = captures;
        self
    }

    /// Answers requests until the process ends, on a thread of its own. `look` looks anew for each request, or says why
    /// it cannot; `act` does what
    /// is asked for, or says why not.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn serve(
        &self,
        look: impl Fn(Look) -> Result<Seen, Vec<Report>> + Send + 'static,
        act: impl Fn(Action) -> Result<Done, Vec<Report>> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let act: Arc<Act> = Arc::new(act);
        let captures = self.captures.clone();
        std::thread::Builder::new()
            .name("vxgate-control-socket".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => {
                            if let Err(error) = serve_one(stream, &look, &act, &captures) {
                                tracing::debug!(%error, "a control client went away");
                            }
                        }
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept on the control socket");
                            std::thread::sleep(Duration::from_millis(100));
                        }
                    }
                }
            })?;
        Ok(())
    }
}

/// Does what a client asks for.
type Act = dyn Fn(Action) -> Result<Done, Vec<Report>> + Send + Sync;

impl Drop for ControlSocket {
    fn drop(&mut self) {
        unix_socket::unbind(&self.path);
    }
}

/// Who answers on the path, in words.
fn holder(path: &Path) -> String {
    let Ok(status) = ask(path) else {
        return String::new();
    };
    let carried = status
        .observation
        .devices
        .iter()
        .filter(|device| device.taken_over);
    let names: Vec<_> = carried.map(|device| device.name.as_str()).collect();
    format!(
        ", pid {}, which carries {}",
        status.pid,
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        }
    )
}

fn serve_one(
    stream: UnixStream,
    look: &impl Fn(Look) -> Result<Seen, Vec<Report>>,
    act: &Arc<Act>,
    captures: &Captures,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new((&stream).take(REQUEST_LEN_MAX)).read_until(b'\n', &mut line)?;
    match read_request(&line) {
        Ok(Asked::Act(action)) if action.changes() && peer_may_change(&stream) => {
            let act = Arc::clone(act);
            let obey = move || {
                let answer = written(&Answer::from(act(action)));
                if let Err(error) = answer.and_then(|bytes| (&stream).write_all(&bytes)) {
                    tracing::debug!(%error, "who asked did not wait for the answer");
                }
            };
            let thread = std::thread::Builder::new().name("vxgate-order".into());
            thread.spawn(obey).map(drop)
        }
        Ok(Asked::Watch(Watch::Capture(request))) if peer_may_change(&stream) => {
            let captures = captures.clone();
            let show = move || {
                if let Err(error) = capture(&stream, request, &captures) {
                    tracing::debug!(%error, "who captured went away");
                }
            };
            let thread = std::thread::Builder::new().name("vxgate-capture".into());
            thread.spawn(show).map(drop)
        }
        Ok(Asked::Look(Look::State)) => {
            let answer = Answer::from(look(Look::State));
            let tell = move || {
                if let Err(error) = write_piecemeal(&answer, &stream) {
                    tracing::debug!(%error, "who asked for the state did not wait for all of it");
                }
            };
            // On a thread of its own: a table of a million entries takes a while, and a slow reader even longer.
            let thread = std::thread::Builder::new().name("vxgate-state".into());
            thread.spawn(tell).map(drop)
        }
        _ => {
            let act = |action: Action| {
                if action.changes() {
                    Err(vec![denied()])
                } else {
                    act(action)
                }
            };
            let answer = answer_to(&line, look, act)?;
            let is_long = answer.len() > LONG;
            let written = (&stream).write_all(&answer);
            if is_long {
                // It took several times as much to make it.
                drop(answer);
                heap::give_back();
            }
            written
        }
    }
}

/// Serves a capture until who asked for it wants no more, or goes away.
fn capture(stream: &UnixStream, request: CaptureRequest, captures: &Captures) -> io::Result<()> {
    let mut client = stream;
    let asked = match request.judge(peer_pid(stream)) {
        Ok(asked) => asked,
        Err(why) => return client.write_all(&written(&no_request(&why))?),
    };
    match captures.start(asked) {
        Ok(capture) => {
            client.write_all(&written(&Answer::Done(CaptureBegun::new()))?)?;
            capture::stream(stream, capture)
        }
        Err(error) => {
            let answer: Answer<CaptureBegun> = Answer::Error {
                error: error.to_string(),
                reports: error.reports(),
            };
            client.write_all(&written(&answer)?)
        }
    }
}

fn no_request(why: &str) -> Answer<Done> {
    Answer::Error {
        error: format!("not a request: {why}"),
        reports: Vec::new(),
    }
}

/// Writes an answer piece by piece: there is never all of its text.
fn write_piecemeal(answer: &impl Serialize, stream: &UnixStream) -> io::Result<()> {
    let mut out = BufWriter::new(stream);
    serde_json::to_writer(&mut out, answer).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// What is said to whoever may look only.
fn denied() -> Report {
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

fn written(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read_request(line: &[u8]) -> Result<Asked, String> {
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
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Result<T, Refused>, String> {
    match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
        Answer::Done(done) => Ok(Ok(done)),
        Answer::Error { error, reports } => Ok(Err(Refused {
            words: error,
            reports,
        })),
    }
}

/// Asks a running daemon for its status.
///
/// # Errors
/// When nobody answers, or not what was asked for.
pub fn ask(path: &Path) -> Result<Status, SocketError> {
    ask_within(path, PATIENCE)
}

/// Asks a running daemon for something else.
///
/// # Errors
/// As [`ask`].
pub fn ask_for<T: DeserializeOwned>(path: &Path, look: Look) -> Result<T, SocketError> {
    exchange(path, Asked::Look(look), PATIENCE)
}

/// As [`ask`], waiting for so long.
///
/// # Errors
/// As [`ask`].
pub fn ask_within(path: &Path, patience: Duration) -> Result<Status, SocketError> {
    exchange(path, Asked::Look(Look::Status), patience)
}

/// Tells a running daemon to do something, and waits until that is done.
///
/// # Errors
/// When nobody answers, or it does not do it.
pub fn order<T: DeserializeOwned>(path: &Path, action: Action) -> Result<T, SocketError> {
    exchange(path, Asked::Act(action), PATIENCE_ORDER)
}

/// Begins a capture.
///
/// # Errors
/// When nobody answers, or there is to be none.
pub fn capture_from(path: &Path, request: CaptureRequest) -> Result<CaptureStream, SocketError> {
    let request = Asked::Watch(Watch::Capture(request));
    let stream = asked(path, request, PATIENCE)?;
    let mut reader = BufReader::with_capacity(CAPTURE_CHUNK, stream);
    let mut line = Vec::new();
    let bytes = reader.read_until(b'\n', &mut line);
    bytes.map_err(|error| unread(path, reader.get_ref(), &error, PATIENCE))?;
    let begun = answered(path, &line)?;
    // Frames come when they come.
    let patient = reader.get_ref().set_read_timeout(None);
    patient.map_err(|source| SocketError::NotRunning {
        path: path.to_owned(),
        source,
    })?;
    Ok(CaptureStream::new(reader, begun))
}

/// Asks a running daemon for its state, as JSON: [`crate::state::State::parse`] reads it.
///
/// # Errors
/// When nobody answers.
pub fn ask_state(path: &Path) -> Result<Vec<u8>, SocketError> {
    let bytes = answer(path, Asked::Look(Look::State), PATIENCE_ORDER)?;
    // Millions of entries are not read here only to see that they are no error.
    if bytes.starts_with(b"{\"error\"")
        && let Ok(Err(refused)) = read::<serde::de::IgnoredAny>(&bytes)
    {
        return Err(SocketError::Refused {
            path: path.to_owned(),
            refused,
        });
    }
    Ok(bytes)
}

fn exchange<T: DeserializeOwned>(
    path: &Path,
    request: Asked,
    patience: Duration,
) -> Result<T, SocketError> {
    let bytes = answer(path, request, patience)?;
    answered(path, &bytes)
}

/// The bytes that the daemon answers with.
fn answer(path: &Path, request: Asked, patience: Duration) -> Result<Vec<u8>, SocketError> {
    let mut stream = asked(path, request, patience)?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|error| unread(path, &stream, &error, patience))?;
    Ok(bytes)
}

/// A connection on which something has been asked for.
fn asked(path: &Path, request: Asked, patience: Duration) -> Result<UnixStream, SocketError> {
    let not_running = |source| SocketError::NotRunning {
        path: path.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(path).map_err(not_running)?;
    stream
        .set_read_timeout(Some(patience))
        .map_err(not_running)?;
    let request = written(&Request { request }).map_err(|error| SocketError::BadAnswer {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    stream.write_all(&request).map_err(not_running)?;
    Ok(stream)
}

/// Why an answer could not be read.
fn unread(path: &Path, stream: &UnixStream, error: &io::Error, patience: Duration) -> SocketError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => SocketError::Silent {
            path,
            pid: peer_pid(stream),
            waited_s: patience.as_secs(),
        },
        _ => SocketError::BadAnswer {
            path,
            why: error.to_string(),
        },
    }
}

/// What was answered.
fn answered<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, SocketError> {
    let path = path.to_owned();
    match read(bytes) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(refused)) => Err(SocketError::Refused { path, refused }),
        Err(why) => Err(SocketError::BadAnswer { path, why }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::gateway::Observation;
    use crate::show::LogLevel;
    use crate::state::State;
    use crate::table::VtepId;
    use crate::wire::MacAddr;

    fn socket() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/vxgate.sock");
        (folder, path)
    }

    fn looked(look: Look) -> Result<Seen, Vec<Report>> {
        match look {
            Look::Status => {
                let status = Status::new(Observation::default(), 3);
                Ok(Seen::Status(Box::new(status)))
            }
            other => Err(vec![Report::new(
                Fault::KernelSilent,
                format!("does not see {other:?}"),
            )]),
        }
    }

    fn nothing(action: Action) -> Result<Done, Vec<Report>> {
        let what = format!("does not {action:?}");
        Err(vec![Report::new(Fault::DaemonStopping, what)])
    }

    #[test]
    fn what_is_done_is_answered_and_what_is_not_says_why_as_if_it_were_said_here() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        let level = |level: &str| LogLevel::new(level.into(), None);
        bound
            .serve(looked, move |action| match action {
                Action::LogLevel(Some(new)) => Ok(Done::LogLevel(level(&new))),
                Action::LogLevel(None) => Ok(Done::LogLevel(level("info"))),
                other => nothing(other),
            })
            .unwrap();
        let logged = |new: Option<&str>| {
            let action = Action::LogLevel(new.map(str::to_owned));
            order::<LogLevel>(&path, action).unwrap().level
        };
        assert_eq!(
            (logged(None), logged(Some("debug"))),
            ("info".into(), "debug".into())
        );
        let refused = order::<LogLevel>(&path, Action::Drain).unwrap_err();
        assert_eq!(refused.fault(), Fault::DaemonStopping);
        let [report] = <[Report; 1]>::try_from(refused.reports()).unwrap();
        assert_eq!(report.what, "does not Drain");
        assert_eq!(ask(&path).unwrap().uptime_s, 3);
    }

    #[test]
    fn a_state_of_a_hundred_thousand_entries_is_handed_over_while_others_are_answered() {
        let node = include_bytes!("../../tests/fuzz/corpus/state/node.json");
        let mut state = State::parse(node).unwrap();
        let entries = (0..100_000_u32).map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            (MacAddr([2, 0, a, b, c, d]), VtepId(number % 4).into())
        });
        state.segments[0].fdb = entries.collect();
        let (_folder, path) = socket();
        let told = state.clone();
        let bound = ControlSocket::bind(&path).unwrap();
        let look = move |what| match what {
            Look::State => Ok(Seen::State(Box::new(told.clone()))),
            other => looked(other),
        };
        bound.serve(look, nothing).unwrap();
        // One that asks and does not read.
        let mut slow = UnixStream::connect(&path).unwrap();
        slow.write_all(b"{\"request\":\"state\"}\n").unwrap();
        let read = State::parse(&ask_state(&path).unwrap()).unwrap();
        assert!(read == state);
        assert_eq!(ask(&path).unwrap().uptime_s, 3);
        let (snapshot, peers) = read.rebuild();
        assert_eq!((snapshot.segments[0].fdb.len(), peers.len()), (100_000, 4));
    }

    #[test]
    fn one_request_one_answer() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound.serve(looked, nothing).unwrap();
        assert_eq!(ask(&path).unwrap().uptime_s, 3);
        assert_eq!(ask(&path).unwrap().schema, "vxgate/1");
    }

    #[test]
    fn what_cannot_be_seen_is_refused_with_its_reasons() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound.serve(looked, nothing).unwrap();
        let refused = ask_for::<Status>(&path, Look::DroppedFrames).unwrap_err();
        assert_eq!(refused.fault(), Fault::KernelSilent);
        assert_eq!(refused.reports()[0].what, "does not see DroppedFrames");
    }

    #[test]
    fn nonsense_is_answered_with_an_error_and_the_next_client_is_served() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound.serve(looked, nothing).unwrap();
        for nonsense in [
            "\n",
            "{\"request\":\"launch\"}\n",
            "[\"status\"]\n",
            "{\"request\":\"status\",\"x\":1}\n",
            "\u{0}\u{ff}\n",
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(
                text.contains("\"error\":\"not a request"),
                "{nonsense:?} -> {text}"
            );
        }
        ask(&path).unwrap();
    }

    #[test]
    fn a_second_daemon_is_refused_and_a_dead_ones_file_is_replaced() {
        let (_folder, path) = socket();
        let first = ControlSocket::bind(&path).unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::InUse { .. })
        ));
        drop(first);
        assert!(!path.exists());
        // What a killed process leaves: the file, and nobody behind it.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        ControlSocket::bind(&path).unwrap();
    }

    #[test]
    fn whoever_has_the_socket_is_named() {
        let (_folder, path) = socket();
        let first = ControlSocket::bind(&path).unwrap();
        first.serve(looked, nothing).unwrap();
        let words = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(
            words.contains(&format!(
                "pid {}, which carries nothing",
                std::process::id()
            )),
            "{words}"
        );
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::NoSocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn whoever_listens_and_does_not_answer_is_told_from_nobody() {
        let (folder, _) = socket();
        let path = folder.path().join("deaf.sock");
        let _deaf = UnixListener::bind(&path).unwrap();
        let error = ask_within(&path, Duration::from_millis(10)).unwrap_err();
        let own = i32::try_from(std::process::id()).ok();
        assert!(
            matches!(&error, SocketError::Silent { pid, .. } if *pid == own),
            "{error}"
        );
    }

    #[test]
    fn nobody_there_is_said_so() {
        let (_folder, path) = socket();
        assert!(matches!(ask(&path), Err(SocketError::NotRunning { .. })));
    }
}
