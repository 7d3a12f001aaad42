//! Metrics and health as machines see them: by bare sockets, by `promtool`, and by a Prometheus that scrapes.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::refused;
use crate::drops::{PAYLOAD, PORT, from_the_master, to_the_master};
use crate::pod::Pod;
use crate::support::frames::RawSocket;
use crate::support::hang::Hang;
use crate::support::http::{Answer, encoded, get, try_get_tcp};
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;

const FRAMES: u64 = 1000;
/// A ring of 256 frames holds them all, however late its reader is.
const BURST: u64 = 200;
const BOUND: Duration = Duration::from_secs(10);
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/monitoring");

#[test]
fn a_thousand_frames_move_the_counters_by_a_thousand_and_prove_that_it_forwards() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // The kernel's own multicast (neighbour discovery) would be counted among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    let vxgate = Vxgate::start(&node, &[]);
    let socket = vxgate.metrics_socket();
    // Without a listener the pod would answer.
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let (decap, encap) = (
        r#"vxgate_forwarded_packets_total{port="eth1",direction="decap"}"#,
        r#"vxgate_forwarded_packets_total{port="flannel.1",direction="encap"}"#,
    );
    let moves = |series: &str, send: &dyn Fn()| {
        for sent in (0..=FRAMES).step_by(BURST as usize) {
            wait_until(&format!("{series} is {sent}"), BOUND, || {
                sample(&scrape(&socket), series) == Some(sent as f64)
            });
            if sent < FRAMES {
                (0..BURST).for_each(|_| send());
            }
        }
    };
    let ready = get(&socket, "/readyz");
    assert_eq!(
        (ready.status, ready.body.lines().count()),
        (503, 2),
        "{ready:?}"
    );
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = from_the_master(&lab).bytes(PAYLOAD);
    moves(decap, &|| wire.send(&good));
    let ready = get(&socket, "/readyz");
    assert!(
        ready.status == 503 && ready.body.contains("from a vxlan device to the underlay"),
        "one way is not both: {ready:?}"
    );
    let device = RawSocket::open(&node, "flannel.1");
    let good = to_the_master(&lab);
    moves(encap, &|| device.send(&good));
    let stranger = r#"vxgate_drops_total{port="eth1",reason="unknown_peer",direction="rx"}"#;
    let mut strange = from_the_master(&lab);
    strange.outer[0] = [10, 0, 0, 100].into();
    moves(stranger, &|| wire.send(&strange.bytes(PAYLOAD)));
    for path in ["/readyz", "/healthz"] {
        assert_eq!(get(&socket, path).status, 200, "{path}");
    }

    hostile_clients(&socket);
    wait_until("metrics and status tell the same", BOUND, || {
        let complaint = differences(&vxgate.balanced(), &scrape(&socket));
        println!(
            "    {}",
            complaint
                .as_deref()
                .unwrap_or("metrics and status tell the same")
        );
        complaint.is_none()
    });
    promtool(&["check", "metrics"], &scrape(&socket));
    vxgate.stop();
}

/// Some that say nothing, and one that does not come to an end.
fn hostile_clients(socket: &Path) {
    let connect = || UnixStream::connect(socket).expect("it listens");
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    let mut endless = connect();
    // It is told so, or thrown out before it has said all.
    let _ = endless.write_all(&vec![b'x'; 1 << 20]);
    assert_eq!(get(socket, "/healthz").status, 200);
    assert_eq!(get(socket, "/nonsense").status, 404);
    drop(silent);
}

/// What the metrics say otherwise than the status, if anything.
fn differences(status: &Status, page: &str) -> Option<String> {
    let mut expected = Vec::new();
    for port in status.list("ports") {
        let name = port["name"].as_str().expect("a name");
        let (way, direction) = match port["role"].as_str() {
            Some("underlay") => ("decap", "rx"),
            _ => ("encap", "tx"),
        };
        expected.push((
            format!(r#"vxgate_packets_total{{port="{name}",direction="rx"}}"#),
            &port["received"],
        ));
        for (family, key) in [
            ("forwarded_packets_total", "forwarded"),
            ("forwarded_bytes_total", "forwarded_bytes"),
            ("flood_copies_total", "flood_copies"),
            ("flood_copies_lost_total", "flood_copies_lost"),
            ("inner_checksums_completed_total", "checksums_completed"),
            ("superframes_total", "superframes"),
            ("superframe_segments_total", "segments"),
            ("strangers_delivered_total", "strangers_delivered"),
        ] {
            let series = format!(r#"vxgate_{family}{{port="{name}",direction="{way}"}}"#);
            expected.push((series, &port[key]));
        }
        let of = |part: &'static str| {
            let counts = port[part].as_object().expect("counts").iter();
            counts.filter(|(reason, _)| *reason != "total")
        };
        for (reason, count) in of("passed") {
            let series =
                format!(r#"vxgate_passed_packets_total{{port="{name}",reason="{reason}"}}"#);
            expected.push((series, count));
        }
        for (reason, count) in of("drops") {
            let series = format!(
                r#"vxgate_drops_total{{port="{name}",reason="{reason}",direction="{direction}"}}"#
            );
            // What cannot happen there has no series.
            if count.as_u64() != Some(0) || sample(page, &series).is_some() {
                expected.push((series, count));
            }
        }
    }
    for device in status
        .list("devices")
        .filter(|device| device["taken_over"] == true)
    {
        for table in ["fdb", "flood"] {
            let series = format!(r#"vxgate_table_entries{{table="{table}"}}"#);
            expected.push((series, &device[&format!("{table}_entries")]));
        }
    }
    assert!(expected.len() > 60, "{expected:?}");
    let differs = |(series, count): (String, &Value)| {
        let shown = sample(page, &series);
        (shown != count.as_f64()).then(|| format!("{series}: {shown:?}, not {count}"))
    };
    expected.into_iter().find_map(differs)
}

#[test]
fn what_is_in_the_way_of_the_metrics_is_told_before_anything_is_taken_over() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let run = |place: &str, words: &[&str]| {
        refused(&node, &[], &["run", "--metrics-listen", place], words);
    };
    run(
        "9472",
        &["--metrics-listen '9472'", "did you mean \"127.0.0.1:9472\""],
    );
    run(
        "10.0.0.99:9472",
        &["10.0.0.99:9472", "no device", "--metrics-listen"],
    );
    let other = node.enter(|| TcpListener::bind("127.0.0.1:9472").expect("it is free"));
    run("127.0.0.1:9472", &["127.0.0.1:9472 is in use", "ss -ltnp"]);
    drop(other);
    let first = Vxgate::start(&node, &[]);
    let place = first.metrics_socket();
    run(
        place.to_str().expect("UTF-8"),
        &["another process serves", "control.metrics.sock"],
    );
    assert_eq!(
        get(&place, "/healthz").status,
        200,
        "the first one is unharmed"
    );
    first.stop();
    let silent = Vxgate::start(&node, &["--metrics-listen", "off"]);
    assert!(!silent.metrics_socket().exists());
    silent.stop();
}

#[test]
fn the_alert_rules_pass_their_tests() {
    let file = |name: &str| format!("{FOLDER}/{name}");
    promtool(&["check", "rules", &file("alerts.yml")], "");
    promtool(&["test", "rules", &file("alerts_test.yml")], "");
}

/// The dashboard's and the alerts' queries mean something to a real Prometheus, and a worker that hangs is told.
#[test]
fn a_prometheus_that_scrapes_can_answer_the_dashboard_and_tells_of_a_worker_that_hangs() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &["--metrics-listen", "127.0.0.1:9472"]);
    let ask = |path: &str| {
        let addr = SocketAddr::from(([127, 0, 0, 1], 9472));
        try_get_tcp(&node, addr, path).unwrap_or_else(|why| panic!("{why}"))
    };
    let prometheus = Prometheus::start(&node);
    lab.client(Node::Worker).run(&format!(
        "ping -q -c 20 -i 0.01 -W 3 {}",
        lab.client_address(Node::Master)
    ));
    wait_until("it is ready", BOUND, || ask("/readyz").status == 200);
    wait_until(
        "three scrapes of a ready gateway",
        Duration::from_secs(20),
        || {
            !prometheus
                .query("sum_over_time(vxgate_ready[1m]) >= 3")
                .is_empty()
        },
    );
    for query in dashboard_queries() {
        assert!(
            !prometheus.query(&query).is_empty(),
            "nothing answers {query}"
        );
    }
    wait_until("every rule has been evaluated", BOUND, || {
        let rules = prometheus.rules();
        assert!(rules.len() >= 10, "{rules:?}");
        assert!(
            rules.iter().all(|rule| rule["health"] != "err"),
            "{rules:?}"
        );
        rules.iter().all(|rule| rule["health"] == "ok")
    });
    assert_eq!(prometheus.firing(), Vec::<String>::new());

    let hang = Hang::of_workers(vxgate.pid());
    let mut unhealthy = None;
    wait_until("it is unhealthy", BOUND, || {
        let answer = ask("/healthz");
        let bad = answer.status == 503;
        unhealthy = bad.then_some(answer);
        bad
    });
    let Answer { body, .. } = unhealthy.expect("waited for");
    assert!(
        body.starts_with("worker 0 has stored no heartbeat for "),
        "{body}"
    );
    assert_eq!(ask("/readyz").status, 503);
    let page = ask("/metrics").body;
    for (series, value) in [
        ("vxgate_up", 0.0),
        ("vxgate_ready", 0.0),
        ("vxgate_degraded", 1.0),
        (r#"vxgate_worker_alive{worker="0"}"#, 0.0),
        (
            r#"vxgate_kernel_fallback_active{cause="worker_stale"}"#,
            1.0,
        ),
    ] {
        assert_eq!(sample(&page, series), Some(value), "{series}");
    }
    wait_until("the alert fires", BOUND, || {
        prometheus.firing() == ["VxgateWorkerStalled"]
    });
    hang.end();
    wait_until("it is healthy and ready again", BOUND, || {
        ask("/healthz").status == 200 && ask("/readyz").status == 200
    });
    drop(prometheus);
    vxgate.stop();
}

/// Every query of the dashboard, as Grafana would ask it for all nodes.
fn dashboard_queries() -> Vec<String> {
    let text = fs::read_to_string(format!("{FOLDER}/dashboard.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries: Vec<_> = targets
        .map(|target| {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "1m");
            query.replace("$instance", ".*")
        })
        .collect();
    assert!(queries.len() > 15 && !queries.iter().any(|query| query.contains('$')));
    queries
}

fn scrape(socket: &Path) -> String {
    let answer = get(socket, "/metrics");
    assert_eq!(answer.status, 200);
    answer.body
}

/// The value of a series.
fn sample(page: &str, series: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then_some(value)
    });
    values.map(|value| value.parse().expect("a number")).next()
}

/// Runs promtool, which must find nothing wrong with what it is given.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("prometheus is installed");
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("our child");
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(output.status.success(), "{arguments:?}: {words}");
    if arguments[1] == "metrics" {
        assert!(words.is_empty(), "{words}");
    }
}

/// A Prometheus in a namespace that scrapes every 200 ms. Dropping it ends it.
struct Prometheus {
    child: Child,
    node: Netns,
    _folder: TempDir,
}

impl Prometheus {
    const ADDR: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

    fn start(node: &Netns) -> Self {
        let folder = TempDir::with_prefix("vxgate-prometheus-").expect("a temporary directory");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: [{FOLDER}/alerts.yml]\n\
             scrape_configs:\n\
             - job_name: vxgate\n  \
               static_configs: [{{ targets: [\"127.0.0.1:9472\"] }}]\n"
        );
        fs::write(&config, text).expect("writing its configuration");
        let child = node
            .command("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={}", Self::ADDR))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        let prometheus = Self {
            child,
            node: Netns::existing(node.name()),
            _folder: folder,
        };
        wait_until("Prometheus answers", Duration::from_secs(30), || {
            let answer = try_get_tcp(node, Self::ADDR, "/-/ready");
            answer.is_ok_and(|answer| answer.status == 200)
        });
        prometheus
    }

    /// The series that a query gives.
    fn query(&self, query: &str) -> Vec<Value> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(query)));
        data["result"].as_array().expect("a vector").clone()
    }

    /// The alert rules.
    fn rules(&self) -> Vec<Value> {
        let data = self.ask("/api/v1/rules");
        let groups = data["groups"].as_array().expect("groups");
        let rules = groups.iter().flat_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    /// The alerts that fire.
    fn firing(&self) -> Vec<String> {
        let data = self.ask("/api/v1/alerts");
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        firing.filter_map(name).collect()
    }

    fn ask(&self, path: &str) -> Value {
        let answer = try_get_tcp(&self.node, Self::ADDR, path);
        let answer = answer.unwrap_or_else(|why| panic!("{why}"));
        let mut answer: Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
