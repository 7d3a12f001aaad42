//! No panic can be reached from a frame's bytes, nor an allocation: read in the program as it is shipped.
//!
//! The compiler drops every check that it can prove; what it could not prove stands in the machine code as a call into
//! `core::panicking` or one of its like. So the release binary is disassembled, and from the functions of the hot path every
//! call and jump to another function is followed, those through the global offset table too. (Calls through other pointers are
//! not: the hot path has no `dyn`.) A debug build would say nothing: it checks everything. Where the release build is fresh, as in
//! `scripts/test.sh`, the test takes seconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the hot path begins, in mangled names: a worker's turn, and all of the pipeline, whatever was inlined into what.
const ROOTS: &[&str] = &["6vxgate8pipeline", "6vxgate6worker4turn"];

/// What is called once, before the first frame of a port: a port learns of the memory only then.
const BEGINNINGS: &[&str] = &["6chains6Chains5begin"];

/// What ends a thread, and what allocates, in mangled names.
const FORBIDDEN: &[&str] = &[
    "4core9panicking",
    "4core5slice5index",
    "13unwrap_failed",
    "13expect_failed",
    "22panic_already",
    "17len_mismatch_fail",
    "16slice_error_fail",
    "3std9panicking",
    "18handle_alloc_error",
    "malloc@",
    "calloc@",
    "realloc@",
    "posix_memalign@",
];

/// Calls of each function to others, by mangled names.
type Calls = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_panic_and_no_allocation_is_reachable_from_the_hot_path() {
    let calls = calls(&release_binary());
    let roots: Vec<_> = calls.keys().filter(|name| any_in(name, ROOTS)).collect();
    for root in ROOTS {
        let found = roots.iter().any(|name| name.contains(root));
        assert!(found, "nothing of {root} in the binary: {roots:?}");
    }
    let reached = reached(&calls, roots.into_iter());
    let chains: Vec<_> = reached
        .keys()
        .filter(|name| any_in(name, FORBIDDEN))
        .map(|name| chain(&reached, name))
        .collect();
    assert!(chains.is_empty(), "reachable:\n{}", chains.join("\n"));
}

/// The reader itself sees what it is to find: the command line may panic.
#[test]
fn panics_of_other_functions_are_seen() {
    let calls = calls(&release_binary());
    let roots = calls.keys().filter(|name| name.contains("6vxgate3cli"));
    let reached = reached(&calls, roots);
    assert!(reached.keys().any(|name| any_in(name, &FORBIDDEN[..1])));
}

fn any_in(name: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| name.contains(part))
}

/// Builds it, where it is not fresh.
fn release_binary() -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--bin",
            "vxgate",
        ])
        .current_dir(root)
        .status()
        .expect("cargo");
    assert!(status.success(), "cargo build --release: {status}");
    // Beside the debug build that cargo has made for the tests.
    let debug = Path::new(env!("CARGO_BIN_EXE_vxgate"));
    let target = debug.parent().and_then(Path::parent).expect("target/debug");
    target.join("release/vxgate").display().to_string()
}

/// What a line of the disassembly leads to.
enum Target {
    Name(String),
    /// The function at this address.
    Address(u64),
}

fn calls(binary: &str) -> Calls {
    let table = offset_table(binary);
    let (mut functions, mut function) = (BTreeMap::new(), String::new());
    let mut targets: BTreeMap<String, Vec<Target>> = BTreeMap::new();
    objdump(&["--disassemble", "--section=.text", binary], |line| {
        let Some((front, name)) = line.split_once('<') else {
            return;
        };
        if let Some(name) = name.strip_suffix(">:") {
            function = name.to_owned();
            functions.insert(hexadecimal(front), function.clone());
            targets.entry(function.clone()).or_default();
            return;
        }
        let instruction = front.split('\t').nth(1).unwrap_or_default();
        let target = match front.split_once("# ") {
            // Whatever is done with the address of a function: it may be called.
            Some((_, place)) => match table.get(&hexadecimal(place)) {
                Some(Target::Address(address)) => Target::Address(*address),
                Some(Target::Name(name)) => Target::Name(name.clone()),
                None => return,
            },
            None if instruction.contains("call") || instruction.starts_with('j') => {
                Target::Name(name.split(['>', '+']).next().unwrap_or_default().to_owned())
            }
            None => return,
        };
        targets.entry(function.clone()).or_default().push(target);
    });
    let name = |target| match target {
        Target::Name(name) => Some(name),
        Target::Address(address) => functions.get(&address).cloned(),
    };
    targets
        .into_iter()
        .map(|(function, targets)| (function, targets.into_iter().filter_map(name).collect()))
        .collect()
}

/// What the loader writes into the places that code calls through: functions of this binary by address, of libraries by name.
fn offset_table(binary: &str) -> BTreeMap<u64, Target> {
    let mut table = BTreeMap::new();
    objdump(&["--dynamic-reloc", binary], |line| {
        if let [place, _, value] = *line.split_whitespace().collect::<Vec<_>>() {
            let target = match value.strip_prefix("*ABS*+0x") {
                Some(address) => Target::Address(hexadecimal(address)),
                None => Target::Name(value.to_owned()),
            };
            table.insert(hexadecimal(place), target);
        }
    });
    table
}

/// 0, where no function is, for what is no number.
fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim(), 16).unwrap_or(0)
}

fn objdump(arguments: &[&str], mut see: impl FnMut(&str)) {
    let mut objdump = Command::new("objdump")
        .arg("--no-show-raw-insn")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("objdump, of the Debian package binutils");
    let output = objdump.stdout.take().expect("piped");
    for line in BufReader::new(output).lines() {
        see(&line.expect("text"));
    }
    assert!(objdump.wait().expect("objdump").success());
}

/// All functions that can be reached, each with the one that it was reached from first.
fn reached<'a>(
    calls: &'a Calls,
    roots: impl Iterator<Item = &'a String>,
) -> BTreeMap<&'a str, Option<&'a str>> {
    let mut reached: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut waiting: VecDeque<&str> = VecDeque::new();
    for root in roots {
        reached.insert(root, None);
        waiting.push_back(root);
    }
    while let Some(function) = waiting.pop_front() {
        for called in calls.get(function).into_iter().flatten() {
            if !reached.contains_key(called.as_str()) && !any_in(called, BEGINNINGS) {
                reached.insert(called, Some(function));
                waiting.push_back(called);
            }
        }
    }
    reached
}

fn chain(reached: &BTreeMap<&str, Option<&str>>, name: &str) -> String {
    let mut chain = vec![name];
    while let Some(Some(from)) = chain.last().and_then(|name| reached.get(name)) {
        chain.push(from);
    }
    chain.reverse();
    format!("  {}", chain.join("\n    -> "))
}
