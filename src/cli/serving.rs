//! Where a running daemon serves its metrics, which may change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::{Endpoint, Listen};
use crate::show::{MetricsError, MetricsSocket, Status};

/// Looks at the daemon.
type Look = Arc<dyn Fn() -> Status + Send + Sync>;

/// The metrics of a daemon.
pub(super) struct Serving {
    look: Look,
    control_socket: PathBuf,
    peers_max: Arc<AtomicU32>,
    /// What was asked for.
    place: Option<Endpoint>,
    socket: Option<MetricsSocket>,
}

impl Serving {
    /// Serves by a socket that listens; nowhere without one.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(
        mut socket: Option<MetricsSocket>,
        place: Option<Endpoint>,
        control_socket: PathBuf,
        peers_max: u32,
        look: Look,
    ) -> Result<Self, MetricsError> {
        let peers_max = Arc::new(AtomicU32::new(peers_max));
        if let Some(socket) = &mut socket {
            serve(socket, &look, &peers_max)?;
        }
        Ok(Self {
            look,
            control_socket,
            peers_max,
            place,
            socket,
        })
    }

    /// Where that is; with the port that the kernel chose, where it was to choose.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.socket.as_ref().map(MetricsSocket::endpoint)
    }

    /// Serves nowhere any more.
    pub(super) fn stop(&mut self) {
        (self.socket, self.place) = (None, None);
    }

    /// How many VTEPs have metrics of their own from now on.
    pub(super) fn set_peers_max(&self, count: u32) {
        self.peers_max.store(count, Ordering::Relaxed);
    }

    /// Serves somewhere else from now on.
    ///
    /// # Errors
    /// Says who or what is in the way; then they are served where they were.
    pub(super) fn move_to(&mut self, listen: Listen) -> Result<(), MetricsError> {
        let place = listen.endpoint(&self.control_socket);
        // After another place could not be had, the old one may be lost, too: whoever asks for it again is to get it.
        if place == self.place && self.socket.is_some() == place.is_some() {
            return Ok(());
        }
        let socket = match &place {
            None => None,
            Some(place) => Some(self.open(place)?),
        };
        (self.socket, self.place) = (socket, place);
        Ok(())
    }

    fn open(&mut self, place: &Endpoint) -> Result<MetricsSocket, MetricsError> {
        match self.serve_at(place) {
            Err(MetricsError::AddressInUse(addr)) if self.has_port_of(addr) => {
                // The old one is in the way of the new one: 0.0.0.0 takes every address.
                self.socket = None;
                self.serve_at(place).inspect_err(|_| self.go_back())
            }
            outcome => outcome,
        }
    }

    /// Serves where it did before, after another place could not be had.
    fn go_back(&mut self) {
        let Some(place) = self.place.clone() else {
            return;
        };
        match self.serve_at(&place) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => tracing::error!(%error, "metrics are served nowhere any more"),
        }
    }

    fn has_port_of(&self, addr: SocketAddr) -> bool {
        matches!(self.endpoint(), Some(Endpoint::Tcp(old)) if old.port() == addr.port())
    }

    fn serve_at(&self, place: &Endpoint) -> Result<MetricsSocket, MetricsError> {
        let mut socket = MetricsSocket::bind(place)?;
        serve(&mut socket, &self.look, &self.peers_max)?;
        Ok(socket)
    }
}

fn serve(
    socket: &mut MetricsSocket,
    look: &Look,
    peers_max: &Arc<AtomicU32>,
) -> Result<(), MetricsError> {
    let look = Arc::clone(look);
    socket.serve(move || look(), Arc::clone(peers_max))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::gateway::Observation;

    fn tcp(addr: SocketAddr) -> Listen {
        Listen::At(Endpoint::Tcp(addr))
    }

    fn answers(addr: SocketAddr) -> bool {
        let Ok(mut stream) = TcpStream::connect(addr) else {
            return false;
        };
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200")
    }

    /// A port that is free now.
    fn port() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn it_moves_and_stays_where_it_is_when_the_new_place_is_taken() {
        let look: Look = Arc::new(|| Status::new(Observation::default(), 3));
        let control = PathBuf::from("/nowhere/control.sock");
        let mut serving = Serving::start(None, None, control, 512, look).unwrap();
        assert_eq!(serving.endpoint(), None);
        let first: SocketAddr = ([127, 0, 0, 1], port()).into();
        serving.move_to(tcp(first)).unwrap();
        assert!(answers(first));

        let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken = other.local_addr().unwrap();
        let error = serving.move_to(tcp(taken)).unwrap_err();
        assert!(matches!(error, MetricsError::AddressInUse(addr) if addr == taken));
        assert!(answers(first));

        // All addresses of the same port; and back.
        let all: SocketAddr = ([0, 0, 0, 0], first.port()).into();
        serving.move_to(tcp(all)).unwrap();
        assert_eq!(serving.endpoint(), Some(&Endpoint::Tcp(all)));
        assert!(answers(first));
        // An address that nobody has, with the same port: 203.0.113.0/24 is for documentation.
        let nowhere: SocketAddr = ([203, 0, 113, 7], first.port()).into();
        assert!(serving.move_to(tcp(nowhere)).is_err());
        assert!(answers(first));

        serving.move_to(Listen::Off).unwrap();
        assert!(!answers(first));
    }

    #[test]
    fn a_place_that_was_lost_is_taken_again_when_it_is_asked_for() {
        let look: Look = Arc::new(|| Status::new(Observation::default(), 3));
        let control = PathBuf::from("/nowhere/control.sock");
        let mut serving = Serving::start(None, None, control, 512, look).unwrap();
        let here: SocketAddr = ([127, 0, 0, 1], port()).into();
        serving.move_to(tcp(here)).unwrap();
        // As when the place that it was to move to could not be had, and somebody else has this one meanwhile.
        serving.socket = None;
        let other = TcpListener::bind(here).unwrap();
        serving.go_back();
        assert_eq!(serving.endpoint(), None);
        assert!(serving.move_to(tcp(here)).is_err(), "it is theirs");
        drop(other);
        serving.move_to(tcp(here)).unwrap();
        assert!(answers(here));
    }
}
