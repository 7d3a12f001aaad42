//! How wide the paths to VTEPs are.

use std::time::Duration;

use vxgate::control::Control;

use crate::lab;
use crate::lab::{Lab, Mirror, addr, run, until};

/// The MTU of a path, from a route's metric, is followed like the route itself; the narrowest path limits the segment, and a
/// limit that shrinks is told before the snapshot says so.
#[test]
fn p01_the_mtu_of_a_route_is_the_mtu_of_the_path() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    lab.fdb("add 02:00:00:00:00:02 dev vx1 dst 10.9.0.3 self permanent");
    let (mut mirror, told) = limited(&lab);
    let ifindex = lab.found("vx1").device.ifindex;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(ifindex, 1464)]);
    assert_eq!(path_mtu(&mut mirror, "10.9.0.2"), Some(1500));
    for (command, mtu) in [
        ("route add 10.9.0.2/32 dev u0 mtu lock 1300", 1300),
        ("route replace 10.9.0.2/32 dev u0 mtu 1400", 1400),
        ("route replace 10.9.0.2/32 dev u0 mtu 9000", 1500),
        ("route replace 10.9.0.2/32 dev u0 mtu 1200", 1200),
        ("route del 10.9.0.2/32 dev u0", 1500),
    ] {
        lab.in_a(command);
        until(command, || path_mtu(&mut mirror, "10.9.0.2") == Some(mtu));
        assert_eq!(path_mtu(&mut mirror, "10.9.0.3"), Some(1500));
        let limit = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(limit, Ok((ifindex, u32::from(mtu) - 36)), "{command}");
    }
    lab.in_a("link set u0 mtu 1280");
    until("the link's own MTU", || {
        path_mtu(&mut mirror, "10.9.0.3") == Some(1280)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1280 - 36))
    );
    let report = mirror.running.report();
    assert!(
        report.segments[0]
            .vteps
            .iter()
            .all(|vtep| vtep.path_mtu == 1280)
    );
}

/// What the kernel learns of a path it tells nobody: it is found out, and so is that it was forgotten.
#[test]
fn p08_a_learned_exception_is_found_out() {
    let lab = lab();
    // Two hops away, behind b, with a narrow link in between.
    lab.in_a("route add 10.99.0.0/24 via 10.9.0.2");
    lab.in_b("link add narrow mtu 1300 type veth peer name beyond");
    lab.in_b("addr add 10.99.0.1/24 dev narrow");
    lab.in_b("link set narrow up");
    lab.in_b("link set beyond up");
    lab.in_b("neigh add 10.99.0.9 lladdr 02:00:00:00:00:99 dev narrow nud permanent");
    run(&format!(
        "ip netns exec {} sysctl -qw net.ipv4.ip_forward=1",
        lab.b
    ));
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.99.0.9 self permanent");
    let (mut mirror, told) = limited(&lab);
    let ifindex = lab.found("vx1").device.ifindex;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(ifindex, 1464)]);
    // The first echo that is too long brings the router's word; nobody answers.
    let echo = format!(
        "ip netns exec {} ping -q -c 2 -i 0.2 -W 1 -M do -s 1400 10.99.0.9",
        lab.a
    );
    let mut words = echo.split(' ');
    std::process::Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    until("the exception is followed", || {
        path_mtu(&mut mirror, "10.99.0.9") == Some(1300)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1264))
    );
    lab.in_a("route flush cache");
    until("the exception is forgotten", || {
        path_mtu(&mut mirror, "10.99.0.9") == Some(1500)
    });
    assert_eq!(
        told.recv_timeout(Duration::from_secs(20)),
        Ok((ifindex, 1464))
    );
}

/// A mirror of vx1, and what it says about the length of frames.
fn limited(lab: &Lab) -> (Mirror, std::sync::mpsc::Receiver<(u32, u32)>) {
    let (sender, told) = std::sync::mpsc::channel();
    let control = Control::open(&[lab.found("vx1")], &[]).unwrap();
    let control = control.with_frame_limits(move |ifindex, bytes| {
        sender.send((ifindex, bytes)).ok();
    });
    (Mirror::start(control), told)
}

fn path_mtu(mirror: &mut Mirror, vtep: &str) -> Option<u16> {
    let segment = &mirror.reader.snapshot().segments[0];
    let vtep = segment
        .vteps
        .iter()
        .find(|known| known.key.addr == addr(vtep))?;
    Some(vtep.path_mtu)
}
