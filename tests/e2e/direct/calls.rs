//! Connections whose flows may go direct, and what they live through.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::PATIENCE;
use super::talk::any_of;
use crate::support::frames::Random;
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

/// As many as have to survive.
pub const CONNECTIONS: usize = 1000;

/// Connections over which questions go round: one over each, then the answers are heard.
struct Calls {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    caller: JoinHandle<()>,
    echo: JoinHandle<()>,
    count: u64,
}

impl Calls {
    fn start(from: &Netns, to: &Netns, to_address: &str, count: usize) -> Self {
        // Both ends of each are ours.
        let allowed = getrlimit(Resource::Nofile);
        let enough = Rlimit {
            current: allowed.maximum.or(allowed.current),
            ..allowed
        };
        setrlimit(Resource::Nofile, enough).expect("more descriptors");
        let any = any_of(to_address);
        let listener = to.enter(|| TcpListener::bind(any).expect("a socket"));
        let port = listener.local_addr().expect("it is bound").port();
        let ends = (0..count).map(|_| {
            let near = from.enter(|| TcpStream::connect((to_address, port)).expect("connecting"));
            let (far, _) = listener.accept().expect("accepting");
            for end in [&near, &far] {
                end.set_nodelay(true).expect("TCP_NODELAY");
                end.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            }
            (near, far)
        });
        let (near, far): (Vec<_>, Vec<_>) = ends.unzip();
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        Self {
            stop,
            rounds,
            caller: thread::spawn(move || call(near, &stopped, &done)),
            echo: thread::spawn(move || repeat(far)),
            count: count as u64,
        }
    }

    /// Waits until every connection has had so many more answers.
    fn wait_for_answers(&self, more: u64) {
        let now = || self.rounds.load(Ordering::Relaxed);
        let before = now();
        wait_until("answers on every connection", PATIENCE, || {
            // A connection that broke has ended it.
            self.caller.is_finished() || now() >= before + more
        });
    }

    /// Ends them; none may have failed.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.caller.join().expect("no connection breaks");
        self.echo.join().expect("nor its other end");
    }
}

fn call(mut connections: Vec<TcpStream>, stop: &AtomicBool, rounds: &AtomicU64) {
    let mut random = Random(1);
    while !stop.load(Ordering::Relaxed) {
        let questions = connections.iter_mut().map(|connection| {
            let said: [u8; 64] = std::array::from_fn(|_| random.next() as u8);
            connection.write_all(&said).expect("asking");
            said
        });
        let questions: Vec<_> = questions.collect();
        for (connection, said) in connections.iter_mut().zip(&questions) {
            let mut heard = [0; 64];
            connection.read_exact(&mut heard).expect("an answer");
            assert_eq!(heard, *said, "the answer is what was said");
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Until all of them have ended.
fn repeat(mut connections: Vec<TcpStream>) {
    let mut bytes = [0; 2048];
    while !connections.is_empty() {
        let fds = connections.iter();
        let mut fds: Vec<_> = fds.map(|one| PollFd::new(one, PollFlags::IN)).collect();
        poll(&mut fds, None).expect("polling");
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready: Vec<bool> = fds.iter().map(ready).collect();
        let mut ready = ready.into_iter();
        connections.retain_mut(|connection| {
            !ready.next().unwrap_or_default()
                || match connection.read(&mut bytes) {
                    Ok(0) | Err(_) => false,
                    Ok(len) => connection.write_all(&bytes[..len]).is_ok(),
                }
        });
    }
}

/// Waits until every connection goes the direct path, and sees that it does.
fn all_go_direct(calls: &Calls, vxgate: &Vxgate) {
    let direct = || vxgate.status().direct().expect("it has a direct path");
    wait_until("the connections go the direct path", PATIENCE, || {
        direct().flows >= calls.count
    });
    let (before, many) = (direct(), 20 * calls.count);
    wait_until("they do", PATIENCE, || direct().beyond(before, many));
    calls.wait_for_answers(1);
}

/// What becomes of a gateway that comes back.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    Hangs,
    Drains,
    Ends,
}

/// So many connections of node 1's client, with this address of node 2's, go on whatever becomes of their gateway; in the end it
/// dies.
pub fn survive(lab: &Lab, flags: &[&str], (count, address): (usize, &str), troubles: &[Trouble]) {
    let node = lab.node(Node::Master);
    let mut vxgate = Vxgate::start(&node, flags);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let calls = Calls::start(&client, &far, address, count);
    for trouble in troubles {
        all_go_direct(&calls, &vxgate);
        match trouble {
            Trouble::Hangs => {
                vxgate.signal(Signal::SIGSTOP);
                calls.wait_for_answers(20);
                vxgate.signal(Signal::SIGCONT);
            }
            Trouble::Drains => {
                vxgate.tell(&["drain"]).printed();
                calls.wait_for_answers(20);
                vxgate.tell(&["resume"]).printed();
            }
            Trouble::Ends => {
                vxgate.stop();
                calls.wait_for_answers(20);
                vxgate = Vxgate::start(&node, flags);
            }
        }
    }
    all_go_direct(&calls, &vxgate);
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    calls.wait_for_answers(20);
    calls.finish();
}
