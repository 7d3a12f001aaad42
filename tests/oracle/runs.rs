//! Random frames from a seed that is printed, for one set of device attributes after the other.

use std::time::Instant;

use super::compare::{Pair, WINDOW};
use super::generate;
use super::site::{Entry, Setting};
use super::support::frames::Random;

/// Over both directions.
const FRAMES: usize = 240_000;
const FRAMES_OF_AN_ATTRIBUTE: usize = 10_000;
/// After so many, a run is over.
const DIFFERENCES_MAX: usize = 8;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// The suite's own, so that it judges the same frames every time; campaigns bring another (`scripts/oracle.sh`).
const USUAL_SEED: u64 = 8472;

fn seed() -> u64 {
    number("VXGATE_ORACLE_SEED").unwrap_or(USUAL_SEED)
}

fn frames(usual: usize) -> usize {
    number("VXGATE_ORACLE_FRAMES").map_or(usual, |frames| frames as usize)
}

fn run(setting: Setting, frames: usize) {
    let seed = seed();
    let what = setting.attributes;
    println!("oracle run [{what}]: VXGATE_ORACLE_SEED={seed}, {frames} frames");
    let mut random = Random(seed);
    let mut pair = Pair::new(setting);
    let started = Instant::now();
    let mut sent = 0;
    while sent < frames && pair.differences() < DIFFERENCES_MAX {
        let entry = [Entry::Wire, Entry::Wire, Entry::Bridge, Entry::Device][random.below(4)];
        let window: Vec<_> = (0..WINDOW)
            .map(|_| generate::frame(&mut random, entry))
            .collect();
        pair.agree(entry, &window);
        sent += window.len();
    }
    pair.settle();
    let (flows, ports) = pair.spread();
    println!(
        "oracle run [{what}]: {sent} frames agree in {:.1?}; {flows} flows, {ports} source ports",
        started.elapsed()
    );
}

#[test]
fn random_frames_fare_as_in_the_kernel() {
    run(Setting::PLAIN, frames(FRAMES));
}

macro_rules! attribute_runs {
    ($($name:ident $attributes:literal;)*) => {
        /// The device with each attribute that shapes a frame.
        const ATTRIBUTES: &[&str] = &[$($attributes),*];

        $(#[test]
        fn $name() {
            run(Setting::with($attributes), FRAMES_OF_AN_ATTRIBUTE);
        })*
    };
}

attribute_runs! {
    d14_ttl_fixed_fares_as_in_the_kernel "ttl 7";
    d14_ttl_inherit_fares_as_in_the_kernel "ttl inherit";
    d14_ttl_auto_fares_as_in_the_kernel "ttl auto";
    d14_tos_fixed_fares_as_in_the_kernel "tos 0xb8";
    d14_tos_inherit_fares_as_in_the_kernel "tos inherit";
    d09_df_set_fares_as_in_the_kernel "df set";
    d09_df_inherit_fares_as_in_the_kernel "df inherit";
    d07_noudpcsum_fares_as_in_the_kernel "noudpcsum";
    d14_all_inherit_fares_as_in_the_kernel "ttl inherit tos inherit df inherit noudpcsum";
    v09_remote_fares_as_in_the_kernel "remote 10.98.0.4";
}

#[test]
fn d06_srcport_fares_as_in_the_kernel() {
    let setting = Setting {
        attributes: "srcport 50000 50100",
        source_ports: (50_000, 50_099),
    };
    run(setting, FRAMES_OF_AN_ATTRIBUTE);
}

/// For campaigns: with `VXGATE_ORACLE_SEED` given, every set of attributes in turn by the seed.
#[test]
fn a_device_by_the_seed_fares_as_in_the_kernel() {
    let attributes = ATTRIBUTES[seed() as usize % ATTRIBUTES.len()];
    run(Setting::with(attributes), frames(FRAMES_OF_AN_ATTRIBUTE));
}
