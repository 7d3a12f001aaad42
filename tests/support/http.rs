//! A client of HTTP/1.0, on bare sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::netns::Netns;

/// For an answer.
const BOUND: Duration = Duration::from_secs(10);

/// An answer: its status, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The page.
    pub body: String,
}

/// Asks for a page by a UNIX socket.
pub fn get(socket: &Path, path: &str) -> Answer {
    let stream =
        UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    stream.set_read_timeout(Some(BOUND)).expect("SO_RCVTIMEO");
    exchange(stream, path).unwrap_or_else(|why| panic!("{}: {path}: {why}", socket.display()))
}

/// Asks for a page by TCP, from within a namespace.
pub fn try_get_tcp(netns: &Netns, addr: SocketAddr, path: &str) -> Result<Answer, String> {
    let stream = netns.enter(|| TcpStream::connect_timeout(&addr, BOUND));
    let stream = stream.map_err(|error| format!("{addr}: {error}"))?;
    stream.set_read_timeout(Some(BOUND)).expect("SO_RCVTIMEO");
    exchange(stream, path).map_err(|why| format!("{addr}{path}: {why}"))
}

/// A text as it stands in a query.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn exchange(mut stream: impl Read + Write, path: &str) -> Result<Answer, String> {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("no whole head: {text:?}"))?;
    let mut words = head.split(' ').skip(1);
    let status = words.next().and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| format!("no status: {head:?}"))?;
    let lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse())?
            .ok()
    });
    if lengths
        .into_iter()
        .any(|length: usize| length != body.len())
    {
        return Err(format!(
            "{} bytes, and the head says otherwise: {head}",
            body.len()
        ));
    }
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}
