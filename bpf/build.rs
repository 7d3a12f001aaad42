//! Compiles the BPF programs with clang and leaves the objects where `src/steer` and `src/loadgen` include them from.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

/// What the programs of a source need of the compiler besides the warnings.
struct Source {
    name: &'static str,
    file: &'static str,
    headers: &'static [&'static str],
    arguments: &'static [&'static str],
}

const SOURCES: [Source; 7] = [
    // Of v3 it takes the arithmetic of 32 bits (kernel 5.1): with 64 alone, each frame costs more.
    Source {
        name: "vxgate",
        file: "bpf/vxgate.bpf.c",
        headers: &[
            "bpf/shared.h",
            "bpf/alive.h",
            "bpf/direct.h",
            "bpf/express.h",
            "bpf/ring.h",
        ],
        arguments: &["-mcpu=v3"],
    },
    Source {
        name: "direct",
        file: "bpf/direct.bpf.c",
        headers: &[
            "bpf/shared.h",
            "bpf/alive.h",
            "bpf/direct.h",
            "bpf/outer.h",
            "bpf/pod.h",
            "bpf/ring.h",
        ],
        arguments: &[],
    },
    // Exchanging and comparing atomically takes the instructions of v3 (kernel 5.12).
    Source {
        name: "sink",
        file: "bpf/sink.bpf.c",
        headers: &["bpf/loadgen.h", "bpf/signature.h"],
        arguments: &["-mcpu=v3"],
    },
    Source {
        name: "listener",
        file: "bpf/listener.bpf.c",
        headers: &["bpf/loadgen.h", "bpf/signature.h"],
        arguments: &["-mcpu=v3"],
    },
    Source {
        name: "generator",
        file: "bpf/generator.bpf.c",
        headers: &["bpf/loadgen.h"],
        arguments: &["-mcpu=v3"],
    },
    // The tests' own: a device that does a known wrong.
    Source {
        name: "faults",
        file: "tests/bench/faults.bpf.c",
        headers: &["bpf/loadgen.h"],
        arguments: &[],
    },
    // And a hop between two nodes that loses, delays and doubles frames; for its atomics as above.
    Source {
        name: "lossy",
        file: "tests/e2e/lossy.bpf.c",
        headers: &[],
        arguments: &["-mcpu=v3"],
    },
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Debian keeps the headers of the machine's architecture in a folder that clang's BPF target does not look into.
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let headers = format!("-I/usr/include/{machine}-linux-gnu");
    for source in &SOURCES {
        let file = source.file;
        println!("cargo:rerun-if-changed={file}");
        for header in source.headers {
            println!("cargo:rerun-if-changed={header}");
        }
        let warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"];
        let arguments = warnings.iter().chain(source.arguments).copied();
        SkeletonBuilder::new()
            .source(file)
            .clang_args(arguments.chain([headers.as_str()]))
            .obj(out.join(format!("{}.bpf.o", source.name)))
            .build()
            .unwrap_or_else(|error| {
                panic!("cannot compile {file}: {error}; clang and linux-libc-dev are needed (scripts/setup.sh)")
            });
    }
}
