//! Manual pages and completions.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::printed;

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
