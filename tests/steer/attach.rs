//! Taking hooks and giving them back: to nobody else's harm, and without a trace.

use caps::{CapSet, Capability};
use libbpf_sys as sys;
use vxgate::fault;
use vxgate::steer::{AccessPair, Error, Steering, remove_leftovers};

use crate::access::{be_victim, kill_after};
use crate::scene::{MINUTE, PATIENCE, Scene, Steered, link, plan};
use crate::support::wait_until;

/// How many tcx programs a device of the calling thread's namespace has on one side.
fn tcx_programs(ifindex: u32, side: sys::bpf_attach_type) -> u32 {
    let mut options = sys::bpf_prog_query_opts {
        sz: size_of::<sys::bpf_prog_query_opts>() as u64,
        ..Default::default()
    };
    // SAFETY: the structure lives through the call and tells its own size.
    let asked = unsafe { sys::bpf_prog_query_opts(ifindex.cast_signed(), side, &raw mut options) };
    assert_eq!(asked, 0);
    // SAFETY: either name of this field is a plain number.
    unsafe { options.__bindgen_anon_1.count }
}

/// Programs on the underlay, the worker side, the kernel side and the vxlan device.
fn programs(scene: &Scene, steered: &Steered) -> [u32; 4] {
    let xdp = |device: &str| u32::from(xdp_id(scene, device).is_some());
    [
        xdp("eth1"),
        xdp(&steered.pair.worker_side.name),
        tcx_programs(steered.pair.kernel_side.ifindex, sys::BPF_TCX_INGRESS),
        tcx_programs(steered.device.ifindex, sys::BPF_TCX_EGRESS),
    ]
}

fn xdp_id(scene: &Scene, device: &str) -> Option<u64> {
    scene.link(device)["xdp"]["prog"]["id"].as_u64()
}

fn has_clsact(scene: &Scene) -> bool {
    let qdiscs = scene.node.run("tc qdisc show dev flannel.1");
    qdiscs.contains("clsact")
}

fn filters(scene: &Scene) -> String {
    scene.node.run("tc filter show dev flannel.1 egress")
}

#[test]
fn detach_and_drop_leave_no_program() {
    let scene = Scene::new("detach", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        assert_eq!(
            programs(&scene, &steered),
            [0; 4],
            "loading attaches nothing"
        );
        steered.steering.attach().unwrap();
        assert_eq!(programs(&scene, &steered), [1; 4]);
        steered.steering.detach();
        assert_eq!(programs(&scene, &steered), [0; 4]);
        steered.steering.attach().unwrap();
        assert_eq!(programs(&scene, &steered), [1; 4], "and again");

        let Steered {
            steering,
            pair,
            nic,
            device,
        } = steered;
        drop(steering);
        let (again, nothing) = (plan(1, &nic, &device, &pair), [0; 4]);
        let steered = Steered {
            steering: Steering::load(&again).unwrap(),
            pair,
            nic,
            device,
        };
        assert_eq!(programs(&scene, &steered), nothing);
        assert!(
            !scene
                .node
                .run("tc qdisc show dev flannel.1")
                .contains("clsact")
        );
    });
}

#[test]
fn a_foreign_program_is_refused_by_number_and_name_and_stays() {
    for (name, mtu, mode) in [
        ("foreign-drv", 1500, "xdp"),
        ("foreign-skb", 9000, "xdpgeneric"),
    ] {
        let scene = Scene::new(name, 1, mtu);
        scene.node.enter(|| {
            let mut first = Steered::load(1);
            first.steering.attach().unwrap();
            let id = xdp_id(&scene, "eth1").unwrap();
            let mut second = Steered::load(1);
            let error = second.steering.attach().unwrap_err();
            assert!(matches!(error, Error::ForeignProgram { .. }), "{error}");
            let words = fault::line(&error);
            assert!(
                words.starts_with(&format!(
                    "eth1 already runs another XDP program (id {id}, vxgate_underlay)"
                )),
                "{words}"
            );
            assert!(
                words.contains(&format!("`ip link set dev eth1 {mode} off`")),
                "{words}"
            );
            drop(second);
            assert_eq!(xdp_id(&scene, "eth1"), Some(id));
        });
    }
}

#[test]
fn a_plan_that_the_programs_cannot_do_is_refused_with_a_reason() {
    let scene = Scene::new("plan", 1, 1500);
    scene.node.enter(|| {
        let pair = AccessPair::create("flannel.1", 1450, 1).unwrap();
        let good = plan(1, &link("eth1"), &link("flannel.1"), &pair);
        let refusal = |change: &dyn Fn(&mut vxgate::steer::SteerPlan)| {
            let mut plan = good.clone();
            change(&mut plan);
            match Steering::load(&plan) {
                Ok(_) => panic!("loaded"),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(
            refusal(&|plan| plan.workers = 0),
            "cannot steer: 0 workers: 1 to 64 are possible"
        );
        assert_eq!(
            refusal(&|plan| plan.workers = 65),
            "cannot steer: 65 workers: 1 to 64 are possible"
        );
        assert_eq!(
            refusal(&|plan| {
                plan.nics.clear();
                plan.devices.clear();
            }),
            "cannot steer: there is no device"
        );
        let mut gone = good.clone();
        gone.nics[0].ifindex = 9999;
        let error = Steering::load(&gone)
            .unwrap()
            .attach()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot attach vxgate_underlay to eth1"),
            "{error}"
        );
    });
}

#[test]
fn without_tcx_a_filter_steers_and_goes_with_its_owner() {
    let scene = Scene::new("clsact", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        steered.steering = steered.steering.without_tcx();
        let mut receiver = steered.open_worker_side(0);
        steered.steering.attach().unwrap();
        assert_eq!(programs(&scene, &steered), [1, 1, 0, 0], "no tcx");
        assert!(filters(&scene).contains("vxgate_egress"));
        assert_eq!(remove_leftovers().unwrap(), [""; 0], "its owner lives");
        assert!(steered.steering.is_attached());

        steered.heartbeats(1, MINUTE);
        let socket = std::net::UdpSocket::bind("10.244.0.0:9").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"out", "10.244.1.0:9").unwrap();
        assert!(receiver.wait_for(1)[0].ends_with(b"out"));
        let inside = scene.frame().bytes(b"in");
        scene
            .raw_on(&steered.pair.worker_side.name)
            .send(&inside[crate::support::frames::offset::INNER..]);
        let mut bytes = [0; 10];
        assert_eq!(socket.recv(&mut bytes).unwrap(), 2);

        // Without an owner's heartbeat it leaves every frame to the kernel.
        steered.heartbeats(1, -MINUTE / 60);
        let wire = scene.raw_on_wire();
        socket.send_to(b"by the kernel", "10.244.1.0:9").unwrap();
        wait_until("the frame on the wire", PATIENCE, || {
            wire.receive()
                .is_some_and(|frame| frame.ends_with(b"by the kernel"))
        });
        steered.steering.detach();
        assert_eq!(filters(&scene), "");
        assert!(!has_clsact(&scene), "it went with our filter");

        scene.node.run("tc qdisc add dev flannel.1 clsact");
        steered.steering.attach().unwrap();
        steered.steering.detach();
        assert!(has_clsact(&scene), "it is somebody else's");

        steered.steering.attach().unwrap();
        scene.node.run("tc qdisc del dev flannel.1 clsact");
        assert!(!steered.steering.is_attached(), "somebody removed it");
    });
}

/// A heartbeat from the future, and a filter instead of a link, which the kernel would drop: nothing but the lifeline is
/// left to tell that the process died.
#[test]
fn a_filter_that_a_killed_process_left_steers_nothing_and_is_removed() {
    let attach = || {
        let mut steered = Steered::load(1);
        steered.steering = steered.steering.without_tcx();
        steered.heartbeats(1, MINUTE);
        steered.steering.attach().unwrap();
        steered
    };
    if be_victim(attach) {
        return;
    }
    let scene = Scene::new("filter", 1, 1500);
    // Somebody else's filter, which is none of our business.
    scene.node.run("tc qdisc add dev flannel.1 clsact");
    scene
        .node
        .run("tc filter add dev flannel.1 egress protocol ip prio 7 u32 match ip dst 192.0.2.9/32 classid 1:1");
    scene.node.enter(|| {
        let made = || filters(&scene).contains("vxgate_egress");
        let socket = std::net::UdpSocket::bind("10.244.0.0:0").unwrap();
        let send = || socket.send_to(b"to the pod", "10.244.1.0:9").unwrap();
        kill_after(
            "attach::a_filter_that_a_killed_process_left_steers_nothing_and_is_removed",
            &scene,
            made,
            || {
                assert_eq!(remove_leftovers().unwrap(), [""; 0], "its owner lives");
                assert!(made());
                wait_until("a steered frame", PATIENCE, || {
                    send();
                    scene.link("vxg0")["stats64"]["tx"]["packets"] != 0
                        || scene.link("vxg0")["stats64"]["tx"]["dropped"] != 0
                });
            },
        );
        let wire = scene.raw_on_wire();
        wait_until("a frame of the kernel's own", PATIENCE, || {
            send();
            wire.receive()
                .is_some_and(|frame| frame.ends_with(b"to the pod"))
        });
        assert_eq!(
            remove_leftovers().unwrap(),
            ["vxg0", "clsact filter on flannel.1"]
        );
        let left = filters(&scene);
        assert!(!left.contains("vxgate") && left.contains("u32"), "{left}");
        assert_eq!(remove_leftovers().unwrap(), [""; 0]);
    });
}

#[test]
fn a_missing_capability_is_named() {
    let scene = Scene::new("caps", 1, 1500);
    scene.node.enter(|| {
        let pair = AccessPair::create("flannel.1", 1450, 1).unwrap();
        let plan = plan(1, &link("eth1"), &link("flannel.1"), &pair);
        // Capabilities belong to a thread.
        let load = || {
            for capability in [Capability::CAP_BPF, Capability::CAP_SYS_ADMIN] {
                caps::drop(None, CapSet::Effective, capability).unwrap();
            }
            Steering::load(&plan).err().map(|error| fault::line(&error))
        };
        let error = std::thread::scope(|scope| scope.spawn(load).join().unwrap());
        let error = error.expect("the kernel refuses");
        assert!(
            error.contains("grant CAP_BPF and CAP_NET_ADMIN") && error.ends_with("(VXG-0302)"),
            "{error}"
        );
    });
}
