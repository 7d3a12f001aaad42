//! Trains of segments and superframes to both sites: whatever `vxgate` joins and cuts, on the wire and on the overlay there
//! are the same frames in the same order as with the kernel's device, which joins nothing here.
//!
//! On the overlay what was joined leaves through a port that takes no superframes: so it is cut again, and must be what it was
//! before, identifications and checksums included.

use std::time::Instant;

use super::compare::Pair;
use super::generate::chance;
use super::outer::Family;
use super::runs::seed;
use super::setting::{Overlay, Segment, Setting};
use super::site::Entry;
use super::support::frames::Random;
use super::support::vxgate::Superframes;
use super::train;

/// Over both directions.
const WINDOWS: usize = 300;
/// Where it is only to be seen that a setting makes no difference.
const WINDOWS_WITHOUT: usize = 60;
/// After so many, a run is over.
const DIFFERENCES_MAX: usize = 4;

fn run(setting: Setting, windows: usize) {
    let seed = seed();
    println!("trains [{setting}]: VXGATE_ORACLE_SEED={seed}, {windows} windows");
    let mut random = Random(seed);
    let mut pair = Pair::new(setting);
    let started = Instant::now();
    let mut frames = 0;
    for _ in 0..windows {
        let entry = [Entry::Wire, Entry::Wire, Entry::Bridge, Entry::Device][random.below(4)];
        let window = train::window(&mut random, entry, &setting);
        // Half of them all at once: a worker joins what it takes together.
        let at_once = chance(&mut random, 50);
        pair.agree_in_order(entry, &window, at_once);
        frames += window.iter().map(|input| input.count()).sum::<u64>();
        if pair.differences() >= DIFFERENCES_MAX {
            break;
        }
    }
    pair.settle();
    let status = pair.ours.status();
    if setting.superframes != Superframes::Off
        && status.device("vx1").expect("it is there")["superframes"]["on"] == true
    {
        // Or nothing has been compared.
        for role in ["underlay", "access"] {
            let frames = status.beyond_superframes(role);
            println!(
                "trains [{setting}]: from the {role} {frames} frames beyond one for each superframe"
            );
            assert!(frames > 0, "{}", status.0);
        }
    }
    println!(
        "trains [{setting}]: {frames} frames agree in {:.1?}",
        started.elapsed()
    );
}

const INHERIT: &str = "ttl inherit tos inherit df inherit";
const INHERIT6: &str = "ttl inherit tos inherit flowlabel inherit";

const fn routed(family: Family) -> Setting {
    const SEGMENTS: [&[Segment]; 2] = [&[Segment::over(Family::V4)], &[Segment::over(Family::V6)]];
    Setting {
        overlay: Overlay::Routed,
        ..Setting::of(SEGMENTS[family as usize], "")
    }
}

macro_rules! trains {
    ($($name:ident $setting:expr, $windows:expr;)*) => {
        $(#[test]
        fn $name() {
            run($setting, $windows);
        })*
    };
}

trains! {
    f06_trains_fare_as_in_the_kernel Setting::PLAIN, WINDOWS;
    f06_trains_over_ipv6_fare_as_in_the_kernel Setting::PLAIN6, WINDOWS;
    f06_trains_through_a_node_that_routes_fare_as_in_the_kernel routed(Family::V4), WINDOWS;
    f06_trains_through_a_node_that_routes_over_ipv6_fare_as_in_the_kernel
        routed(Family::V6), WINDOWS;
    f06_trains_of_a_device_that_inherits_fare_as_in_the_kernel Setting::with(INHERIT), WINDOWS;
    f06_trains_of_a_device_that_inherits_over_ipv6_fare_as_in_the_kernel
        Setting::with6(INHERIT6), WINDOWS;
    f06_trains_without_outer_checksums_fare_as_in_the_kernel Setting::with("noudpcsum"), WINDOWS;
    f06_trains_with_gbp_fare_as_in_the_kernel Setting::with("gbp"), WINDOWS;
    f06_trains_that_are_cut_here_fare_as_in_the_kernel Setting::PLAIN.cut(), WINDOWS;
    f06_trains_over_ipv6_that_are_cut_here_fare_as_in_the_kernel Setting::PLAIN6.cut(), WINDOWS;
    f06_trains_of_a_device_that_inherits_that_are_cut_here_fare_as_in_the_kernel
        Setting::with(INHERIT).cut(), WINDOWS_WITHOUT;
    f06_trains_without_superframes_fare_as_in_the_kernel
        Setting::PLAIN.without_superframes(), WINDOWS_WITHOUT;
    f06_trains_over_ipv6_without_superframes_fare_as_in_the_kernel
        Setting::PLAIN6.without_superframes(), WINDOWS_WITHOUT;
}
