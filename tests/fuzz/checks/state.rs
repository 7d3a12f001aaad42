//! The state of a gateway as a document, and frames traced on it.

use vxgate::port::{ChunkSize, ROOM};
use vxgate::state::{AccessState, SegmentState, State, UnderlayState, WorkerState};
use vxgate::stats::{DropReason, PassReason};
use vxgate::table::{KernelShare, Segment, Snapshot};
use vxgate::trace::{At, Fate, Tracer};
use vxgate::wire::MacAddr;

use crate::rig::choices::Choices;
use crate::rig::table::table;
use crate::rig::{self, Rig, Size, frames};

const FRAMES: usize = 12;

/// What is read as a state is written and read again as the same, and can be traced on; and so is the state of any table, with
/// which any frame fares as on the table itself.
pub fn state(data: &[u8]) {
    if let Ok(state) = State::parse(data) {
        assert_eq!(State::parse(&written(&state)).as_ref().ok(), Some(&state));
        // What a file asks for is no reason to take gigabytes.
        if state.segments.len() < 16 && state.underlays.len() < 16 {
            let mut tracer = Tracer::new(state).expect("memory");
            for at in tracer.names().map(str::to_owned).collect::<Vec<_>>() {
                let at = tracer.port(&at).expect("a port of this name");
                let trace = tracer.trace(at, data, 0);
                assert!(trace.to_string().contains("VERDICT") && !trace.bytes().is_empty());
            }
        }
        return;
    }
    let mut choices = Choices::new(data);
    let snapshot = table(&mut choices);
    let state = state_of(&snapshot);
    let read = State::parse(&written(&state)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, state);
    let (again, _) = read.rebuild();
    for (segment, again) in snapshot.segments.iter().zip(&again.segments) {
        same(segment, again);
    }
    traced(&mut choices, &snapshot, read);
}

fn written(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).expect("every state has its JSON")
}

/// The state of a gateway with this table, whose ports take any frame.
fn state_of(snapshot: &Snapshot) -> State {
    let access = |number: usize| AccessState {
        kernel_side: format!("vxg{}", 2 * number),
        worker_side: format!("vxg{}", 2 * number + 1),
        frame_len_max: usize::MAX,
        tap: None,
    };
    let segments = snapshot.segments.iter().enumerate();
    State {
        generation: 7,
        chunk_bytes: ChunkSize::K2.bytes(),
        workers: vec![WorkerState {
            worker: 0,
            alive: true,
        }],
        underlays: vec![UnderlayState {
            name: "eth1".to_owned(),
            ifindex: 2,
            mac: MacAddr([4, 0, 0, 0, 0, 1]),
            mtu: 1500,
            frame_len_max: usize::MAX,
            queues: 1,
        }],
        segments: segments
            .map(|(number, segment)| SegmentState::of(segment, access(number)))
            .collect(),
        ..State::idle()
    }
}

/// All that frames meet in a segment, but for the places of its peers.
fn same(segment: &Segment, again: &Segment) {
    assert_eq!(segment.config, again.config);
    assert_eq!(segment.lists, again.lists);
    assert_eq!(segment.flood, again.flood);
    assert_eq!(&segment.peers[..], &again.peers[..]);
    assert_eq!(segment.fdb.len(), again.fdb.len());
    for (mac, to) in segment.fdb.iter() {
        assert_eq!(again.fdb.find(mac), Some(to));
    }
    for (vtep, again) in segment.vteps.iter().zip(again.vteps.iter()) {
        assert_eq!(vtep.key, again.key);
        assert_eq!(vtep.path_mtu, again.path_mtu);
        assert_eq!(vtep.next_hop, again.next_hop);
    }
    for (group, again) in segment.groups.iter().zip(again.groups.iter()) {
        for hash in 0..64_u32 {
            let hash = hash.wrapping_mul(0x0412_4867);
            assert_eq!(group.choose(hash), again.choose(hash));
        }
    }
    assert_eq!(segment.frame_len_max(), again.frame_len_max());
    assert_eq!(KernelShare::of(segment), KernelShare::of(again));
}

/// Frames on the table itself, and on the state of it.
fn traced(choices: &mut Choices<'_>, snapshot: &Snapshot, state: State) {
    let size = Size {
        segments: snapshot.segments.len(),
        queues: 1,
        ..Size::default()
    };
    let mut rig = Rig::on(size, snapshot.clone());
    let mut tracer = Tracer::new(state).expect("memory");
    for _ in 0..FRAMES {
        let number = choices.below(snapshot.segments.len());
        let (at, entry, frame, mark) = if choices.bit() {
            let frame = frames::outer(choices, snapshot);
            (At::Underlay(0), rig::At::Underlay(0), frame, 0)
        } else {
            let frame = frames::inner(choices, &snapshot.segments[number]);
            let mark = choices.long();
            (At::Access(number), rig::At::Access(number), frame, mark)
        };
        let outcome = tracer.judge(at, &frame, mark);
        let forwarded = u64::from(outcome.fate == Fate::Forward);
        let sent = outcome.sent.len() as u64;
        assert_eq!(sent, forwarded + outcome.flood_copies);
        let counted: u64 = outcome.peers.iter().map(|(.., frames)| frames).sum();
        assert_eq!(counted, sent);
        if let Fate::Pass(reason) = outcome.fate {
            assert!(reason != PassReason::Bypass && reason != PassReason::HeartbeatStale);
            continue;
        }
        let gbp = |number: usize| snapshot.segments[number].config.gbp;
        let carried = match at {
            At::Access(number) if gbp(number) => with_mark(&frame, mark),
            _ => frame,
        };
        let before = rig.counters(entry);
        let drops = |reason: &DropReason| before.drops(*reason);
        let counts: Vec<_> = DropReason::ALL.iter().map(drops).collect();
        if !rig.deliver(entry, &carried) {
            assert_eq!(outcome.fate, Fate::Drop(DropReason::RxInvalid));
            assert!(carried.len() > ChunkSize::K2.bytes() as usize - ROOM || carried.is_empty());
            continue;
        }
        rig.worker.turn();
        let dead: Vec<_> = DropReason::ALL
            .iter()
            .zip(counts)
            .filter(|(reason, count)| before.drops(**reason) > *count)
            .map(|(reason, _)| Fate::Drop(*reason))
            .collect();
        let fate = dead.first().copied().unwrap_or(Fate::Forward);
        assert_eq!(outcome.fate, fate);
        let mut out = Vec::new();
        for place in rig.places() {
            out.extend(rig.collect(place));
        }
        // Gives the frames back, as the tracer does.
        rig.worker.turn();
        let traced: Vec<_> = outcome
            .sent
            .iter()
            .map(|sent| match sent.mark {
                Some(mark) => with_mark(&sent.bytes, mark),
                None => sent.bytes.clone(),
            })
            .collect();
        assert_eq!(traced, out);
    }
}

/// As a frame carries its mark to and from the workers.
fn with_mark(frame: &[u8], mark: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.len() >= 12 {
        let [a, b, c, d] = mark.to_be_bytes();
        frame.splice(12..12, [0x88, 0xa8, a, b, 0x88, 0xa8, c, d]);
    }
    frame
}
