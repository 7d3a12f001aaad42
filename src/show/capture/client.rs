//! A command's side of a capture.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::CaptureBegun;
use super::stream::{self, CapturedFrame, Counts, MESSAGE_MAX, Part};
use crate::gateway::CapturedPort;

/// What a daemon sends of a capture.
#[derive(Debug)]
pub struct CaptureStream {
    reader: BufReader<UnixStream>,
    begun: CaptureBegun,
    ports: BTreeMap<u32, CapturedPort>,
    counts: Counts,
    /// The message that is being read.
    message: Vec<u8>,
}

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A frame.
    Frame(CapturedFrame),
    /// How the capture fares, when that is worth to be told.
    Counts(Counts),
    /// Nothing for whoever reads.
    Other,
}

impl CaptureStream {
    /// Behind the answer that it has begun.
    pub(in crate::show) fn new(reader: BufReader<UnixStream>, begun: CaptureBegun) -> Self {
        Self {
            reader,
            begun,
            ports: BTreeMap::new(),
            counts: Counts::default(),
            message: Vec::new(),
        }
    }

    /// The next message; `None` when the daemon has ended the stream.
    ///
    /// # Errors
    /// When it cannot be read, or is no message.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        let Some(part) = self.read()? else {
            return Ok(None);
        };
        Ok(Some(match part {
            Some(Part::Frame(frame)) => Message::Frame(frame),
            Some(Part::Counts(counts)) => {
                self.counts = counts.clone();
                Message::Counts(counts)
            }
            Some(Part::Port(port)) => {
                self.ports.insert(port.ifindex, port);
                Message::Other
            }
            None => Message::Other,
        }))
    }

    fn read(&mut self) -> io::Result<Option<Option<Part>>> {
        let mut len = [0; 4];
        match self.reader.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let len = u32::from_le_bytes(len) as usize;
        if len > MESSAGE_MAX {
            let words = format!("a message of {len} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        self.message.resize(len, 0);
        self.reader.read_exact(&mut self.message)?;
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        stream::read(&self.message).map(Some).map_err(invalid)
    }

    /// Whether there is a message at hand, for which nobody needs to wait.
    pub fn has_more(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// The device with this index.
    pub fn port(&self, ifindex: u32) -> Option<&CapturedPort> {
        self.ports.get(&ifindex)
    }

    /// Of what a frame died, in the daemon's word.
    pub fn reason(&self, frame: &CapturedFrame) -> Option<&str> {
        let number = usize::from(frame.reason?);
        self.begun.reasons.get(number).map(String::as_str)
    }

    /// What has been told last.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What says from another thread that no more is wanted.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.reader.get_ref().try_clone().map(Stopper)
    }
}

/// Says that no more is wanted.
#[derive(Debug)]
pub struct Stopper(UnixStream);

impl Stopper {
    /// What had been seen by then still comes.
    pub fn stop(&self) {
        // A daemon that is gone sends nothing more anyway.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}
