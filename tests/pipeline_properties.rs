//! The properties of the data path on random tables and frames, as proptest makes them up: the same checks as the fuzz
//! targets' (`tests/fuzz/checks`), with other bytes on every run, and shrunk to the shortest that fails.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

#[path = "fuzz/checks/mod.rs"]
mod checks;
mod rig;

use rig::choices::Choices;
use rig::table::table;
use rig::{frames, twin};
use vxgate::stats::{Direction, DropReason};

/// What a table and some frames are made of. Bytes of 0 are the plain case, so that half of them are.
fn made_of(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

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
    fn a_worker_loses_no_frame_and_gives_each_one_fate(bytes in made_of(2000)) {
        checks::worker(&bytes);
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
    fn netlink_messages_are_taken_apart_within_their_bounds(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        checks::netlink(&bytes);
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
            Ok((segment, _)) => {
                delivered[usize::from(snapshot.segments[segment].config.local.is_ipv6())] += 1
            }
            Err(reason) => drop(fates.insert(reason)),
        }
    }
    println!("delivered {delivered:?}, sent {sent:?}");
    assert!(delivered.iter().chain(&sent).all(|count| *count > 300));
    // Those that the pipeline does not decide on, but the kernel or a port.
    let elsewhere = [DropReason::WorkerStale, DropReason::AccessRingFull];
    let expected = DropReason::ALL.iter().filter(|reason| {
        let decided = reason.direction() != Direction::Both
            || **reason == DropReason::Oversize
            || **reason == DropReason::LinkDown;
        decided && !elsewhere.contains(reason)
    });
    let missing: Vec<_> = expected.filter(|reason| !fates.contains(reason)).collect();
    assert_eq!(missing, Vec::<&DropReason>::new());
}
