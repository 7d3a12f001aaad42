//! Bulk TCP between two pods, both ways at once, with the content hashed at both ends of each way; and many flows at a time.

use std::io::{Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::netns::Netns;

/// A connection without progress for this long has failed. Longer than the pause of a retransmission that backed off.
const STALL: Duration = Duration::from_secs(30);
const PIECE: usize = 32 << 10;

type Hash = [u8; 32];

/// A transfer that runs.
#[derive(Debug)]
pub struct Transfer {
    bytes_each_way: u64,
    received: Arc<[AtomicU64; 2]>,
    enough: Arc<AtomicBool>,
    started: Instant,
    /// Client and server: what each sent, what each received.
    ends: [JoinHandle<(Sent, Hash)>; 2],
}

/// What one end has sent.
#[derive(Debug)]
struct Sent {
    bytes: u64,
    hash: Hash,
}

impl Transfer {
    /// Sends `bytes_each_way` both ways over one connection between two pods, or fewer when there is [`Transfer::enough`]. With a
    /// rate (bytes a second each way) it takes its time, so that something can be broken in its middle.
    pub fn start(
        client: &Netns,
        server: &Netns,
        server_address: &str,
        bytes_each_way: u64,
        rate: Option<u64>,
    ) -> Self {
        let listener = server.enter(|| {
            TcpListener::bind(any_port(server_address)).expect("binding in the server's namespace")
        });
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let target = SocketAddr::new(server_address.parse().expect("an address"), port);
        let near = client.enter(|| {
            TcpStream::connect_timeout(&target, STALL).expect("connecting to the other pod")
        });
        let (far, _) = listener.accept().expect("accepting");
        let received = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let enough = Arc::<AtomicBool>::default();
        let ends = [(near, 0), (far, 1)].map(|(connection, side)| {
            let (received, enough) = (Arc::clone(&received), Arc::clone(&enough));
            thread::spawn(move || {
                let outgoing = connection.try_clone().expect("a second handle");
                let sender = thread::spawn(move || {
                    send(&outgoing, side as u64, (bytes_each_way, &enough), rate)
                });
                let arrived = receive(&connection, &received[side]);
                (sender.join().expect("sending"), arrived)
            })
        });
        Self {
            bytes_each_way,
            received,
            enough,
            started: Instant::now(),
            ends,
        }
    }

    /// The bytes that have arrived, of the way that has fewer.
    pub fn received(&self) -> u64 {
        let ways = self.received.iter();
        ways.map(|way| way.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    /// The smaller part of what has arrived, over both ways: 0.0 to 1.0.
    pub fn progress(&self) -> f64 {
        self.received() as f64 / self.bytes_each_way as f64
    }

    /// Has both ends send no more than they have by now.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Waits for the end; asserts that all bytes arrived and that the hashes of both ends agree, both ways.
    pub fn finish(self) {
        let started = self.started;
        let [out, back] = self.finish_silently();
        println!(
            "    tcp: {out} bytes out and {back} back in {:.2} s, hashes match",
            started.elapsed().as_secs_f64()
        );
    }

    /// What each end has sent.
    fn finish_silently(self) -> [u64; 2] {
        let cut_short = self.enough.load(Ordering::Relaxed);
        let [client, server] = self
            .ends
            .map(|end| end.join().expect("the transfer completes"));
        let arrived = self
            .received
            .each_ref()
            .map(|way| way.load(Ordering::Relaxed));
        let sent = [client.0.bytes, server.0.bytes];
        let [out, back] = sent;
        assert_eq!(arrived, [back, out], "every byte arrives, both ways");
        assert!(cut_short || sent == [self.bytes_each_way; 2], "{sent:?}");
        assert_eq!(
            client.0.hash, server.1,
            "what the client sent is what the server received"
        );
        assert_eq!(
            server.0.hash, client.1,
            "what the server sent is what the client received"
        );
        sent
    }
}

/// Every address of the family that this one has.
pub(super) fn any_port(address: &str) -> SocketAddr {
    let any: IpAddr = match address.parse().expect("an address") {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

fn send(
    mut connection: &TcpStream,
    seed: u64,
    (bytes, enough): (u64, &AtomicBool),
    rate: Option<u64>,
) -> Sent {
    connection
        .set_write_timeout(Some(STALL))
        .expect("SO_SNDTIMEO");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let (start, mut sent) = (Instant::now(), 0);
    while sent < bytes && !enough.load(Ordering::Relaxed) {
        let piece = &mut piece[..PIECE.min((bytes - sent) as usize)];
        fill(piece, &mut state);
        hash.update(&*piece);
        connection
            .write_all(piece)
            .expect("sending without a stall");
        sent += piece.len() as u64;
        if let Some(rate) = rate {
            let due = start + Duration::from_secs_f64(sent as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    connection
        .shutdown(Shutdown::Write)
        .expect("closing one way");
    Sent {
        bytes: sent,
        hash: hash.finalize().into(),
    }
}

fn receive(mut connection: &TcpStream, received: &AtomicU64) -> Hash {
    connection
        .set_read_timeout(Some(STALL))
        .expect("SO_RCVTIMEO");
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match connection
            .read(&mut piece)
            .expect("receiving without a stall")
        {
            0 => return hash.finalize().into(),
            len => {
                hash.update(&piece[..len]);
                received.fetch_add(len as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Bytes that no compression, repetition or shift can fake (xorshift64).
fn fill(piece: &mut [u8], state: &mut u64) {
    for chunk in piece.chunks_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// One question and answer on each of `flows` UDP sockets of the client; each must get the answer to its own question. A
/// datagram may be lost, a flow may not: it asks up to five times.
pub fn udp_flows(client: &Netns, server: &Netns, server_address: &str, flows: u32) {
    let inlet = server.enter(|| {
        UdpSocket::bind(any_port(server_address)).expect("binding in the server's namespace")
    });
    inlet
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("SO_RCVTIMEO");
    let port = inlet
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let echo = thread::spawn(move || {
        let mut bytes = [0; 64];
        // An empty datagram ends it.
        while let Ok((len @ 1.., from)) = inlet.recv_from(&mut bytes) {
            let _ = inlet.send_to(&bytes[..len], from);
        }
    });
    client.enter(|| {
        let sockets: Vec<UdpSocket> = (0..flows)
            .map(|_| {
                let socket = UdpSocket::bind(any_port(server_address))
                    .expect("binding in the client's namespace");
                socket
                    .connect((server_address, port))
                    .expect("connecting a UDP socket");
                socket
                    .set_read_timeout(Some(Duration::from_millis(500)))
                    .expect("SO_RCVTIMEO");
                socket
            })
            .collect();
        for (flow, socket) in sockets.iter().enumerate() {
            let question = (flow as u64).to_be_bytes();
            let answered = (0..5).any(|_| {
                let mut answer = [0; 64];
                let _ = socket.send(&question);
                socket
                    .recv(&mut answer)
                    .is_ok_and(|len| answer[..len] == question)
            });
            assert!(answered, "UDP flow {flow} of {flows} gets its own answer");
        }
    });
    server
        .enter(|| {
            UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(&[], ("127.0.0.1", port)))
        })
        .expect("loopback");
    echo.join().expect("the echo does not panic");
}

/// `connections` transfers of 64 KiB each way at the same time.
pub fn tcp_flows(client: &Netns, server: &Netns, server_address: &str, connections: u32) {
    let transfers: Vec<Transfer> = (0..connections)
        .map(|_| Transfer::start(client, server, server_address, 64 << 10, None))
        .collect();
    for transfer in transfers {
        transfer.finish_silently();
    }
    println!("    tcp: {connections} connections at once, hashes match");
}
