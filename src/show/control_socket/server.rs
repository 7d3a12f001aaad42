//! The side that answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::capture::{self, CaptureBegun, CaptureRequest};
use super::super::unix_socket::{self, BindError};
use super::super::{Action, Done, Look, Seen};
use super::PATIENCE;
use super::client::ask;
use super::error::SocketError;
use super::request::{
    Answer, Asked, Watch, answer_to, busy, denied, no_request, read_request, written,
};
use super::telling::{Places, tell};
use super::timed::Timed;
use crate::fault::{Explained, Report};
use crate::gateway::{Captures, peer_may_change, peer_pid};
use crate::heap;

/// A request is one short line; more than this is not one.
const REQUEST_LEN_MAX: u64 = 4096;
/// How long who asks for the whole state may take to read it: some millions of entries.
const PATIENCE_STATE: Duration = Duration::from_secs(60);
/// Of an answer of so many bytes, the memory is given back.
const LONG: usize = 1 << 20;

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
        let places = Places::default();
        std::thread::Builder::new()
            .name("vxgate-control-socket".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => {
                            if let Err(error) = serve_one(stream, &look, &act, &captures, &places) {
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
    places: &Places,
) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let asks = Timed::new(&stream, PATIENCE).take(REQUEST_LEN_MAX);
    BufReader::new(asks).read_until(b'\n', &mut line)?;
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
            let Some(place) = places.take() else {
                let answer = Answer::<Seen>::from(Err(vec![busy(places.count())]));
                return Timed::new(&stream, PATIENCE).write_all(&written(&answer)?);
            };
            let answer = Answer::from(look(Look::State));
            let telling = move || {
                if let Err(error) = tell(&answer, &stream, PATIENCE_STATE) {
                    tracing::debug!(%error, "who asked for the state did not wait for all of it");
                }
                drop(answer);
                heap::give_back();
                // Only now: the next one has a copy, too.
                drop(place);
            };
            // On a thread of its own: a table of a million entries takes a while, and a slow reader even longer.
            let thread = std::thread::Builder::new().name("vxgate-state".into());
            thread.spawn(telling).map(drop)
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
            let written = Timed::new(&stream, PATIENCE).write_all(&answer);
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
