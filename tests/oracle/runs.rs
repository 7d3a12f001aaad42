//! Random frames from a seed that is printed, for one setting after the other.

use std::time::Instant;

use super::compare::{Pair, WINDOW};
use super::generate;
use super::outer::Family;
use super::setting::{Segment, Setting};
use super::site::Entry;
use super::support::frames::Random;

/// Over both directions.
const FRAMES: usize = 240_000;
const FRAMES6: usize = 60_000;
/// Where superframes are cut before `vxgate` sees them, and the frames are as those of the runs above.
const FRAMES_WITHOUT: usize = 30_000;
const FRAMES_OF_A_SETTING: usize = 6_000;
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

pub fn seed() -> u64 {
    number("VXGATE_ORACLE_SEED").unwrap_or(USUAL_SEED)
}

fn frames(usual: usize) -> usize {
    number("VXGATE_ORACLE_FRAMES").map_or(usual, |frames| frames as usize)
}

fn run(setting: Setting, frames: usize) {
    let seed = seed();
    let what = setting.to_string();
    println!("oracle run [{what}]: VXGATE_ORACLE_SEED={seed}, {frames} frames");
    let mut random = Random(seed);
    let mut pair = Pair::new(setting);
    let started = Instant::now();
    let mut sent = 0;
    while sent < frames && pair.differences() < DIFFERENCES_MAX {
        let entry = [Entry::Wire, Entry::Wire, Entry::Bridge, Entry::Device][random.below(4)];
        let window: Vec<_> = (0..WINDOW)
            .map(|_| generate::frame(&mut random, entry, &setting))
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

#[test]
fn random_frames_over_ipv6_fare_as_in_the_kernel() {
    run(Setting::PLAIN6, frames(FRAMES6));
}

#[test]
fn random_frames_without_superframes_fare_as_in_the_kernel() {
    run(Setting::PLAIN.without_superframes(), frames(FRAMES_WITHOUT));
}

#[test]
fn random_frames_over_ipv6_without_superframes_fare_as_in_the_kernel() {
    run(
        Setting::PLAIN6.without_superframes(),
        frames(FRAMES_WITHOUT),
    );
}

macro_rules! setting_runs {
    ($($name:ident $setting:expr;)*) => {
        /// The device with each attribute that shapes a frame, and each way to be known.
        const SETTINGS: &[Setting] = &[$($setting),*];

        $(#[test]
        fn $name() {
            const SETTING: Setting = $setting;
            run(SETTING, FRAMES_OF_A_SETTING);
        })*
    };
}

const fn with(attributes: &'static str) -> Setting {
    Setting::with(attributes)
}

const fn with6(attributes: &'static str) -> Setting {
    Setting::with6(attributes)
}

const fn source_ports(setting: Setting, low: u16, high: u16) -> Setting {
    Setting {
        source_ports: (low, high),
        ..setting
    }
}

/// A device over IPv4 with another VNI or port than the usual ones.
macro_rules! known_as {
    ($family:ident vni $vni:literal port $port:literal) => {
        Setting::of(&[segment(Family::$family, $vni, $port)], "")
    };
}

const fn segment(family: Family, vni: u32, port: u16) -> Segment {
    Segment { family, vni, port }
}

/// On a link that takes no full frame of the device.
const fn narrow(setting: Setting) -> Setting {
    Setting {
        link_mtu: 1400,
        ..setting
    }
}

/// With frames that take several buffers.
const fn jumbo(setting: Setting) -> Setting {
    Setting {
        overlay_mtu: 8900,
        link_mtu: 9000,
        ..setting
    }
}

/// Devices side by side.
const fn several(segments: &'static [Segment]) -> Setting {
    Setting::of(segments, "")
}

const USUAL: Segment = Segment::over(Family::V4);
const USUAL6: Segment = Segment::over(Family::V6);

setting_runs! {
    d14_ttl_fixed_fares_as_in_the_kernel with("ttl 7");
    d14_ttl_inherit_fares_as_in_the_kernel with("ttl inherit");
    d14_ttl_auto_fares_as_in_the_kernel with("ttl auto");
    d14_tos_fixed_fares_as_in_the_kernel with("tos 0xb8");
    d14_tos_inherit_fares_as_in_the_kernel with("tos inherit");
    d09_df_set_fares_as_in_the_kernel with("df set");
    d09_df_inherit_fares_as_in_the_kernel with("df inherit");
    d07_noudpcsum_fares_as_in_the_kernel with("noudpcsum");
    d14_all_inherit_fares_as_in_the_kernel with("ttl inherit tos inherit df inherit noudpcsum");
    v09_remote_fares_as_in_the_kernel with("remote 10.98.0.4");
    v10_group_fares_as_in_the_kernel with("group 239.9.9.9");
    v02_gbp_fares_as_in_the_kernel with("gbp");
    v02_gbp_over_ipv6_fares_as_in_the_kernel with6("gbp");
    d06_srcport_fares_as_in_the_kernel source_ports(with("srcport 50000 50100"), 50_000, 50_099);
    d14_ttl_fixed_over_ipv6_fares_as_in_the_kernel with6("ttl 7");
    d14_ttl_inherit_over_ipv6_fares_as_in_the_kernel with6("ttl inherit");
    d14_ttl_auto_over_ipv6_fares_as_in_the_kernel with6("ttl auto");
    d14_tos_fixed_over_ipv6_fares_as_in_the_kernel with6("tos 0xb8");
    d14_tos_inherit_over_ipv6_fares_as_in_the_kernel with6("tos inherit");
    d17_flowlabel_fixed_fares_as_in_the_kernel with6("flowlabel 0x12345");
    d17_flowlabel_inherit_fares_as_in_the_kernel with6("flowlabel inherit");
    u02_udp6zerocsumtx_fares_as_in_the_kernel with6("udp6zerocsumtx");
    u02_udp6zerocsumrx_fares_as_in_the_kernel with6("udp6zerocsumrx");
    u02_udp6zerocsum_both_ways_fares_as_in_the_kernel with6("udp6zerocsumtx udp6zerocsumrx");
    d07_noudpcsum_means_nothing_over_ipv6 with6("noudpcsum");
    d15_udp6zerocsum_means_nothing_over_ipv4 with("udp6zerocsumtx udp6zerocsumrx");
    d09_df_means_nothing_over_ipv6 with6("df set");
    d14_all_inherit_over_ipv6_fares_as_in_the_kernel
        with6("ttl inherit tos inherit flowlabel inherit udp6zerocsumtx udp6zerocsumrx");
    v09_remote_over_ipv6_fares_as_in_the_kernel with6("remote fd98::4");
    v10_group_over_ipv6_fares_as_in_the_kernel with6("group ff05::99");
    d06_srcport_over_ipv6_fares_as_in_the_kernel
        source_ports(with6("srcport 50000 50100"), 50_000, 50_099);
    p04_a_narrow_link_fares_as_in_the_kernel narrow(with(""));
    p02_a_narrow_link_with_df_set_fares_as_in_the_kernel narrow(with("df set"));
    p02_a_narrow_link_with_df_inherit_fares_as_in_the_kernel narrow(with("df inherit"));
    p05_a_narrow_link_over_ipv6_fares_as_in_the_kernel narrow(with6(""));
    g01_jumbo_frames_fare_as_in_the_kernel jumbo(with(""));
    g01_jumbo_frames_over_ipv6_fare_as_in_the_kernel jumbo(with6(""));
    g01_jumbo_frames_with_marks_fare_as_in_the_kernel jumbo(with("gbp"));
    v03_vni_0_fares_as_in_the_kernel known_as!(V4 vni 0 port 8472);
    v03_vni_1_fares_as_in_the_kernel known_as!(V4 vni 1 port 8472);
    v03_vni_800000_fares_as_in_the_kernel known_as!(V4 vni 0x80_0000 port 8472);
    v03_vni_ffffff_fares_as_in_the_kernel known_as!(V6 vni 0xff_ffff port 8472);
    v04_port_4789_fares_as_in_the_kernel known_as!(V4 vni 1000 port 4789);
    v04_port_4789_over_ipv6_fares_as_in_the_kernel known_as!(V6 vni 1 port 4789);
    d13_two_vnis_on_one_port_fare_as_in_the_kernel several(&[USUAL, segment(Family::V4, 1001, 8472)]);
    v04_two_ports_fare_as_in_the_kernel several(&[USUAL, segment(Family::V4, 1001, 4789)]);
    v04_one_vni_on_two_ports_fares_as_in_the_kernel several(&[USUAL, segment(Family::V4, 1000, 4789)]);
    v04_one_vni_and_port_over_both_families_fares_as_in_the_kernel several(&[USUAL, USUAL6]);
    v04_four_devices_fare_as_in_the_kernel
        several(&[USUAL6, segment(Family::V6, 0, 4789), segment(Family::V4, 0xff_ffff, 8472), USUAL]);
}

/// For campaigns: with `VXGATE_ORACLE_SEED` given, every setting in turn by the seed.
#[test]
fn a_device_by_the_seed_fares_as_in_the_kernel() {
    let setting = SETTINGS[seed() as usize % SETTINGS.len()];
    run(setting, frames(FRAMES_OF_A_SETTING));
}
