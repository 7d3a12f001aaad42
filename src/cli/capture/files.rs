//! Where a capture is written: standard output, a file, or one file after the other, named and ended as tcpdump does.
//!
//! | asked for | files |
//! |---|---|
//! | nothing | `FILE` |
//! | `-C SIZE` | `FILE`, `FILE1`, `FILE2`, … |
//! | `-C SIZE -W N` | `FILE0` … as many as that, then from the first again, which is overwritten; as many digits as the last one has |
//! | `-G SECONDS` | `FILE` with `%Y%m%d%H%M%S` and their like filled in (UTC), else numbered as with `-C` |
//! | `-G SECONDS -W N` | the same, and the capture ends with so many |

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::pcapng::Pcapng;
use crate::loadgen::report::rfc3339;
use crate::show::{CapturedFrame, Told};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// When the next file begins.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rotation {
    /// After so many bytes.
    pub(super) size: Option<u64>,
    /// After so many seconds.
    pub(super) seconds: Option<u64>,
    /// How many there are.
    pub(super) count: Option<u32>,
}

/// Where frames go.
pub(super) struct Files {
    /// Standard output without one.
    place: Option<PathBuf>,
    rotation: Rotation,
    snaplen: u32,
    /// How many have been finished.
    finished: u32,
    /// Nanoseconds since 1970 at which the present one began.
    begun_ns: u64,
    present: Pcapng<Box<dyn Write>>,
    /// The present one's name.
    name: PathBuf,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is written.
    Yes,
    /// It would begin a file more than was asked for.
    NoMoreFiles,
}

impl Files {
    /// Opens the first, at this time.
    ///
    /// # Errors
    /// Which file cannot be had.
    pub(super) fn open(
        place: Option<PathBuf>,
        rotation: Rotation,
        snaplen: u32,
        now_ns: u64,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let (name, present) = begin(place.as_deref(), rotation, snaplen, 0, now_ns)?;
        Ok(Self {
            place,
            rotation,
            snaplen,
            finished: 0,
            begun_ns: now_ns,
            present,
            name,
        })
    }

    /// Writes a frame, in the next file where it is time for that.
    ///
    /// # Errors
    /// Which file cannot be written.
    pub(super) fn write(
        &mut self,
        frame: &CapturedFrame,
        told: &Told<'_>,
    ) -> Result<Written, (PathBuf, io::Error)> {
        let Rotation {
            size,
            seconds,
            count,
        } = self.rotation;
        let full = size.is_some_and(|size| self.present.bytes() >= size);
        let age_ns = frame.time_ns.saturating_sub(self.begun_ns);
        let old = seconds.is_some_and(|seconds| age_ns >= seconds.saturating_mul(1_000_000_000));
        if full || old {
            self.flush()?;
            self.finished += 1;
            if old && size.is_none() && count == Some(self.finished) {
                return Ok(Written::NoMoreFiles);
            }
            let place = self.place.as_deref();
            let (number, now_ns) = (self.finished, frame.time_ns);
            (self.name, self.present) = begin(place, self.rotation, self.snaplen, number, now_ns)?;
            self.begun_ns = now_ns;
        }
        let written = self.present.write(frame, told);
        written.map_err(|error| (self.name.clone(), error))?;
        Ok(Written::Yes)
    }

    /// Has everything that was written be there.
    ///
    /// # Errors
    /// Which file cannot be written.
    pub(super) fn flush(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let flushed = self.present.flush();
        flushed.map_err(|error| (self.name.clone(), error))
    }
}

type Begun = (PathBuf, Pcapng<Box<dyn Write>>);

fn begin(
    place: Option<&Path>,
    rotation: Rotation,
    snaplen: u32,
    number: u32,
    now_ns: u64,
) -> Result<Begun, (PathBuf, io::Error)> {
    let name = match place {
        Some(place) => name(place, rotation, number, now_ns),
        None => PathBuf::from("standard output"),
    };
    let out: io::Result<Box<dyn Write>> = match place {
        Some(_) => File::create(&name).map(|file| Box::new(file) as Box<dyn Write>),
        None => Ok(Box::new(io::stdout())),
    };
    let begun = out.and_then(|out| {
        let out: Box<dyn Write> = Box::new(BufWriter::with_capacity(BUFFER, out));
        Pcapng::new(out, snaplen)
    });
    match begun {
        Ok(present) => Ok((name, present)),
        Err(error) => Err((name, error)),
    }
}

/// The name of a file, by its number from 0.
fn name(place: &Path, rotation: Rotation, number: u32, now_ns: u64) -> PathBuf {
    let mut name = OsString::from(place);
    let text = place.to_str().filter(|text| text.contains('%'));
    let dated = text.filter(|_| rotation.seconds.is_some());
    if let Some(text) = dated {
        name = filled_in(text, now_ns).into();
    }
    match (rotation.size, rotation.count) {
        (Some(_), Some(count)) => {
            let digits = count.saturating_sub(1).to_string().len();
            name.push(format!("{:0digits$}", number % count.max(1)));
        }
        _ if number > 0 && dated.is_none() => name.push(number.to_string()),
        _ => {}
    }
    name.into()
}

/// The date and time in a name.
fn filled_in(text: &str, now_ns: u64) -> String {
    let date = rfc3339(UNIX_EPOCH + Duration::from_nanos(now_ns));
    let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default().to_owned();
    let mut name = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            name.push(letter);
            continue;
        }
        name += &match letters.next() {
            Some('Y') => part(0, 4),
            Some('m') => part(5, 7),
            Some('d') => part(8, 10),
            Some('H') => part(11, 13),
            Some('M') => part(14, 16),
            Some('S') => part(17, 19),
            Some('F') => part(0, 10),
            Some('T') => part(11, 19),
            Some('s') => (now_ns / 1_000_000_000).to_string(),
            Some('%') => "%".to_owned(),
            // As it stands: it is no date.
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        };
    }
    name
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::show::Verdict;
    use crate::stats::tap::Point;

    fn names(place: &str, rotation: Rotation) -> Vec<String> {
        (0..3)
            .map(|number| {
                let now_ns = 1_798_761_599_000_000_000 + u64::from(number) * 1_000_000_000;
                let name = name(Path::new(place), rotation, number, now_ns);
                name.to_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn files_have_tcpdumps_names() {
        let size = Rotation {
            size: Some(1),
            ..Rotation::default()
        };
        assert_eq!(
            names("x.pcapng", size),
            ["x.pcapng", "x.pcapng1", "x.pcapng2"]
        );
        let ring = Rotation {
            count: Some(2),
            ..size
        };
        assert_eq!(names("x%Y", ring), ["x%Y0", "x%Y1", "x%Y0"]);
        let large = Rotation {
            count: Some(11),
            ..size
        };
        assert_eq!(names("x", large), ["x00", "x01", "x02"]);
        let seconds = Rotation {
            seconds: Some(1),
            ..Rotation::default()
        };
        assert_eq!(
            names("x-%F-%H%M%S%%", seconds),
            [
                "x-2026-12-31-235959%",
                "x-2027-01-01-000000%",
                "x-2027-01-01-000001%"
            ]
        );
        assert_eq!(names("x", seconds), ["x", "x1", "x2"]);
        assert_eq!(names("%q%", seconds)[0], "%q%");
    }

    /// Frames of 100 bytes, one each half a second from the first file's beginning on; how many frames each file has.
    fn files(rotation: Rotation, count: u64) -> (Vec<(String, usize)>, Written) {
        const HALF_A_SECOND: u64 = 500_000_000;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x");
        let mut files = Files::open(Some(place), rotation, 1000, 0).unwrap();
        let mut last = Written::Yes;
        for number in 0..count {
            let frame = CapturedFrame {
                time_ns: number * HALF_A_SECOND,
                point: Point::AccessRx,
                port: 4,
                worker: 0,
                verdict: Verdict::Encap,
                reason: None,
                peer: None,
                in_tunnel: false,
                len: 100,
                bytes: vec![number as u8; 100],
            };
            let told = Told::new(&frame, Some("flannel.1"), Some(1), None);
            last = files.write(&frame, &told).unwrap();
        }
        files.flush().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        names.sort();
        let frames = |path: &PathBuf| {
            let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
            let blocks = std::iter::from_fn(|| Some(reader.next_block()?.unwrap().into_owned()));
            let blocks = blocks.filter(|block| matches!(block, Block::EnhancedPacket(_)));
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.to_owned(), blocks.count())
        };
        (names.iter().map(frames).collect(), last)
    }

    fn named(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        let named = expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        named.collect()
    }

    #[test]
    fn every_frame_is_in_one_file_until_there_are_as_many_as_were_asked_for() {
        let seconds = Rotation {
            seconds: Some(1),
            ..Rotation::default()
        };
        let all = named(&[("x", 2), ("x1", 2), ("x2", 1)]);
        assert_eq!(files(seconds, 5), (all, Written::Yes));
        let two = Rotation {
            count: Some(2),
            ..seconds
        };
        let all = named(&[("x", 2), ("x1", 2)]);
        assert_eq!(files(two, 5), (all, Written::NoMoreFiles));
        // A frame takes some 190 bytes: two fill a file.
        let size = Rotation {
            size: Some(400),
            ..Rotation::default()
        };
        let all = named(&[("x", 2), ("x1", 2), ("x2", 1)]);
        assert_eq!(files(size, 5), (all, Written::Yes));
        let ring = Rotation {
            count: Some(2),
            ..size
        };
        assert_eq!(
            files(ring, 5),
            (named(&[("x0", 1), ("x1", 2)]), Written::Yes)
        );
        let plain = files(Rotation::default(), 3);
        assert_eq!(plain, (named(&[("x", 3)]), Written::Yes));
    }
}
