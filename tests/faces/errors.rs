//! What goes wrong: in words, with a code, in colour or without.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use super::{folder, json, printed, run, vxgate};

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
fn who_cannot_write_all_of_it_does_not_succeed() {
    for arguments in [
        &["schema", "status"][..],
        &["explain", "VXG-0107"],
        &["explain", "--json"],
        &["config", "template"],
    ] {
        let full = File::options().write(true).open("/dev/full");
        let mut command = vxgate(arguments);
        let child = command
            .stdout(full.expect("the device"))
            .stderr(Stdio::piped());
        let output = child.spawn().and_then(Child::wait_with_output);
        let output = output.expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let words = "error[VXG-0806]: cannot write to standard output: No space left on device";
        assert!(said.starts_with(words), "{said}");
    }
    // A reader who has gone away is no failure.
    let (ours, theirs) = std::io::pipe().expect("a pipe");
    drop(ours);
    let status = vxgate(&["explain"]).stdout(theirs).status();
    assert!(status.expect("it runs").success());
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
