//! Where the pages are served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Pages;
use crate::config::Endpoint;
use crate::fault::{Explained, Fault};
use crate::show::Status;
use crate::show::http::{Listener, Server};
use crate::show::unix_socket::{self, BindError};

/// How long to wait before another try when the kernel refuses to wait for clients.
const RETRY: Duration = Duration::from_millis(100);

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another process listens on the address.
    #[error("metrics: {0} is in use by another process")]
    AddressInUse(SocketAddr),
    /// Nobody here has the address.
    #[error("metrics: no device of this network namespace has the address {0}")]
    NoSuchAddress(SocketAddr),
    /// Another process listens on the path.
    #[error("metrics: another process serves {}", .0.display())]
    PathInUse(PathBuf),
    /// Something else has the name.
    #[error("metrics: there is a file {} that is no socket", .0.display())]
    NoSocket(PathBuf),
    /// It cannot be listened on.
    #[error("metrics: cannot listen on {endpoint}: {source}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread can be had.
    #[error("metrics: cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Explained for MetricsError {
    fn fault(&self) -> Fault {
        match self {
            Self::AddressInUse(_) | Self::PathInUse(_) => Fault::MetricsPlaceServed,
            Self::NoSuchAddress(_) => Fault::MetricsAddressUnknown,
            Self::NoSocket(_) => Fault::MetricsNameTaken,
            Self::Listen { .. } => Fault::MetricsNotServed,
            Self::Thread(_) => Fault::ThreadRefused,
        }
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Self::AddressInUse(addr) => Some(format!(
                "stop that one (ss -ltnp 'sport = :{}' shows which), or give another address with --metrics-listen",
                addr.port()
            )),
            _ => None,
        }
    }
}

/// A socket that listens. When it is dropped, the pages are served no longer, and a path's file is gone.
#[derive(Debug)]
pub struct MetricsSocket {
    listener: Listener,
    /// With the port that the kernel chose, where it was to choose.
    endpoint: Endpoint,
    /// Closing the stream ends the thread.
    server: Option<(UnixStream, JoinHandle<()>)>,
}

impl MetricsSocket {
    /// Listens. A file that a dead process left is replaced.
    ///
    /// # Errors
    /// Says who or what is in the way.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, MetricsError> {
        match endpoint {
            Endpoint::Tcp(addr) => Self::bind_tcp(*addr),
            Endpoint::Unix(path) => match unix_socket::bind(path) {
                Ok(listener) => Ok(Self {
                    listener: Listener::Unix(listener),
                    endpoint: endpoint.clone(),
                    server: None,
                }),
                Err(BindError::Served) => Err(MetricsError::PathInUse(path.clone())),
                Err(BindError::NoSocket) => Err(MetricsError::NoSocket(path.clone())),
                Err(BindError::Io(source)) => Err(MetricsError::Listen {
                    endpoint: endpoint.clone(),
                    source,
                }),
            },
        }
    }

    fn bind_tcp(addr: SocketAddr) -> Result<Self, MetricsError> {
        let bound = TcpListener::bind(addr)
            .and_then(|listener| listener.local_addr().map(|addr| (listener, addr)));
        match bound {
            Ok((listener, addr)) => Ok(Self {
                listener: Listener::Tcp(listener),
                endpoint: Endpoint::Tcp(addr),
                server: None,
            }),
            Err(source) => Err(match source.kind() {
                io::ErrorKind::AddrInUse => MetricsError::AddressInUse(addr),
                io::ErrorKind::AddrNotAvailable => MetricsError::NoSuchAddress(addr),
                _ => MetricsError::Listen {
                    endpoint: Endpoint::Tcp(addr),
                    source,
                },
            }),
        }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers until it is dropped, on a thread of its own. `look` is asked for what to tell; how many VTEPs have metrics of
    /// their own may change meanwhile.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn serve(
        &mut self,
        look: impl FnMut() -> Status + Send + 'static,
        peers_max: Arc<AtomicU32>,
    ) -> Result<(), MetricsError> {
        let mut pages = Pages::new(look, peers_max);
        let answer = move |path: &str| pages.answer(path, Instant::now());
        let failed = |source| MetricsError::Listen {
            endpoint: self.endpoint.clone(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let listener = self.listener.try_clone();
        let server = listener.and_then(|listener| Server::until(listener, theirs, answer));
        let mut server = server.map_err(failed)?;
        let run = move || {
            while !server.has_ended() {
                if let Err(error) = server.turn() {
                    tracing::warn!(%error, "cannot wait for those who ask for metrics");
                    thread::sleep(RETRY);
                }
            }
        };
        let thread = thread::Builder::new().name("vxgate-metrics".into());
        let thread = thread.spawn(run).map_err(MetricsError::Thread)?;
        self.server = Some((ours, thread));
        Ok(())
    }
}

impl Drop for MetricsSocket {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.server.take() {
            drop(end);
            if thread.join().is_err() {
                tracing::error!("the thread vxgate-metrics had panicked");
            }
        }
        if let Endpoint::Unix(path) = &self.endpoint {
            unix_socket::unbind(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::fault;
    use crate::gateway::Observation;

    fn get(mut stream: impl Read + Write) -> String {
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn both_kinds_of_places_are_served_and_taken_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/m.sock");
        let look = || Status::new(Observation::default(), 3);
        let mut unix = MetricsSocket::bind(&Endpoint::Unix(path.clone())).unwrap();
        let mut tcp = MetricsSocket::bind(&Endpoint::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        unix.serve(look, Arc::new(512.into())).unwrap();
        tcp.serve(look, Arc::new(512.into())).unwrap();
        let Endpoint::Tcp(addr) = *tcp.endpoint() else {
            panic!("{:?}", tcp.endpoint())
        };
        for text in [
            get(UnixStream::connect(&path).unwrap()),
            get(TcpStream::connect(addr).unwrap()),
        ] {
            assert!(text.contains("vxgate_uptime_seconds 3\n"), "{text}");
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let refused = |endpoint| fault::line(&MetricsSocket::bind(&endpoint).unwrap_err());
        let words = refused(Endpoint::Tcp(addr));
        assert!(
            words.contains(&format!("{addr} is in use")) && words.contains("--metrics-listen"),
            "{words}"
        );
        let words = refused(Endpoint::Unix(path.clone()));
        assert!(words.contains("another process serves"), "{words}");
        let words = refused(Endpoint::Tcp(([203, 0, 113, 7], 9472).into()));
        assert!(
            words.contains("has the address 203.0.113.7:9472"),
            "{words}"
        );
        drop(unix);
        assert!(!path.exists());
        drop(tcp);
        let again = MetricsSocket::bind(&Endpoint::Tcp(addr));
        assert!(again.is_ok(), "nobody serves it any more: {again:?}");
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        drop(UnixListener::bind(&path).unwrap());
        drop(MetricsSocket::bind(&Endpoint::Unix(path)).unwrap());
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let words = MetricsSocket::bind(&Endpoint::Unix(path.clone())).unwrap_err();
        assert!(words.to_string().contains("no socket"), "{words}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
