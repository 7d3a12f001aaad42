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
        ("[control]\nsocket = 'relative'", false),
        ("[control]\nsocket = '/absolute'", true),
        ("[worker]\nsuperframes = 'cut'", true),
        ("[worker]\nsuperframes = 'on'", false),
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

/// A TOML text of strings, numbers and lists.
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
            "source /dev/stdin && complete -p vxgate && COMP_WORDS=(vxgate sta) COMP_CWORD=1 && \
               _vxgate vxgate sta vxgate && echo ${COMPREPLY[@]}",
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
        output.stderr.is_empty() && said.ends_with("status\n"),
        "{output:?}"
    );
}
