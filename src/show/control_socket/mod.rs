//! The control socket: a UNIX stream, one JSON request a line, one JSON answer, then closed; but for a capture, whose stream follows
//! the answer (`capture/`).
//!
//! Everybody who may connect may look. What changes the daemon is for root and for the daemon's own user, and is done on a
//! thread of its own: it may take a while, and looking goes on meanwhile.

mod client;
mod error;
mod request;
mod server;
mod telling;
mod timed;

use std::time::Duration;

pub use client::{ask, ask_for, ask_state, ask_within, capture_from, order};
pub use error::SocketError;
pub use request::{answer_to, read_answer};
pub use server::ControlSocket;

/// How long either side waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Instant;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    use super::telling::TOLD_MAX;
    use super::*;
    use crate::fault::{Explained, Fault, Report};
    use crate::gateway::Observation;
    use crate::show::{Action, Done, LogLevel, Look, Seen, Status};
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
        let node = include_bytes!("../../../tests/fuzz/corpus/state/node.json");
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
    fn those_who_ask_for_the_state_and_do_not_read_it_have_a_few_copies_and_no_more() {
        let node = include_bytes!("../../../tests/fuzz/corpus/state/node.json");
        let mut state = State::parse(node).unwrap();
        // More than sockets hold.
        let entries = (0..100_000_u32).map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            (MacAddr([2, 0, a, b, c, d]), VtepId(0).into())
        });
        state.segments[0].fdb = entries.collect();
        let copies = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&copies);
        let look = move |what| match what {
            Look::State => {
                made.fetch_add(1, Ordering::Relaxed);
                Ok(Seen::State(Box::new(state.clone())))
            }
            other => looked(other),
        };
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound.serve(look, nothing).unwrap();
        let mut slow: Vec<_> = (0..20)
            .map(|_| {
                let mut slow = UnixStream::connect(&path).unwrap();
                slow.write_all(b"{\"request\":\"state\"}\n").unwrap();
                slow
            })
            .collect();
        // They are served in their order, so all of them have been by now.
        assert_eq!(ask(&path).unwrap().uptime_s, 3);
        assert_eq!(copies.load(Ordering::Relaxed), TOLD_MAX);
        let refused = ask_state(&path).unwrap_err();
        assert_eq!(refused.fault(), Fault::StateBusy, "{refused}");
        assert!(refused.to_string().contains("4 others are being told"));
        // Those who are gone have none any more.
        slow.clear();
        let begin = Instant::now();
        while let Err(error) = ask_state(&path) {
            assert!(begin.elapsed() < 6 * PATIENCE, "{error}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_that_sends_a_byte_now_and_then_holds_nobody_up_for_long() {
        let (_folder, path) = socket();
        let bound = ControlSocket::bind(&path).unwrap();
        bound.serve(looked, nothing).unwrap();
        let mut slow = UnixStream::connect(&path).unwrap();
        slow.write_all(b"{").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sends = std::thread::spawn(move || {
            theirs.set_read_timeout(Some(PATIENCE / 20)).unwrap();
            // Until the test is over, or it is shut out.
            while (&theirs).read(&mut [0]).is_err() && slow.write_all(b" ").is_ok() {}
        });
        let answer = ask_within(&path, 6 * PATIENCE);
        drop(ours);
        sends.join().unwrap();
        assert_eq!(answer.unwrap().uptime_s, 3);
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
    fn whoever_hangs_so_long_that_nobody_else_finds_room_is_silent_too() {
        let (folder, _) = socket();
        let path = folder.path().join("full.sock");
        let family = AddressFamily::UNIX;
        let deaf = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&deaf, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // Room for one.
        rustix::net::listen(&deaf, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let (tell, told) = mpsc::channel();
        let asked = path.clone();
        thread::spawn(move || {
            let answer = ask_within(&asked, Duration::from_millis(10));
            tell.send(matches!(answer, Err(SocketError::Silent { .. })))
        });
        let is_silent = told.recv_timeout(6 * PATIENCE).expect("an end");
        assert!(is_silent);
    }

    #[test]
    fn nobody_there_is_said_so() {
        let (_folder, path) = socket();
        assert!(matches!(ask(&path), Err(SocketError::NotRunning { .. })));
    }
}
