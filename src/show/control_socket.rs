//! The control socket: a UNIX stream, one JSON request a line, one JSON answer, then closed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use super::unix_socket::{self, BindError};
use crate::fault::{Explained, Fault};

/// A request is one short line; more than this is not one.
const REQUEST_LEN_MAX: u64 = 4096;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    request: Asked,
}

/// What may be asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Asked {
    Status,
}

/// An answer: the thing asked for, or why not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: String },
    Status(Box<Status>),
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
    /// The peer answered something else.
    #[error("vxgate on {path} gave no valid answer: {why}")]
    BadAnswer {
        /// Where.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl Explained for SocketError {
    fn fault(&self) -> Fault {
        match self {
            Self::InUse { .. } => Fault::SocketServed,
            Self::NoSocket(_) => Fault::SocketNameTaken,
            Self::Bind { .. } => Fault::SocketNotMade,
            Self::NotRunning { .. } => Fault::DaemonSilent,
            Self::BadAnswer { .. } => Fault::AnswerInvalid,
        }
    }
}

/// A bound socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
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
        })
    }

    /// Answers requests until the process ends, on a thread of its own. `status` is asked anew for each.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn serve(&self, status: impl Fn() -> Status + Send + 'static) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        std::thread::Builder::new()
            .name("vxgate-control-socket".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    match stream {
                        Ok(stream) => {
                            if let Err(error) = answer(&stream, &status) {
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

fn answer(stream: &UnixStream, status: &impl Fn() -> Status) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_LEN_MAX)).read_until(b'\n', &mut line)?;
    (&*stream).write_all(&answer_to(&line, status)?)
}

/// The answer to what a client wrote: one line of JSON. `status` is asked only when the client asks for it.
///
/// # Errors
/// When the answer cannot be written as JSON, which no status of ours brings about.
pub fn answer_to(line: &[u8], status: impl FnOnce() -> Status) -> io::Result<Vec<u8>> {
    let answer = match read_request(line) {
        Ok(Request {
            request: Asked::Status,
        }) => Answer::Status(Box::new(status())),
        Err(why) => Answer::Error {
            error: format!("not a request: {why}"),
        },
    };
    let mut bytes = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read_request(line: &[u8]) -> Result<Request, String> {
    // A list of a request's values would do for serde.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("no JSON object".into());
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// What a daemon answered.
///
/// # Errors
/// Why it is no status: the daemon's own words, or what is wrong with the JSON.
pub fn read_answer(bytes: &[u8]) -> Result<Status, String> {
    match serde_json::from_slice(bytes).map_err(|error| error.to_string())? {
        Answer::Status(status) => Ok(*status),
        Answer::Error { error } => Err(error),
    }
}

/// Asks a running daemon for its status.
///
/// # Errors
/// When nobody answers, or not what was asked for.
pub fn ask(path: &Path) -> Result<Status, SocketError> {
    let not_running = |source| SocketError::NotRunning {
        path: path.to_owned(),
        source,
    };
    let bad = |why: String| SocketError::BadAnswer {
        path: path.to_owned(),
        why,
    };
    let mut stream = UnixStream::connect(path).map_err(not_running)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(not_running)?;
    let mut request = serde_json::to_vec(&Request {
        request: Asked::Status,
    })
    .map_err(|error| bad(error.to_string()))?;
    request.push(b'\n');
    stream.write_all(&request).map_err(not_running)?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|error| bad(error.to_string()))?;
    read_answer(&bytes).map_err(bad)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::gateway::Observation;

    fn socket() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/vxgate.sock");
        (folder, path)
    }

    #[test]
    fn one_request_one_answer() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound
            .serve(|| Status::new(Observation::default(), 3))
            .unwrap();
        assert_eq!(ask(&path).unwrap().uptime_s, 3);
        assert_eq!(ask(&path).unwrap().schema, "vxgate/1");
    }

    #[test]
    fn nonsense_is_answered_with_an_error_and_the_next_client_is_served() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound
            .serve(|| Status::new(Observation::default(), 3))
            .unwrap();
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
        first
            .serve(|| Status::new(Observation::default(), 3))
            .unwrap();
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
    fn nobody_there_is_said_so() {
        let (_folder, path) = socket();
        assert!(matches!(ask(&path), Err(SocketError::NotRunning { .. })));
    }
}
