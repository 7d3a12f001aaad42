//! Compiles the steering programs with clang and leaves the object where `src/steer` includes it from.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "bpf/vxgate.bpf.c";
const HEADER: &str = "bpf/shared.h";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed={HEADER}");
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("vxgate.bpf.o");
    // Debian keeps the headers of the machine's architecture in a folder that clang's BPF target does not look into.
    let machine = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    let headers = format!("-I/usr/include/{machine}-linux-gnu");
    SkeletonBuilder::new()
        .source(SOURCE)
        .clang_args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", &headers])
        .obj(&out)
        .build()
        .unwrap_or_else(|error| panic!("cannot compile {SOURCE}: {error}; clang and linux-libc-dev are needed (scripts/setup.sh)"));
}
