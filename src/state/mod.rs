//! All that a gateway goes by at one moment, as a document (JSON): the published table, and what steering is told. `vxgate
//! state dump` writes it, and whoever reads it has the same table by the same code (`vxgate trace --state FILE`).
//!
//! ```text
//!   Snapshot ── SegmentState::of ──▶ State ── JSON ──▶ State ── State::snapshot ──▶ Snapshot
//!   (of a daemon)                    dump              read     (in any process; every template, FDB and group made anew)
//! ```
//!
//! What the workers have is written down, not what the control side made it from: nothing is merged twice, and what is read
//! back is what frames met. Attributes are those of [`crate::table::SegmentConfig`], field by field: one that is added there
//! and forgotten here does not compile.
//!
//! A document is a file like any other: every value is judged when it is read, and what cannot be is refused with its place.
//! An index that leads to no VTEP, group or list can be: the data path drops what it leads to, and so does a trace.

mod error;
mod segment;
mod text;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::StateError;
pub use segment::{AccessState, GroupState, SegmentState, VtepState};
pub use text::parse_mac;

use crate::bounded;
use crate::stats::PeerId;
use crate::table::Snapshot;
use crate::wire::MacAddr;

/// The format of the document. A number that is read otherwise than before gets another one.
pub const SCHEMA: &str = "vxgate-state/1";
/// The largest file, in bytes: some millions of FDB entries.
const FILE_LEN_MAX: u64 = 512 << 20;
/// Segments have numbers of 16 bits.
const SEGMENTS_MAX: usize = 1 << 16;

/// The document. Field names are the keys of `vxgate state dump`: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of the vxgate that wrote it.
    pub version: String,
    /// The operator has handed the traffic to the kernel.
    pub drained: bool,
    /// Publications of the table until then.
    pub generation: u64,
    /// Bytes of a chunk, in which a frame has its room in front and all of itself.
    pub chunk_bytes: u32,
    /// The workers, by number. Worker *i* has queue *i* of every port, and every further queue *i* modulo their number.
    pub workers: Vec<WorkerState>,
    /// The underlay devices.
    pub underlays: Vec<UnderlayState>,
    /// The vxlan devices that are taken over, in the order of their segment numbers.
    pub segments: Vec<SegmentState>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerState {
    /// Its number.
    pub worker: u32,
    /// Whether its heartbeat is fresh, so that frames go to it.
    pub alive: bool,
}

/// An underlay device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnderlayState {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its Ethernet address, as the steering program knows it.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The longest frame that is sent there, in bytes.
    pub frame_len_max: usize,
    /// Its receive queues in use.
    pub queues: u32,
}

impl State {
    /// Of a gateway that carries nothing.
    pub fn idle() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            drained: false,
            generation: 0,
            chunk_bytes: 2048,
            workers: Vec::new(),
            underlays: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no state.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let longer = || format!("longer than {} MiB", FILE_LEN_MAX >> 20);
        let bytes = bounded::read(path, FILE_LEN_MAX, longer).map_err(failed)?;
        Self::parse(&bytes).map_err(|error| error.of_file(path))
    }

    /// Judges the bytes of a document. A pure function.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        /// Only the format: what else there is may be of another one.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let malformed = |error: serde_json::Error| StateError::malformed(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.schema != SCHEMA {
            return Err(StateError::malformed(format!(
                "its schema is {:?}, and {SCHEMA:?} is what this vxgate ({}) reads",
                head.schema,
                env!("CARGO_PKG_VERSION")
            )));
        }
        let state: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        state.judge().map_err(StateError::malformed)?;
        Ok(state)
    }

    /// What serde cannot see: what contradicts itself.
    fn judge(&self) -> Result<(), String> {
        if self.segments.len() > SEGMENTS_MAX {
            let count = self.segments.len();
            return Err(format!("{count} segments, {SEGMENTS_MAX} at most"));
        }
        if !matches!(self.chunk_bytes, 2048 | 4096 | 16384) {
            return Err(format!(
                "chunk_bytes: {} cannot be: 2048, 4096 or 16384",
                self.chunk_bytes
            ));
        }
        for (number, segment) in self.segments.iter().enumerate() {
            let of_segment = |why: String| format!("segments[{number}].{why}");
            segment.judge().map_err(of_segment)?;
            if self.underlay_of(segment).is_none() {
                let ifindex = segment.config.underlay_ifindex;
                let why = format!("config.underlay_ifindex: none of underlays has index {ifindex}");
                return Err(of_segment(why));
            }
        }
        Ok(())
    }

    /// The table, made anew, and the peers that are counted by themselves: each one's place, the number of its segment, and its
    /// address. Places begin behind those of the segments' "others".
    pub fn rebuild(&self) -> (Snapshot, Vec<(PeerId, usize, IpAddr)>) {
        let mut places = Places::new(self.segments.len());
        let segments = self.segments.iter().enumerate();
        let segments = segments
            .map(|(number, segment)| segment.rebuild(|addr| places.of(number, addr)))
            .collect();
        let given = places.given.into_iter();
        let mut peers: Vec<_> = given
            .map(|((number, addr), id)| (id, number, addr))
            .collect();
        peers.sort_unstable();
        let generation = self.generation;
        (
            Snapshot {
                generation,
                segments,
            },
            peers,
        )
    }

    /// The place of a segment's underlay device among [`State::underlays`].
    pub fn underlay_of(&self, segment: &SegmentState) -> Option<usize> {
        let mut underlays = self.underlays.iter();
        underlays.position(|one| one.ifindex == segment.config.underlay_ifindex)
    }
}

/// Who is counted where.
struct Places {
    given: HashMap<(usize, IpAddr), PeerId>,
    next: usize,
}

impl Places {
    fn new(segments: usize) -> Self {
        Self {
            given: HashMap::new(),
            next: segments,
        }
    }

    /// The place of a peer; its segment's "other" when all are given.
    fn of(&mut self, segment: usize, addr: IpAddr) -> PeerId {
        if let Some(id) = self.given.get(&(segment, addr)) {
            return *id;
        }
        let Ok(place) = u16::try_from(self.next) else {
            return PeerId::other(u16::try_from(segment).unwrap_or(0));
        };
        self.next += 1;
        self.given.insert((segment, addr), PeerId(place));
        PeerId(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_is_told_before_anything_else_is_judged() {
        let error = State::parse(br#"{"schema":"vxgate-state/2","new":[1]}"#).unwrap_err();
        assert!(error.to_string().contains("\"vxgate-state/2\""), "{error}");
        for nonsense in ["", "[]", "{}", "{\"schema\":1}", "\u{0}"] {
            assert!(State::parse(nonsense.as_bytes()).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_told_with_its_place() {
        let node = include_str!("../../tests/fuzz/corpus/state/node.json");
        State::parse(node.as_bytes()).unwrap();
        for (value, other, why) in [
            (
                "\"vni\": 1, \"local\"",
                "\"vni\": 16777216, \"local\"",
                "a VNI (24 bits)",
            ),
            (
                "\"10.0.0.13\"",
                "\"fd00::13\"",
                "segments[0].vteps[0]: 10.0.0.11 cannot be reached",
            ),
            (
                "[32768, 60999]",
                "[60999, 32768]",
                "is not a range of ports",
            ),
            (
                "\"ttl\": 64",
                "\"ttl\": 256",
                "256 is not 0 to 255, or inherit",
            ),
            (
                "\"ttl_default\": 64",
                "\"ttl_default\": 0",
                "a default TTL of 0 cannot be",
            ),
            (
                "\"tos\": \"inherit\"",
                "\"tos\": \"inner\"",
                "\"inner\" is not 0 to 255",
            ),
            (
                "\"flow_label\": 0",
                "\"flow_label\": 1048576",
                "a flow label (20 bits)",
            ),
            ("\"08000000ffffff00\"", "\"8\"", "16 hexadecimal digits"),
            (
                "\"strict\"",
                "\"Strict\"",
                "\"Strict\" is not strict, strict-mac",
            ),
            (
                "\"underlay_ifindex\": 2",
                "\"underlay_ifindex\": 3",
                "none of underlays has index 3",
            ),
            (
                "\"chunk_bytes\": 2048",
                "\"chunk_bytes\": 2047",
                "2048, 4096 or 16384",
            ),
            ("\"vtep 3\"", "\"vtep\"", "where an entry leads (vtep N"),
            (
                "\"0e:24:40:00:07:00\": \"v",
                "\"0e24.4000.0700\": \"v",
                "an Ethernet address",
            ),
            (
                "\"02:00:00:00:00:0b\", \"unresolved\": null",
                "null, \"unresolved\": null",
                "vteps[0]: neither next_hop_mac nor unresolved",
            ),
            (
                "\"no_neighbour\"",
                "\"no_neighbor\"",
                "no_route, no_neighbour",
            ),
            ("\"gbp\": false,", "", "missing field `gbp`"),
        ] {
            assert!(node.contains(value), "{value}");
            let words = match State::parse(node.replacen(value, other, 1).as_bytes()) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{other} is taken"),
            };
            assert!(words.contains(why), "{other}: {words}");
            assert!(
                words.contains(" at line ")
                    || words.contains("segments[0]")
                    || value.contains("chunk"),
                "{words}"
            );
        }
    }

    #[test]
    fn a_gateway_that_carries_nothing_has_a_state_too() {
        let text = serde_json::to_vec(&State::idle()).unwrap();
        let state = State::parse(&text).unwrap();
        assert_eq!(state, State::idle());
        let (snapshot, peers) = state.rebuild();
        assert!(snapshot.segments.is_empty() && peers.is_empty());
    }
}
