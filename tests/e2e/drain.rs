//! `vxgate drain` and `resume`: the kernel carries the traffic, and vxgate takes it back, without a frame lost and whatever
//! happens meanwhile. And who may say so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::failover::{assert_carrying, assert_gaps, start, under_load};
use crate::support::http::get;
use crate::support::lab::{Lab, Node};
use crate::support::process;
use crate::support::stream::Stream;
use crate::support::vxgate::{BINARY, Superframes, Vxgate};
use crate::support::wait_until;
use crate::who::{ALWAYS_BY_RING, DIRECT_BY_XDP, Who, kinds};

/// For either command.
const GAP_MS: f64 = 50.0;
const BOUND: Duration = Duration::from_secs(10);
const NEW_MAC: &str = "0e:24:40:00:02:97";

#[test]
fn the_kernel_carries_until_it_is_resumed_and_nothing_is_lost_either_way() {
    let direct = kinds(ALWAYS_BY_RING);
    let direct = direct
        .into_iter()
        .map(|flags| (Who::Both, Superframes::Auto, flags));
    for (who, superframes, flags) in [
        (Who::Worker, Superframes::Auto, &[][..]),
        (Who::Worker, Superframes::Off, &[]),
        (Who::Both, Superframes::Auto, &[]),
        (Who::Both, Superframes::Auto, DIRECT_BY_XDP),
    ]
    .into_iter()
    .chain(direct)
    {
        let lab = Lab::alone();
        let gateways = start(&lab, who, superframes, flags);
        let what =
            format!("drain and resume, vxgate on {who:?}, superframes {superframes:?}, {flags:?}");
        let reports = under_load(&lab, &what, || {
            assert_carrying(&gateways);
            for (_, vxgate) in &gateways {
                let told = "drained: the kernel carries flannel.1; vxgate resume takes it back\n";
                assert_eq!(vxgate.tell(&["drain"]).printed(), told);
                let again = format!("already {told}");
                assert_eq!(vxgate.tell(&["drain"]).printed(), again);
            }
            for (node, vxgate) in &gateways {
                assert_drained(&lab, *node, vxgate);
            }
            for (_, vxgate) in &gateways {
                let told = "resumed: vxgate carries flannel.1\n";
                assert_eq!(vxgate.tell(&["resume"]).printed(), told);
                let ready = || get(&vxgate.metrics_socket(), "/readyz").status == 200;
                wait_until("it is ready again", BOUND, ready);
            }
            assert_carrying(&gateways);
        });
        assert_gaps(&reports, GAP_MS);
        for report in &reports {
            assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
        }
        for (_, vxgate) in gateways {
            let status = vxgate.balanced();
            assert_eq!(status.state(), "healthy", "{}", status.0);
            assert_eq!(status.0["takeovers"], 1, "it was one takeover all along");
            for role in ["underlay", "access"] {
                assert!(status.passed(role, "bypass") > 0, "{role}: {}", status.0);
            }
            vxgate.stop();
        }
    }
}

/// Says so everywhere, and forwards nothing: the kernel's own device does.
fn assert_drained(lab: &Lab, node: Node, vxgate: &Vxgate) {
    let by_kernel = || {
        let [received, sent] = lab.by_kernel(node);
        received.min(sent)
    };
    let forwarded = || {
        let status = vxgate.status();
        (status.forwarded("underlay"), status.forwarded("access"))
    };
    let direct = || vxgate.status().direct().map(|gear| (gear.out, gear.into));
    let (frames, gear, before) = (forwarded(), direct(), by_kernel());
    wait_until("the kernel carries, both ways", BOUND, || {
        by_kernel() > before + 300
    });
    assert_eq!(forwarded(), frames, "vxgate forwards nothing");
    assert_eq!(direct(), gear, "nor does its direct path");
    let status = vxgate.balanced();
    assert_eq!(status.state(), "drained", "{}", status.0);
    assert_eq!(status.0["drained"], true);
    let said = vxgate.tell(&["status"]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("DRAINED\n"), "{}", said.out);
    let ready = get(&vxgate.metrics_socket(), "/readyz");
    assert!(
        ready.status == 503 && ready.body.contains("drained"),
        "{ready:?}"
    );
    let metrics = get(&vxgate.metrics_socket(), "/metrics").body;
    let series = "vxgate_kernel_fallback_active{cause=\"drained\"} 1\n";
    assert!(metrics.contains(series), "{metrics}");
    assert_eq!(get(&vxgate.metrics_socket(), "/healthz").status, 200);
}

#[test]
fn what_happens_to_a_drained_one_leaves_the_traffic_to_the_kernel() {
    let lab = Lab::alone();
    let node = lab.node(Node::Worker);
    let ping = || {
        let target = lab.client_address(Node::Master);
        lab.client(Node::Worker)
            .run(&format!("ping -q -c 20 -i 0.01 -W 3 {target}"));
    };
    let mut vxgate = Vxgate::start(&node, &[]);
    vxgate.tell(&["drain"]).printed();
    ping();

    // Its access device goes, and so does its session; the next one is drained, too.
    let before = vxgate.status();
    node.run(&format!("ip link del {}", before.kernel_side()));
    let taken_again = |takeovers: u64| {
        wait_until("devices are taken over again", BOUND, || {
            let status = vxgate.status();
            status.0["takeovers"].as_u64() >= Some(takeovers)
                && status.list("devices").any(|one| one["taken_over"] == true)
        });
    };
    taken_again(2);
    ping();
    // The vxlan device goes and comes.
    lab.make_device_again(Node::Worker, NEW_MAC, &lab.vtep_address(Node::Worker));
    lab.add_lease(Node::Master, NEW_MAC, &lab.vtep_address(Node::Worker));
    taken_again(3);
    ping();
    let status = vxgate.balanced();
    assert_eq!(status.state(), "drained", "{}", status.0);
    assert_eq!(status.forwarded("underlay") + status.forwarded("access"), 0);

    // With no device at all, too; and one that comes is taken over at once when it is resumed before.
    node.run("ip link del flannel.1");
    wait_until("there is no session", BOUND, || {
        vxgate.status().list("ports").next().is_none()
    });
    let said = vxgate.tell(&["drain"]).printed();
    assert!(said.starts_with("already drained: the kernel carries no vxlan device"));
    let said = vxgate.tell(&["resume"]).printed();
    assert!(
        said.starts_with("resumed: vxgate carries no vxlan device\n"),
        "{said}"
    );
    lab.make_device_again(Node::Worker, NEW_MAC, &lab.vtep_address(Node::Worker));
    wait_until("it carries again", BOUND, || {
        let status = vxgate.status();
        status.list("devices").any(|one| one["taken_over"] == true)
    });
    let before = vxgate.status();
    ping();
    ping();
    vxgate.wait_forwarding("the pings go through vxgate", &before);

    // Killed while drained; and the next one is not drained.
    let said = vxgate.tell(&["drain", "--json"]).printed();
    let document: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (
            &document["schema"],
            &document["drained"],
            &document["in_flight"]
        ),
        (&"vxgate/1".into(), &true.into(), &0.into())
    );
    let (from, to) = (lab.client(Node::Worker), lab.client(Node::Master));
    let stream = Stream::start(
        "drained, killed",
        &from,
        &to,
        &lab.client_address(Node::Master),
    );
    ping();
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    ping();
    let report = stream.finish();
    assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
    vxgate = vxgate.start_next(&node, &[]);
    assert_eq!(vxgate.status().state(), "healthy");

    // Stopped while drained.
    vxgate.tell(&["drain"]).printed();
    let stream = Stream::start(
        "drained, stopped",
        &from,
        &to,
        &lab.client_address(Node::Master),
    );
    ping();
    vxgate.stop();
    ping();
    let report = stream.finish();
    assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
}

#[test]
fn everybody_who_can_connect_may_look_and_only_root_may_change() {
    let lab = Lab::alone();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    // Where nobody can execute what is in root's directory, a copy in a directory of its own.
    let folder = TempDir::with_prefix("vxgate-binary-").expect("a temporary directory");
    let copy = folder.path().join("vxgate");
    process::copy(BINARY, &copy);
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    open(folder.path(), 0o755);
    open(vxgate.socket(), 0o666);
    open(vxgate.socket().parent().expect("a folder"), 0o755);
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(&copy).args(words);
        let output = command.arg("--socket").arg(vxgate.socket()).output();
        let output = output.expect("util-linux is installed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    assert_eq!(as_nobody(&["status"]).0, Some(0));
    assert_eq!(as_nobody(&["log-level"]).0, Some(0));
    for words in [
        &["drain"][..],
        &["reload"],
        &["log-level", "debug"],
        &["capture"],
        &["observe"],
    ] {
        let (code, said) = as_nobody(words);
        assert_eq!(code, Some(5), "{words:?}: {said}");
        assert!(said.starts_with("error[VXG-0815]: "), "{words:?}: {said}");
    }
    assert_eq!(vxgate.status().state(), "healthy");
    // Whoever has no file has nothing to read again.
    let said = vxgate.tell(&["reload"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.starts_with("error[VXG-0610]: "), "{}", said.err);
    vxgate.stop();
}
