//! The properties of the data path on random tables and frames, and of all else that parses, as proptest makes them up: the same checks as the fuzz
//! targets' (`tests/fuzz/checks`), with other bytes on every run, and shrunk to the shortest that fails.

use std::collections::HashSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

#[path = "fuzz/checks/mod.rs"]
mod checks;
mod rig;

use rig::choices::Choices;
use rig::table::table;
use rig::{frames, tcp, twin};
use vxgate::gateway::Observation;
use vxgate::loadgen::engine::{Tag, write_frame};
use vxgate::loadgen::headers::{Family, Flow, FlowHeaders, Outer, Shape, Transport};
use vxgate::show::Status;
use vxgate::stats::DropReason;

/// What a table and some frames are made of. Bytes of 0 are the plain case, so that some more of them are.
fn made_of(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![1 => Just(0), 3 => any::<u8>()], 0..len)
}

/// Lines of configuration files, right and wrong, in any order.
fn config_text() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "[overlay]",
        "[worker]",
        "[control]",
        "[[overlay]]",
        "[contrl]",
        "# nothing",
        "\u{1b}[2J = 1",
        "]",
        "devices = \"auto\"",
        "devices = ['flannel.1', \"a\\u0001b\"]",
        "devices = []",
        "devices = [1]",
        "peer_check = 'log'",
        "peer_check = 'logs'",
        "peer-check = 'log'",
        "peer_check = 'strict-mac'",
        "reserved_bits = 'mask:00000000000000ff'",
        "reserved_bits = 'ignore'",
        "ecn_encap = 'rfc6040'",
        "inner_vlan = 'drop'",
        "udp_checksum_rx = 'verify'",
        "udp_checksum_rx = 1e3",
        "count = 0x10",
        "count = 65",
        "count = 0xffff_ffff_ffff_ffff_ffff",
        "count = 'auto'",
        "socket = '/run/x.sock'",
        "socket = \"/\\u0000\"",
        "socket = 'x'",
        "nice = -5",
        "superframes = 'off'",
        "direct = 'always'",
        "express = false",
        "express = 1",
        "pod_programs = 'xdp'",
        "direct_flows_max = 4096",
        "direct_pods_max = 110",
        "[metrics]",
        "listen = '[::1]:9472'",
        "listen = \"/m\\u0007\"",
        "listen = ':1'",
        "max_peers = 0x20",
        "max_peers = 10001",
        "worker.count = 1",
        "worker = { count = 2 }",
    ]);
    prop::collection::vec(lines, 0..9).prop_map(|lines| lines.join("\n"))
}

/// A word of the control protocol for either end, perhaps with some bytes changed.
fn protocol_word() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<Vec<u8>> = vec![
        b"\0{\"request\":\"status\"}\n".to_vec(),
        b"\0{ \"request\" : \"stat\\u0075s\" }".to_vec(),
        b"\x01{\"error\":\"no\"}\n".to_vec(),
        [
            b"\x01",
            &serde_json::to_vec(&Status::new(Observation::default(), 3)).unwrap()[..],
        ]
        .concat(),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::sample::select(words), changes).prop_map(|(mut word, changes)| {
        for (at, byte) in changes {
            let at = at.index(word.len());
            word[at] = byte;
        }
        word
    })
}

/// Parts of heads of HTTP requests, in any order, and how to cut them.
fn http_head() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "GET ", "HEAD ", "POST ", "/metrics", "http://a", "/", "?x", " ", "HTTP/1.1", "HTTP/2.0",
        "\r\n", "\n", "\r", "Host: x", "\u{e9}", "\0",
    ]);
    let parts = prop::collection::vec(parts, 0..12);
    (any::<u8>(), parts).prop_map(|(cut, parts)| [&[cut], parts.concat().as_bytes()].concat())
}

/// What a kernel told of its links and addresses, vxlan devices among them, with some bytes changed.
fn netlink_answer() -> impl Strategy<Value = Vec<u8>> {
    let told = include_bytes!("fuzz/corpus/netlink/all").to_vec();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
    changes.prop_map(move |changes| {
        let mut told = told.clone();
        for (at, byte) in changes {
            let at = at.index(told.len());
            told[at] = byte;
        }
        told
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_frame_of_the_underlay_has_the_one_fate_that_the_specification_says(bytes in made_of(1000)) {
        checks::decap(&bytes);
    }

    #[test]
    fn a_frame_of_the_overlay_has_the_one_fate_that_the_specification_says(bytes in made_of(1000)) {
        checks::encap(&bytes);
    }

    #[test]
    fn what_goes_out_comes_in_at_the_far_end_as_it_was(bytes in made_of(600)) {
        checks::round_trip(&bytes);
    }

    #[test]
    fn segments_are_joined_as_the_kernel_would_and_come_apart_again(bytes in made_of(800)) {
        checks::join(&bytes);
    }

    #[test]
    fn superframes_are_cut_as_the_kernel_would_and_join_again(bytes in made_of(60)) {
        checks::cut(&bytes);
    }

    #[test]
    fn superframes_that_leave_cut_are_what_their_segments_would_be(bytes in made_of(600)) {
        checks::encap_cut(&bytes);
    }

    #[test]
    fn headers_are_found_where_they_are(bytes in made_of(300)) {
        checks::layers(&bytes);
    }

    #[test]
    fn headers_say_what_an_independent_parser_says(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        checks::wire(&bytes);
    }

    #[test]
    fn netlink_messages_are_taken_apart_within_their_bounds(bytes in prop_oneof![netlink_answer(), prop::collection::vec(any::<u8>(), 0..300)]) {
        checks::netlink(&bytes);
    }

    #[test]
    fn a_configuration_is_taken_as_it_says_or_all_that_is_wrong_is_told(text in config_text()) {
        checks::config(text.as_bytes());
    }

    #[test]
    fn a_table_that_was_written_down_is_read_as_it_was_and_frames_fare_on_it_alike(data in made_of(600)) {
        checks::state(&data);
    }

    #[test]
    fn a_word_of_the_control_protocol_gets_one_answer(word in protocol_word()) {
        checks::control_protocol(&word);
    }

    #[test]
    fn a_head_of_a_request_says_the_same_however_it_is_cut(head in http_head()) {
        checks::http(&head);
    }
}

/// A frame of the load generator's, some of its bits changed.
fn generated_frame() -> impl Strategy<Value = Vec<u8>> {
    let addresses = |six: bool, port: u16| {
        let texts = if six {
            ["2001:2::1", "2001:2::2"]
        } else {
            ["198.18.0.1", "198.18.0.2"]
        };
        texts.map(|text| SocketAddr::new(text.parse().unwrap(), port))
    };
    let transports = vec![Transport::Udp, Transport::Tcp, Transport::Icmp];
    let flips = prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..4);
    (
        any::<[bool; 3]>(),
        prop::sample::select(transports),
        any::<u32>(),
        0..90_usize,
        flips,
    )
        .prop_map(
            move |([six, tunnelled, outer_six], transport, sequence, more, flips)| {
                let [source, destination] = addresses(six, 9);
                let [from, to] = addresses(outer_six, 4789);
                let outer = tunnelled.then_some(Outer {
                    source_mac: [2, 0, 0, 0, 0, 3],
                    destination_mac: [2, 0, 0, 0, 0, 4],
                    source: from,
                    destination: to,
                    vni: 7,
                    zero_checksum: !outer_six,
                });
                let flow = Flow {
                    source_mac: [2, 0, 0, 0, 0, 1],
                    destination_mac: [2, 0, 0, 0, 0, 2],
                    source,
                    destination,
                    outer,
                };
                let shape = Shape {
                    outer: tunnelled.then_some(Family::of(from.ip())),
                    inner: Family::of(source.ip()),
                    transport,
                    arrival_mac: None,
                };
                let headers = FlowHeaders::new(&flow, transport).unwrap();
                let tag = Tag {
                    stream: 1,
                    sequence,
                    intended_ns: 77,
                };
                let mut frame = vec![0; usize::from(shape.header_len()) + 16 + more];
                assert!(write_frame(shape, &headers, tag, &mut frame));
                for (at, bit) in flips {
                    *at.get_mut(&mut frame) ^= 1 << bit;
                }
                frame
            },
        )
}

proptest! {
    #[test]
    fn a_generated_frame_is_inspected_within_its_bounds(bytes in prop_oneof![4 => generated_frame(), 1 => made_of(300)]) {
        checks::inspect(&bytes);
    }
}

proptest! {
    // Each is a whole day of a worker.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_worker_loses_no_frame_and_gives_each_one_fate(bytes in made_of(2000)) {
        checks::worker(&bytes);
    }
}

/// What the properties above are worth: the frames that are made up reach every fate there is, both ways.
#[test]
fn what_is_made_up_reaches_every_fate() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(any::<u8>(), 600);
    let (mut fates, mut delivered, mut sent) = (HashSet::new(), [0; 2], [0; 2]);
    for _ in 0..6000 {
        let bytes = strategy.new_tree(&mut runner).expect("no filter").current();
        let mut choices = Choices::new(&bytes);
        let snapshot = table(&mut choices);
        let segment = &snapshot.segments[choices.below(snapshot.segments.len())];
        let six = usize::from(segment.config.local.is_ipv6());
        match twin::encap(segment, &frames::inner(&mut choices, segment)) {
            Ok(_) => sent[six] += 1,
            Err(reason) => drop(fates.insert(reason)),
        }
        match twin::decap(&snapshot, &frames::outer(&mut choices, &snapshot)) {
            Ok(found) => {
                let config = &snapshot.segments[found.segment].config;
                delivered[usize::from(config.local.is_ipv6())] += 1;
            }
            Err(reason) => drop(fates.insert(reason)),
        }
    }
    println!("delivered {delivered:?}, sent {sent:?}");
    assert!(delivered.iter().chain(&sent).all(|count| *count > 300));
    // Those that the kernel, a port or the worker's memory decide on.
    use DropReason::{
        AccessRingFull, FillRingEmpty, NoFrame, RxInvalid, RxRingFull, TxRingFull, WorkerStale,
    };
    let elsewhere = [
        AccessRingFull,
        FillRingEmpty,
        NoFrame,
        RxInvalid,
        RxRingFull,
        TxRingFull,
        WorkerStale,
    ];
    let expected = DropReason::ALL
        .iter()
        .filter(|reason| !elsewhere.contains(reason));
    let missing: Vec<_> = expected.filter(|reason| !fates.contains(reason)).collect();
    assert_eq!(missing, Vec::<&DropReason>::new());
}

/// And of the trains: most of what is made up is joined, and cut.
#[test]
fn what_is_made_up_is_joined_and_cut() {
    let mut runner = TestRunner::deterministic();
    let strategy = made_of(800);
    let (mut trains, mut alone, mut superframes, mut refused) = (0, 0, 0, 0);
    for _ in 0..200 {
        let bytes = strategy.new_tree(&mut runner).expect("no filter").current();
        for written in twin::join(&tcp::batch(&mut Choices::new(&bytes))) {
            *if written.frames > 1 {
                &mut trains
            } else {
                &mut alone
            } += 1;
        }
        let (header, frame) = tcp::from_tap(&mut Choices::new(&bytes));
        match twin::cut(&header, &frame, false) {
            Some(frames) if frames.len() > 1 => superframes += 1,
            Some(_) => {}
            None => refused += 1,
        }
    }
    println!("{trains} trains, {alone} alone, {superframes} superframes, {refused} refused");
    assert!(trains > 400 && alone > 400 && superframes > 40 && refused > 3);
}

/// And of the superframes that leave cut: enough of them leave, and enough do not.
#[test]
fn what_is_made_up_leaves_cut() {
    let mut runner = TestRunner::deterministic();
    let strategy = made_of(600);
    let (mut left, mut frames, mut dead) = (0, 0, 0);
    for _ in 0..600 {
        let bytes = strategy.new_tree(&mut runner).expect("no filter").current();
        match checks::encap_cut(&bytes) {
            Some(0) => dead += 1,
            Some(count) => (left, frames) = (left + 1, frames + count),
            None => {}
        }
    }
    println!("{left} superframes left as {frames} frames, {dead} did not");
    assert!(left > 30 && frames > 3 * left && dead > 30);
}
