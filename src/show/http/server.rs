//! One thread, many connections, and a bound on all that they can take.
//!
//! | what a client may do                     | what it gets                                                             |
//! |------------------------------------------|--------------------------------------------------------------------------|
//! | send its request slowly, or never        | [`LIFETIME`] for everything; when all places are taken, the oldest goes  |
//! | take its answer slowly, or never         | the same; bodies are shared, so that it holds one page, and no thread    |
//! | open many connections                    | [`CONNECTIONS_MAX`] places; who asks at once is answered at once         |
//! | send a long head, or more behind it      | [`HEAD_LEN_MAX`](super::HEAD_LEN_MAX), [`LEFTOVER_MAX`], then the end    |
//! | ask again and again                      | one answer a connection; what a look costs is bounded by who answers     |

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown};

use super::{Head, Method, Refusal, Request, Response};

/// Clients at one time.
pub const CONNECTIONS_MAX: usize = 32;
/// How long a client may take for everything: as long as a scrape of Prometheus takes at most.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long to wait for a client's end after its answer. Closing at once what has unread bytes would take the answer back.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes behind a head that are read to no purpose.
const LEFTOVER_MAX: usize = 1 << 16;
/// Bytes that are read at a time.
const READ_LEN: usize = 4096;
/// How long not to accept when there is no descriptor left for another client.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket of either family.
#[derive(Debug)]
pub(in crate::show) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// UNIX.
    Unix(UnixListener),
}

impl Listener {
    /// The same socket once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A server of pages. `answer` is given the path that is asked for.
pub(in crate::show) struct Server<A> {
    listener: Listener,
    answer: A,
    /// The oldest first.
    connections: Vec<Connection>,
    /// Before then nobody is let in.
    closed_until: Option<Instant>,
    /// When the other end of it is closed, the server ends.
    end: Option<UnixStream>,
    ended: bool,
}

impl<A: FnMut(&str) -> Response> Server<A> {
    /// Takes over a listening socket.
    ///
    /// # Errors
    /// When it cannot be made one that never waits.
    pub fn new(listener: Listener, answer: A) -> io::Result<Self> {
        listener.set_nonblocking()?;
        Ok(Self {
            listener,
            answer,
            connections: Vec::with_capacity(CONNECTIONS_MAX),
            closed_until: None,
            end: None,
            ended: false,
        })
    }

    /// As [`Server::new`], until the other end of `end` is closed.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn until(listener: Listener, end: UnixStream, answer: A) -> io::Result<Self> {
        let server = Self::new(listener, answer)?;
        Ok(Self {
            end: Some(end),
            ..server
        })
    }

    /// Whether it is to take no more turns.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits until there is something to do, and does it.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn turn(&mut self) -> io::Result<()> {
        let (woken, knocked) = self.wait()?;
        if self.ended {
            return Ok(());
        }
        let now = Instant::now();
        let mut woken = woken.into_iter();
        self.connections.retain_mut(|connection| {
            let goes_on = !woken.next().unwrap_or(false) || connection.step(&mut self.answer, now);
            goes_on && now < connection.until
        });
        if knocked {
            self.let_in(now);
        }
        Ok(())
    }

    /// Which connections have something to do, in their order, and whether somebody wants to be let in.
    fn wait(&mut self) -> io::Result<(Vec<bool>, bool)> {
        let now = Instant::now();
        self.closed_until = self.closed_until.filter(|until| now < *until);
        let ends = self.connections.iter().map(|connection| connection.until);
        let until = ends.chain(self.closed_until).min();
        let timeout = until.map(|until| timespec(until.saturating_duration_since(now)));
        let connections = self.connections.iter();
        let mut fds: Vec<_> = connections
            .map(|connection| PollFd::new(&connection.socket, connection.waits_for()))
            .collect();
        if self.closed_until.is_none() {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if let Some(end) = &self.end {
            fds.push(PollFd::new(end, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno.into()),
        }
        let mut woken: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        self.ended = self.end.is_some() && woken.pop().unwrap_or(false);
        let knocked = self.closed_until.is_none() && woken.pop().unwrap_or(false);
        Ok((woken, knocked))
    }

    /// Lets in who waits, up to a whole new set of clients.
    fn let_in(&mut self, now: Instant) {
        for _ in 0..CONNECTIONS_MAX {
            let socket =
                match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(socket) => socket,
                    // Nobody is there, or one has gone away meanwhile.
                    Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
                    Err(error) => {
                        tracing::debug!(%error, "cannot let a client in");
                        self.closed_until = Some(now + PAUSE);
                        return;
                    }
                };
            if self.connections.len() == CONNECTIONS_MAX {
                // Whoever asks at once has its answer long before it is the oldest.
                self.connections.remove(0);
            }
            let mut connection = Connection {
                socket,
                stage: Stage::Hears(Head::default()),
                until: now + LIFETIME,
            };
            // Most have sent their request by now.
            if connection.step(&mut self.answer, now) {
                self.connections.push(connection);
            }
        }
    }
}

/// One client.
struct Connection {
    socket: OwnedFd,
    stage: Stage,
    until: Instant,
}

/// How far a connection has come.
enum Stage {
    /// The request is coming in.
    Hears(Head),
    /// The answer is going out.
    Tells(Answer),
    /// All is said; so many bytes more are read and thrown away.
    Leaves(usize),
}

/// An answer on its way.
struct Answer {
    head: String,
    /// None where the body is not asked for.
    response: Option<Response>,
    /// Bytes of both that have gone.
    sent: usize,
}

impl Connection {
    fn waits_for(&self) -> PollFlags {
        match self.stage {
            Stage::Hears(_) | Stage::Leaves(_) => PollFlags::IN,
            Stage::Tells(_) => PollFlags::OUT,
        }
    }

    /// Does what can be done without waiting. Whether there is anything left to do.
    fn step(&mut self, answer: &mut impl FnMut(&str) -> Response, now: Instant) -> bool {
        let mut buffer = [0; READ_LEN];
        loop {
            let done = match &mut self.stage {
                Stage::Hears(head) => match recv(&self.socket, &mut buffer[..], RecvFlags::empty())
                {
                    Ok((_, 0)) => return false,
                    Ok((_, len)) => {
                        let outcome = head.take(buffer.get(..len).unwrap_or_default());
                        if let Some(request) = outcome {
                            self.stage = Stage::Tells(Answer::to(request, answer));
                        }
                        Ok(())
                    }
                    Err(errno) => Err(errno),
                },
                Stage::Tells(answer) => match answer.rest() {
                    [] => {
                        self.stage = Stage::Leaves(LEFTOVER_MAX);
                        self.until = self.until.min(now + FAREWELL);
                        shutdown(&self.socket, Shutdown::Write)
                    }
                    rest => {
                        send(&self.socket, rest, SendFlags::NOSIGNAL).map(|len| answer.sent += len)
                    }
                },
                Stage::Leaves(left) => {
                    match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                        Ok((_, len)) if len == 0 || len >= *left => return false,
                        Ok((_, len)) => {
                            *left -= len;
                            Ok(())
                        }
                        Err(errno) => Err(errno),
                    }
                }
            };
            match done {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::INTR) => return true,
                // It is gone.
                Err(_) => return false,
            }
        }
    }
}

impl Answer {
    fn to(request: Result<Request, Refusal>, answer: &mut impl FnMut(&str) -> Response) -> Self {
        let (response, wanted) = match request {
            Ok(request) => (answer(&request.path), request.method == Method::Get),
            Err(refusal) => (refusal.into(), true),
        };
        Self {
            head: response.head(),
            response: wanted.then_some(response),
            sent: 0,
        }
    }

    /// What has not gone yet, the head first; empty when all has.
    fn rest(&self) -> &[u8] {
        let head = self.head.as_bytes();
        if let Some(rest) = head.get(self.sent..).filter(|rest| !rest.is_empty()) {
            return rest;
        }
        let body = self.response.as_ref().map(|response| &*response.body);
        let body = body.unwrap_or_default().as_bytes();
        body.get(self.sent - head.len()..).unwrap_or_default()
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up: waking up too early would only mean to wait again.
    let duration = duration + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// A server that says which path it was asked for; `/large` is as large as it says.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let large: Arc<str> = "x".repeat(1 << 22).into();
        let answer = move |path: &str| match path {
            "/large" => Response::page("text/plain", Arc::clone(&large)),
            path => Response::text("200 OK", path.to_owned()),
        };
        let mut server = Server::new(Listener::Tcp(listener), answer).unwrap();
        thread::spawn(move || while server.turn().is_ok() {});
        addr
    }

    fn ask(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_page_is_given_and_only_its_head_when_that_is_asked_for() {
        let addr = server();
        let text = ask(addr, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n/metrics"),
            "{text}"
        );
        let head = ask(addr, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(head, text.strip_suffix("/metrics").unwrap());
        let large = ask(addr, "GET /large HTTP/1.0\r\n\r\n");
        assert!(large.len() > 1 << 22 && large.ends_with("xxx"));
    }

    #[test]
    fn a_request_in_pieces_and_one_with_more_behind_it_are_answered() {
        let addr = server();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in b"GET /slow HTTP/1.1\r\n\r\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("\r\n\r\n/slow"), "{text}");
        let body = "b".repeat(10_000);
        let text = ask(addr, &format!("GET /a HTTP/1.1\r\n\r\n{body}"));
        assert!(text.ends_with("\r\n\r\n/a"), "{text}");
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        let addr = server();
        for (request, status) in [
            ("\u{1}\n\n", "400 Bad Request"),
            ("DELETE / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET / HTTP/3\r\n\r\n", "505 HTTP"),
        ] {
            let text = ask(addr, request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        }
        let text = ask(addr, &"x".repeat(super::super::HEAD_LEN_MAX + 1));
        assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    }

    #[test]
    fn those_who_say_nothing_or_hear_nothing_keep_nobody_out() {
        let addr = server();
        let silent: Vec<_> = (0..3 * CONNECTIONS_MAX)
            .map(|_| TcpStream::connect(addr).unwrap())
            .collect();
        // They ask for more than their sockets hold, and never read it.
        let deaf: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = TcpStream::connect(addr).unwrap();
                // The server may have got rid of it already.
                let _ = stream.write_all(b"GET /large HTTP/1.1\r\n\r\n");
                stream
            })
            .collect();
        for _ in 0..3 {
            let text = ask(addr, "GET /here HTTP/1.1\r\n\r\n");
            assert!(text.ends_with("\r\n\r\n/here"), "{text}");
        }
        drop((silent, deaf));
        let text = ask(addr, "GET /there HTTP/1.1\r\n\r\n");
        assert!(text.ends_with("\r\n\r\n/there"), "{text}");
    }

    #[test]
    fn a_client_has_its_time_and_no_more() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let knock = listener.local_addr().unwrap();
        let answer = |_: &str| Response::text("200 OK", "");
        let mut server = Server::new(Listener::Tcp(listener), answer).unwrap();
        server.connections.push(Connection {
            socket: ours.into(),
            stage: Stage::Hears(Head::default()),
            // Its time is over.
            until: Instant::now(),
        });
        server.turn().unwrap();
        assert!(server.connections.is_empty());
        let mut rest = Vec::new();
        assert_eq!((&theirs).read_to_end(&mut rest).unwrap(), 0);
        // Without clients it sleeps until one comes.
        let stream = TcpStream::connect(knock).unwrap();
        server.turn().unwrap();
        assert_eq!(server.connections.len(), 1);
        drop(stream);
        server.turn().unwrap();
        assert!(server.connections.is_empty());
    }
}
