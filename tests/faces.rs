//! What `vxgate` shows that takes no daemon and no network: errors, `explain`, `config`, manual pages, completions.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value};
use tempfile::TempDir;
use toml::de::{DeTable, DeValue};

const BINARY: &str = env!("CARGO_BIN_EXE_vxgate");

fn vxgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    // What the caller's environment says would count before files.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VXGATE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// What it prints; it must succeed, and say nothing else.
fn printed(arguments: &[&str]) -> String {
    let (code, out, said) = run(&mut vxgate(arguments));
    assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).expect("JSON")
}

/// A configuration file called `x.toml`, in a folder that it is run in.
fn folder(text: &str) -> TempDir {
    let folder = TempDir::with_prefix("vxgate-faces-").expect("a temporary directory");
    fs::write(folder.path().join("x.toml"), text).expect("a file");
    folder
}

#[test]
fn an_error_says_what_why_what_to_do_and_its_code() {
    let folder = folder("");
    let mut command = vxgate(&["status", "--socket", "none.sock"]);
    let (code, out, said) = run(command.current_dir(folder.path()));
    assert_eq!((code, out.as_str()), (Some(3), ""));
    insta::assert_snapshot!(said, @r"
    error[VXG-0801]: no vxgate answers on none.sock: No such file or directory (os error 2)
      cause   No daemon listens on the control socket. It is not running, runs in another network namespace, or has another socket.
      fix     Start it (`vxgate run`), ask in its network namespace (`ip netns exec NAME vxgate status`), or give its socket (--socket).
      more    vxgate explain VXG-0801
    ");
}

#[test]
fn what_is_wrong_in_a_file_is_shown_in_its_line_each_by_itself() {
    let folder = folder("[overlay]\npeer_chek = \"log\"\n[worker]\ncount = 65   # many\n");
    let mut command = vxgate(&["config", "check", "x.toml"]);
    let (code, out, said) = run(command.current_dir(folder.path()));
    assert_eq!((code, out.as_str()), (Some(78), ""));
    insta::assert_snapshot!(said, @r#"
    error[VXG-0601]: x.toml: line 2: overlay.peer_chek: no such key; did you mean peer_check?
          2 | peer_chek = "log"
            | ^^^^^^^^^
      more    vxgate explain VXG-0601
    error[VXG-0602]: x.toml: line 4: worker.count: 65 cannot be: use 1 to 64, or "auto" for one a core
          4 | count = 65   # many
            |         ^^
      more    vxgate explain VXG-0602
    "#);
    // The same from `run --check`.
    let mut command = vxgate(&["run", "--check", "--config", "x.toml"]);
    assert_eq!(run(command.current_dir(folder.path())).2, said);
}

#[test]
fn a_capture_that_cannot_be_is_refused_before_anybody_is_asked() {
    let folder = folder("");
    let mut command = vxgate(&["capture", "-w", "x", "udp prot 8472"]);
    let (code, out, said) = run(command.current_dir(folder.path()));
    assert_eq!((code, out.as_str()), (Some(78), ""));
    insta::assert_snapshot!(said, @r"
    error[VXG-0872]: 'udp prot 8472' is no filter: can't parse filter expression: syntax error
      cause   Filters are those of tcpdump, and libpcap could not compile this one; its own words stand in the message.
      fix     Look at pcap-filter(7). What is about the frame in the tunnel goes to --inner. Quote what a shell would take for its own: parentheses, and !.
      more    vxgate explain VXG-0872
    ");
    assert!(!folder.path().join("x").exists());
    let (code, _, said) = run(&mut vxgate(&["capture", "-C", "1M"]));
    assert_eq!(code, Some(78));
    assert!(said.starts_with("error[VXG-0875]: "), "{said}");
    let (code, _, said) = run(&mut vxgate(&["observe", "--socket", "/none"]));
    assert_eq!(code, Some(3));
    assert!(said.starts_with("error[VXG-0801]: "), "{said}");
}

#[test]
fn colour_is_for_terminals_and_for_whoever_asks_for_it() {
    let plain = |command: &mut Command| {
        let (code, _, said) = run(command);
        assert_eq!(code, Some(78));
        !said.contains('\u{1b}')
    };
    let wrong = ["run", "--check", "--peer-check", "nobody"];
    assert!(plain(&mut vxgate(&wrong)));
    assert!(!plain(vxgate(&wrong).arg("--color=always")));
    assert!(plain(
        vxgate(&wrong)
            .arg("--color=never")
            .env("CLICOLOR_FORCE", "1")
    ));
    assert!(plain(vxgate(&wrong).env("NO_COLOR", "1")));
}

#[test]
fn every_code_is_explained() {
    let list = printed(&["explain"]);
    let codes: Vec<_> = list
        .lines()
        .filter_map(|line| line.split("  ").next())
        .collect();
    assert!(codes.len() > 50 && codes.contains(&"VXG-0107"), "{list}");
    for code in &codes {
        let text = printed(&["explain", code]);
        assert!(text.starts_with(&format!("{code}: ")), "{text}");
        for part in ["\ncause\n  ", "\nfix\n  ", "\nexit code "] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(
        json(&["explain", "--json"]).as_array().map(Vec::len),
        Some(codes.len())
    );
    assert_eq!(json(&["explain", "107", "--json"])["exit_code"], 75);
    insta::assert_snapshot!(printed(&["explain", "vxg-0107"]), @r"
    VXG-0107: a receive queue has another AF_XDP socket

    cause
      A queue takes one AF_XDP socket. Another program holds it, or one that was
      killed a moment ago has not been cleared away yet.

    fix
      Stop the other program (the message names those that have such sockets), or
      wait a moment and start again.

    exit code 75: busy, try again
    ");
    let (code, _, said) = run(&mut vxgate(&["explain", "VXG-9999"]));
    assert_eq!(code, Some(4));
    assert!(
        said.starts_with("error[VXG-0807]: there is no code 'VXG-9999'"),
        "{said}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = vxgate(&["config", "schema"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("our child");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn every_setting_tells_where_it_comes_from() {
    let folder = folder(
        "[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\n[control]\nsocket = \"/s\"\n",
    );
    let arguments = ["config", "show", "x.toml", "--nice", "5", "--effective"];
    let mut command = vxgate(&arguments);
    command
        .current_dir(folder.path())
        .env("VXGATE_PEER_CHECK", "off")
        .env("VXGATE_NICE", "6");
    let (code, out, said) = run(&mut command);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    insta::assert_snapshot!(out, @r#"
    [overlay]
    devices = "auto"                 # default
    peer_check = "off"               # environment VXGATE_PEER_CHECK
    reserved_bits = "device"         # default
    ecn_encap = "kernel"             # default
    inner_vlan = "drop"              # file x.toml
    udp_checksum_rx = "auto"         # default
    [worker]
    count = "auto"                   # default
    nice = 5                         # flag --nice
    superframes = "auto"             # default
    direct = "off"                   # default
    express = true                   # default
    direct_flows_max = 65536         # default
    [control]
    socket = "/s"                    # file x.toml
    [metrics]
    listen = "auto"                  # default
    max_peers = 512                  # default
    [log]
    level = "info"                   # default
    format = "text"                  # default
    "#);
    let (_, out, _) = run(command.arg("--json"));
    let document: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["schema"], "vxgate-config/1");
    assert_eq!(document["settings"][1]["origin"], "environment");
    // Without --effective, what nobody said is left out.
    let mut command = vxgate(&["config", "show", "x.toml"]);
    let (_, out, _) = run(command.current_dir(folder.path()));
    assert_eq!(
        out,
        "[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\n[control]\nsocket = \"/s\"\n"
    );
}

#[test]
fn a_file_is_judged_as_run_would() {
    let folder = folder("[worker]\nnice = 7\n");
    let path = folder.path().join("x.toml");
    let name = path.to_str().expect("UTF-8");
    assert_eq!(
        printed(&["config", "check", name]),
        format!("{name}: valid\n")
    );
    assert_eq!(printed(&["config", "check"]), "the settings are valid\n");
    let (code, _, said) = run(&mut vxgate(&["config", "check", name, "--workers", "0"]));
    assert_eq!(code, Some(78));
    assert!(
        said.starts_with("error[VXG-0607]: --workers 0: use 1 to 64"),
        "{said}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    let (code, _, said) = run(&mut vxgate(&["config", "check", name]));
    assert_eq!(code, Some(78));
    assert!(
        said.contains("VXG-0605") && said.contains(&format!("chmod o-w {name}")),
        "{said}"
    );
}

#[test]
fn the_schema_says_what_the_parser_says() {
    let schema = json(&["config", "schema"]);
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("vxgate.json", schema)
        .expect("a resource");
    let mut schemas = boon::Schemas::new();
    // This judges the schema itself, too.
    let index = compiler
        .compile("vxgate.json", &mut schemas)
        .expect("a schema");
    let template = printed(&["config", "template"]);
    let readme = include_str!("../README.md");
    let (_, readme) = readme.split_once("```toml\n").expect("an example");
    let (readme, _) = readme.split_once("```").expect("its end");
    for (text, good) in [
        (template.as_str(), true),
        (&template.replace("# socket = ", "socket = "), true),
        (readme, true),
        ("", true),
        ("[overlay]\ndevices = ['flannel.1', 'a']", true),
        ("[overlay]\ndevices = []", false),
        ("[overlay]\ndevices = ['a/b']", false),
        ("[overlay]\ndevices = ['..']", false),
        ("[overlay]\ndevices = 'flannel.1'", false),
        ("[overlay]\nreserved_bits = 'mask:00000000000000fF'", true),
        ("[overlay]\nreserved_bits = 'mask:ff'", false),
        ("[overlay]\npeer_check = 'strict-mac'", true),
        ("[overlay]\npeer_check = 'nobody'", false),
        ("[overlay]\npeer_chek = 'log'", false),
        ("[worker]\ncount = 64\nnice = 19\nsuperframes = 'off'", true),
        ("[worker]\ncount = 0", false),
        ("[worker]\ncount = 65", false),
        ("[worker]\nnice = -21", false),
        ("[worker]\nnice = 1.5", false),
        ("[worker]\ndirect_flows_max = 1024", true),
        ("[worker]\ndirect_flows_max = 1023", false),
        ("[control]\nsocket = 'relative'", false),
        ("[control]\nsocket = '/absolute'", true),
        ("[worker]\nsuperframes = 'cut'", true),
        ("[worker]\nsuperframes = 'on'", false),
        ("[worker]\ndirect = 'always'\nexpress = false", true),
        ("[worker]\nexpress = 'false'", false),
        ("[metrics]\nlisten = 'off'\nmax_peers = 0", true),
        ("[metrics]\nlisten = '127.0.0.1:9472'", true),
        ("[metrics]\nlisten = '[fe80::1%2]:65535'", true),
        ("[metrics]\nlisten = '/run/m.sock'", true),
        ("[metrics]\nlisten = '127.0.0.1:65536'", false),
        ("[metrics]\nlisten = '127.0.0.256:80'", false),
        ("[metrics]\nlisten = '127.0.0.1'", false),
        ("[metrics]\nlisten = '::1:9472'", false),
        ("[metrics]\nlisten = ':9472'", false),
        ("[metrics]\nlisten = 'relative'", false),
        ("[metrics]\nlisten = 9472", false),
        ("[metrics]\nmax_peers = 10001", false),
        ("[metrics]\nmax_peers = -1", false),
        ("[log]\nlevel = 'debug'\nformat = 'journald'", true),
        ("[log]\nlevel = 'warn,vxgate::control=debug'", true),
        ("[log]\nlevel = 'wran'", false),
        ("[log]\nlevel = 'info,'", false),
        ("[log]\nlevel = 1", false),
        ("[log]\nformat = 'xml'", false),
        ("[nothing]", false),
        ("overlay = 1", false),
    ] {
        let folder = folder(text);
        let (code, _, said) =
            run(vxgate(&["config", "check", "x.toml"]).current_dir(folder.path()));
        assert_eq!(code, Some(if good { 0 } else { 78 }), "{text}\n{said}");
        let document = as_json(text);
        let valid = schemas.validate(&document, index);
        assert_eq!(valid.is_ok(), good, "{text}\n{valid:?}");
    }
}

/// A TOML text of strings, numbers, truth values and lists.
fn as_json(text: &str) -> Value {
    fn value(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(number) => {
                Value::from(number.as_str().parse::<i64>().expect("a number"))
            }
            DeValue::Float(number) => {
                Value::from(number.as_str().parse::<f64>().expect("a number"))
            }
            DeValue::Boolean(yes) => Value::from(*yes),
            DeValue::Array(entries) => entries
                .iter()
                .map(|entry| value_of(entry.get_ref()))
                .collect(),
            DeValue::Table(entries) => Value::Object(table(entries)),
            other => panic!("{other:?}"),
        }
    }
    fn value_of(inner: &DeValue<'_>) -> Value {
        value(inner)
    }
    fn table(entries: &DeTable<'_>) -> Map<String, Value> {
        let entries = entries.iter();
        entries
            .map(|(key, entry)| (key.get_ref().to_string(), value(entry.get_ref())))
            .collect()
    }
    Value::Object(table(DeTable::parse(text).expect("TOML").get_ref()))
}

#[test]
fn the_schema_of_the_doctors_report_is_printed_and_is_one() {
    let schema = json(&["doctor", "--schema"]);
    assert_eq!(schema["properties"]["schema"]["const"], "vxgate-doctor/1");
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("doctor.json", schema)
        .expect("a resource");
    let mut schemas = boon::Schemas::new();
    compiler
        .compile("doctor.json", &mut schemas)
        .expect("a schema");
    let (code, _, _) = run(&mut vxgate(&["doctor", "--schema", "--fix"]));
    assert_eq!(code, Some(2));
}

#[test]
fn schemas_are_listed_and_what_needs_no_daemon_is_as_they_say() {
    let listed = printed(&["schema"]);
    let names: Vec<_> = listed.lines().collect();
    assert!(
        names.contains(&"status") && names.contains(&"drops-last"),
        "{listed}"
    );
    for (name, command) in [
        ("explain", &["explain", "VXG-0107", "--json"][..]),
        ("explain", &["explain", "--json"]),
        ("config-show", &["config", "show", "--effective", "--json"]),
    ] {
        let mut compiler = boon::Compiler::new();
        compiler
            .add_resource("x.json", json(&["schema", name]))
            .expect("a resource");
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("x.json", &mut schemas).expect("a schema");
        let document = json(command);
        if let Err(error) = schemas.validate(&document, index) {
            panic!("{error}\n{document:#}");
        }
    }
    let (code, _, _) = run(&mut vxgate(&["schema", "nonsense"]));
    assert_eq!(code, Some(2));
}

#[test]
fn manual_pages_render_without_a_complaint() {
    let folder = TempDir::with_prefix("vxgate-man-").expect("a temporary directory");
    let pages = folder.path().join("man");
    assert_eq!(printed(&["man", pages.to_str().expect("UTF-8")]), "");
    let mut names: Vec<_> = fs::read_dir(&pages)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    for name in [
        "vxgate.8",
        "vxgate-run.8",
        "vxgate-bench-rate.8",
        "vxgate-doctor.8",
        "vxgate-config-show.8",
        "vxgate.toml.5",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
    for name in &names {
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-P-cbu"])
            .arg(pages.join(name))
            .output()
            .expect("groff is installed");
        let (text, said) = (
            String::from_utf8_lossy(&groff.stdout),
            String::from_utf8_lossy(&groff.stderr),
        );
        assert!(groff.status.success() && said.is_empty(), "{name}: {said}");
        let title = name.rsplit_once('.').expect("a section").0;
        assert!(
            text.to_lowercase().contains(title) && text.contains("NAME"),
            "{name}:\n{text}"
        );
    }
    let main = printed(&["man"]);
    assert_eq!(
        main,
        fs::read_to_string(pages.join("vxgate.8")).expect("a page")
    );
    let file = fs::read_to_string(pages.join("vxgate.toml.5")).expect("a page");
    assert!(file.contains("VXGATE_PEER_CHECK"), "{file}");
}

#[test]
fn completions_are_made_for_every_shell_and_bash_takes_its_own() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(
            script.contains("peer-check") && script.contains("explain"),
            "{shell}"
        );
    }
    let mut bash = Command::new("bash")
        .args([
            "--norc",
            "-c",
            "source /dev/stdin && complete -p vxgate && COMP_WORDS=(vxgate stat) COMP_CWORD=1 && \
               _vxgate vxgate stat vxgate && echo ${COMPREPLY[@]}",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut input = bash.stdin.take().expect("a pipe");
    input
        .write_all(printed(&["completions", "bash"]).as_bytes())
        .expect("bash reads");
    drop(input);
    let output = bash.wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.stderr.is_empty() && said.ends_with("status state\n"),
        "{output:?}"
    );
}

/// A node's state, as `vxgate state dump` writes it.
const STATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fuzz/corpus/state/node.json"
);

/// What `vxgate trace` says of a frame on that state.
fn traced(arguments: &[&str]) -> String {
    printed(&[&["trace", "--state", STATE], arguments].concat())
}

#[test]
fn a_frame_from_the_underlay_is_traced_to_where_it_dies_or_gets() {
    insta::assert_snapshot!(traced(&["--in", "eth0", "outer-src=10.0.0.11", "outer-ecn=ce", "src=10.244.1.5", "dst=10.244.3.7"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN CE, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.0.11 is a known VTEP of VNI 1 (strict)
     5 inner: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 ICMP, TTL 64, ECN Not-ECT
    VERDICT drop tunnel_ecn (the kernel: IP_TUNNEL_ECN)
      why      Congestion marked outside on a flow that does not speak ECN (RFC 6040 §4.2).
      do       Congestion on the way, and senders that do not know ECN: as the kernel does. Nothing.
      counter  vxgate_drops_total{port="eth0",reason="tunnel_ecn",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "src=10.244.1.5", "dst=10.244.3.7", "proto=tcp", "sport=4000", "len=100"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 150 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.0.11 is a known VTEP of VNI 1 (strict)
     5 inner: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 TCP 4000 > 80, TTL 64, ECN Not-ECT
     6 tx flannel.1, by vxgt0: 0e:24:40:00:01:00 > 0e:24:40:00:03:00 IPv4 10.244.1.5 > 10.244.3.7 TCP 4000 > 80, TTL 64, ECN Not-ECT, 100 bytes
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="eth0",direction="decap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.11",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "outer-src=10.0.9.99"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.9.99 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x08, VNI 1, segment flannel.1
     4 peer check: 10.0.9.99 is no known VTEP of VNI 1 (strict)
    VERDICT drop unknown_peer
      why      The outer source is no known VTEP of this VNI.
      do       `vxgate status` names the senders. Give a VTEP of ours an FDB entry; else nothing is wrong here.
      counter  vxgate_drops_total{port="eth0",reason="unknown_peer",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "flags=0"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: VXLAN to one of our addresses and ports, to a worker
     3 vxlan: flags 0x00, VNI 1, segment flannel.1
    VERDICT drop no_i_flag (the kernel: VXLAN_INVALID_HDR)
      why      The I flag is clear: not a valid VNI (RFC 7348 §5).
      do       Something else sends to the UDP port of VXLAN: find out what, or use another port.
      counter  vxgate_drops_total{port="eth0",reason="no_i_flag",direction="rx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "eth0", "vni=2", "outer-src=10.0.0.11"]), @r#"
     1 rx eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
     2 steering: the kernel's own path, foreign_vni
    VERDICT pass foreign_vni
      why      VXLAN to our address and port, but a VNI that is not ours: another device may own it.
      counter  vxgate_passed_packets_total{port="eth0",reason="foreign_vni"} +1
    "#);
}

#[test]
fn a_frame_from_the_overlay_is_traced_to_every_vtep_that_it_is_sent_to() {
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "to=10.0.0.12", "dst=10.244.2.5", "proto=udp", "dport=53", "len=64", "--bytes"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:02:00 IPv4 10.244.0.1 > 10.244.2.5 UDP 40000 > 53, TTL 64, ECN Not-ECT, 64 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:02:00 leads to 10.0.0.12
     4 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 100 bytes on a path of 1500
     5 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36045 > 8472, TTL 64, ECN Not-ECT, 114 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    in flannel.1
      0000: 0e 24 40 00 02 00 0e 24 40 00 03 00 08 00 45 00
      0010: 00 32 00 00 00 00 40 11 62 ce 0a f4 00 01 0a f4
      0020: 02 05 9c 40 00 35 00 1e 4b 4f 00 00 00 00 00 00
      0030: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
    out eth0
      0000: 02 00 00 00 00 0c 02 00 00 00 00 0d 08 00 45 00
      0010: 00 64 00 01 00 00 40 11 66 70 0a 00 00 0d 0a 00
      0020: 00 0c 8c cd 21 18 00 50 00 00 08 00 00 00 00 00
      0030: 01 00 0e 24 40 00 02 00 0e 24 40 00 03 00 08 00
      0040: 45 00 00 32 00 00 00 00 40 11 62 ce 0a f4 00 01
      0050: 0a f4 02 05 9c 40 00 35 00 1e 4b 4f 00 00 00 00
      0060: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      0070: 00 00
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=01:00:5e:00:00:01"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 01:00:5e:00:00:01 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 01:00:5e:00:00:01 leads to each of 3 VTEPs
     4 next hop: 10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 134 bytes on a path of 1500
     5 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 134 bytes on a path of 1500
     6 next hop: 10.0.0.14 port 8472: no_neighbour
     7 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0b IPv4 10.0.0.13 > 10.0.0.11 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
     8 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_flood_copies_total{port="flannel.1",direction="encap"} +1
               vxgate_flood_copies_lost_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.11",direction="tx"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=0e:24:40:00:05:00"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:05:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:05:00 leads to nexthop group 10: one of 2 VTEPs, by the flow
     4 next hop: 10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 134 bytes on a path of 1500, not sent
     5 next hop: 10.0.0.12 port 8472: by 02:00:00:00:00:0c, an outer packet of 134 bytes on a path of 1500
     6 tx eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0c IPv4 10.0.0.13 > 10.0.0.12 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0, VNI 1
    VERDICT forward
      counter  vxgate_forwarded_packets_total{port="flannel.1",direction="encap"} +1
               vxgate_peer_packets_total{device="flannel.1",vni="1",peer="10.0.0.12",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "vxg0", "to=10.0.0.14"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:04:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 98 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: 0e:24:40:00:04:00 leads to 10.0.0.14
     4 next hop: 10.0.0.14 port 8472: no_neighbour
    VERDICT drop next_hop_unresolved
      why      The VTEP has no route, or its next hop no neighbour entry yet.
      do       `vxgate status` names the VTEP. Look for its route (`ip route get`) and neighbour (`ip neighbour`).
      counter  vxgate_drops_total{port="flannel.1",reason="next_hop_unresolved",direction="tx"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "dmac=0e:24:40:00:07:00", "len=900"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:07:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 900 bytes
     2 steering: the kernel's own path, kernel_route: the kernel keeps frames to 1 address
    VERDICT pass kernel_route
      why      A frame of the overlay that only the kernel brings to its VTEP: by another device, to an address of this host, without a route, or flooded to such a VTEP among others.
      counter  vxgate_passed_packets_total{port="flannel.1",reason="kernel_route"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "len=1465"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:01:00 IPv4 10.244.0.1 > 10.244.0.2 ICMP, TTL 64, ECN Not-ECT, 1465 bytes
     2 steering: the kernel's own path, oversize: frames up to 1464 bytes fit every path
    VERDICT pass oversize
      why      A frame of the overlay that does not fit the path to some VTEP once it is encapsulated: the kernel tells its sender, fragments it or loses it, as the node is set up. Or an uncut superframe of the underlay, which only a virtual device with generic XDP hands over.
      counter  vxgate_passed_packets_total{port="flannel.1",reason="oversize"} +1
    "#);
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "proto=arp"]), @r#"
     1 rx flannel.1: 0e:24:40:00:03:00 > ff:ff:ff:ff:ff:ff ARP, 42 bytes
     2 steering: frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker
     3 fdb: ff:ff:ff:ff:ff:ff has no entry, and there is no default destination
    VERDICT drop no_tx_target (the kernel: NO_TX_TARGET)
      why      No FDB entry for the destination, and no default destination.
      do       `bridge fdb show dev DEVICE` has no entry for the station: look at what writes it (flanneld, the CNI).
      counter  vxgate_drops_total{port="flannel.1",reason="no_tx_target",direction="tx"} +1
    "#);
}

/// A pcap file of Ethernet frames (RFC draft-ietf-opsawg-pcap).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for frame in frames {
        let len = frame.len() as u32;
        file.extend(words(&[0, 0, len, len]));
        file.extend(frame);
    }
    file
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &Value) -> Vec<u8> {
    let digits = digits.as_str().expect("digits");
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn a_frame_is_traced_alike_described_in_digits_and_recorded() {
    let trace = |arguments: &[&str]| {
        let common = ["trace", "--state", STATE, "--json", "--in", "eth0"];
        let mut document = json(&[&common, arguments].concat());
        assert_eq!(document["schema"], "vxgate/1");
        document["traces"].take()
    };
    let good = trace(&["proto=tcp"])[0].take();
    let bad = trace(&["outer-src=10.0.9.99"])[0].take();
    assert_eq!(
        (&good["verdict"]["fate"], &bad["verdict"]["reason"]),
        (&Value::from("forward"), &Value::from("unknown_peer"))
    );
    let digits = good["frame"].as_str().expect("digits");
    assert_eq!(trace(&["--hex", digits])[0], good);
    // What leaves is the inner frame.
    assert_eq!(good["sent"][0]["frame"], digits[100..]);

    let folder = folder("");
    let path = folder.path().join("two.pcap");
    fs::write(&path, pcap(&[bytes(&good["frame"]), bytes(&bad["frame"])])).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let mut recorded = trace(&["--pcap", path]);
    for (number, expected) in [(1, &good), (2, &bad)] {
        let one = &mut recorded[number - 1];
        assert_eq!(one["packet"].take(), number);
        assert_eq!(one, expected);
    }
    let second = trace(&["--pcap", path, "--packet", "2"]);
    assert_eq!(
        (second.as_array().map(Vec::len), &second[0]["frame"]),
        (Some(1), &bad["frame"])
    );
    insta::assert_snapshot!(traced(&["--in", "eth0", "--pcap", path]), @r#"
    1 forward  eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.0.11 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 160 bytes, UDP checksum 0
    2 drop unknown_peer  eth0: 02:00:00:00:00:02 > 02:00:00:00:00:0d IPv4 10.0.9.99 > 10.0.0.13 UDP 50000 > 8472, TTL 64, ECN Not-ECT, 148 bytes, UDP checksum 0
    --
    2 frames: 1 forwarded, 1 dropped, 0 left to the kernel
    "#);
}

#[test]
fn what_cannot_be_traced_says_why_and_exits_as_documented() {
    let folder = folder("");
    let empty = folder.path().join("x.toml");
    let empty = empty.to_str().expect("UTF-8");
    for (arguments, code, words) in [
        (
            &["--state", STATE, "--in", "eth9"][..],
            4,
            "error[VXG-0882]: eth9: no such port; there are eth0, flannel.1",
        ),
        (
            &["--state", STATE, "--in", "eth0", "scr=10.0.0.1"],
            78,
            "error[VXG-0884]: the description of the frame cannot be: scr: no such key; did you mean src?",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--hex", "02z"],
            78,
            "error[VXG-0883]",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--pcap", empty],
            1,
            "error[VXG-0885]",
        ),
        (
            &["--state", STATE, "--in", "eth0", "--pcap", STATE],
            1,
            "neither a pcap nor a pcapng file",
        ),
        (&["--state", empty, "--in", "eth0"], 78, "error[VXG-0881]"),
        (
            &["--state", "/none.json", "--in", "eth0"],
            1,
            "error[VXG-0880]: cannot read /none.json",
        ),
    ] {
        let (exit, out, said) = run(&mut vxgate(&[&["trace"], arguments].concat()));
        assert_eq!((exit, out.as_str()), (Some(code), ""), "{said}");
        assert!(
            said.starts_with("error[VXG-") && said.contains(words),
            "{said}"
        );
    }
}

#[test]
fn the_document_of_a_traced_frame_has_these_keys() {
    insta::assert_snapshot!(traced(&["--in", "flannel.1", "to=10.0.0.11", "proto=47", "len=36", "--json"]), @r#"
    {
      "schema": "vxgate/1",
      "traces": [
        {
          "packet": null,
          "port": "flannel.1",
          "role": "access",
          "frame": "0e24400001000e244000030008004500001600000000402f64cf0af400010af400020000",
          "steps": [
            {
              "stage": "rx",
              "what": "flannel.1: 0e:24:40:00:03:00 > 0e:24:40:00:01:00 IPv4 10.244.0.1 > 10.244.0.2 protocol 47, TTL 64, ECN Not-ECT, 36 bytes"
            },
            {
              "stage": "steering",
              "what": "frames up to 1464 bytes fit every path, the kernel keeps frames to 1 address: to a worker"
            },
            {
              "stage": "fdb",
              "what": "0e:24:40:00:01:00 leads to 10.0.0.11"
            },
            {
              "stage": "next_hop",
              "what": "10.0.0.11 port 8472: by 02:00:00:00:00:0b, an outer packet of 72 bytes on a path of 1500"
            },
            {
              "stage": "tx",
              "what": "eth0: 02:00:00:00:00:0d > 02:00:00:00:00:0b IPv4 10.0.0.13 > 10.0.0.11 UDP 36291 > 8472, TTL 64, ECN Not-ECT, 86 bytes, UDP checksum 0, VNI 1"
            }
          ],
          "verdict": {
            "fate": "forward",
            "reason": null,
            "kernel_name": null,
            "meaning": null,
            "action": null
          },
          "counters": [
            {
              "name": "vxgate_forwarded_packets_total",
              "labels": {
                "port": "flannel.1",
                "direction": "encap"
              },
              "by": 1
            },
            {
              "name": "vxgate_peer_packets_total",
              "labels": {
                "device": "flannel.1",
                "vni": "1",
                "peer": "10.0.0.11",
                "direction": "tx"
              },
              "by": 1
            }
          ],
          "sent": [
            {
              "port": "eth0",
              "vtep": "10.0.0.11",
              "udp_port": 8472,
              "vni": 1,
              "mark": null,
              "frame": "02000000000b02000000000d080045000048000100004011668d0a00000d0a00000b8dc321180034000008000000000001000e24400001000e244000030008004500001600000000402f64cf0af400010af400020000"
            }
          ],
          "notes": []
        }
      ]
    }
    "#);
}

#[test]
fn a_state_and_a_traced_frame_are_as_their_schemas_say() {
    for (name, text) in [
        (
            "state-dump",
            fs::read_to_string(STATE).expect("a readable file"),
        ),
        ("trace", traced(&["--in", "eth0", "--json"])),
        ("trace", traced(&["--in", "eth0", "outer-ecn=ce", "--json"])),
        ("trace", traced(&["--in", "eth0", "vni=7", "--json"])),
        ("trace", traced(&["--in", "flannel.1", "--json"])),
    ] {
        let mut compiler = boon::Compiler::new();
        compiler
            .add_resource("x.json", json(&["schema", name]))
            .expect("a resource");
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("x.json", &mut schemas).expect("a schema");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        if let Err(error) = schemas.validate(&document, index) {
            panic!("{name}: {error}\n{document:#}");
        }
        let mut wrong = document;
        wrong["schema"] = "vxgate/0".into();
        assert!(schemas.validate(&wrong, index).is_err(), "{name}");
    }
}
