//! The side that asks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::super::capture::{CaptureRequest, CaptureStream};
use super::super::{Action, Look, Status, unix_socket};
use super::PATIENCE;
use super::error::SocketError;
use super::request::{Asked, Request, Watch, read, written};
use crate::gateway::peer_pid;

/// Bytes of a capture that are read at once.
const CAPTURE_CHUNK: usize = 1 << 18;
/// How long to wait until something is done: another takeover may take some seconds.
const PATIENCE_ORDER: Duration = Duration::from_secs(60);

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
    let connected = unix_socket::connect(path, patience);
    let mut stream = connected.map_err(|error| match error.kind() {
        // So many have asked before that it does not even queue us.
        io::ErrorKind::WouldBlock => silent(path, None, patience),
        _ => not_running(error),
    })?;
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
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            silent(path, peer_pid(stream), patience)
        }
        _ => SocketError::BadAnswer {
            path: path.to_owned(),
            why: error.to_string(),
        },
    }
}

fn silent(path: &Path, pid: Option<i32>, waited: Duration) -> SocketError {
    SocketError::Silent {
        path: path.to_owned(),
        pid,
        waited_s: waited.as_secs(),
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
