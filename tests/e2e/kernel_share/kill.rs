//! When vxgate hangs or dies.

use nix::sys::signal::Signal;

use super::books::books;
use super::*;
use crate::support::vxgate::Vxgate;

#[test]
fn what_is_the_kernels_loses_nothing_when_vxgate_hangs_and_dies_and_the_rest_goes_on() {
    let site = Site::new("kill");
    site.flood("append", "10.0.1.2");
    let mut stations = site.stations();
    let mut carrier = Carrier::start(&site, true);
    // While it runs, so that descriptors for it are newer than those that a dying process has to close first.
    site.flood("append", "10.0.2.2");
    carrier.wait_kernel_keeps("all frames but those to 3 addresses");
    let mut vxgate = carrier.vxgate.take().expect("it was started");
    let forwarded = books(&vxgate.status()).forwarded;
    // Steered while vxgate lives, flooded by the kernel, sent by the kernel.
    let mut sent = [FAR1, BROADCAST, FAR2].map(|station| (station, Vec::new()));
    let mut go_on = |stations: &mut Stations| {
        for _ in 0..3 * FRAMES {
            for (station, numbers) in &mut sent {
                numbers.push(stations.send(station));
            }
            stations.listen();
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    go_on(&mut stations);
    assert!(books(&vxgate.status()).forwarded >= forwarded + u64::from(FRAMES));
    vxgate.signal(Signal::SIGSTOP);
    go_on(&mut stations);
    vxgate.signal(Signal::SIGCONT);
    go_on(&mut stations);
    vxgate.signal(Signal::SIGKILL);
    go_on(&mut stations);
    vxgate.wait();

    let [(_, steered), (_, flooded), (_, kernels)] = &sent;
    stations.assert_heard("flooded", flooded, &["far1", "far2"]);
    stations.assert_heard("the kernel's", kernels, &["far2"]);
    let last = &steered[steered.len() - FRAMES as usize..];
    stations.assert_heard("by the kernel after the end", last, &["far1"]);
    let (heard, again) = stations.heard("far1", steered);
    println!("    {heard} of {} steered frames heard", steered.len());
    assert_eq!(again, 0);
    // Frames for 200 ms of silence, and some that were on their way.
    assert!(heard as usize > steered.len() * 3 / 4, "{heard}");

    let next = Vxgate::start(&site.node, &[]);
    assert_eq!(next.status().state(), "healthy");
    next.stop();
}
