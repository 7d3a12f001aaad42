#!/bin/bash
# A campaign of the fuzz targets (tests/fuzz): each of them, or those that are named, for so many minutes, one after the other
# and at the lowest priority. It starts from the committed corpus; what it finds beside that stays in tests/fuzz/found/TARGET,
# and the next campaign starts from there, too. Stops at the first input that fails a check, and says where it lies: put it into
# tests/fuzz/corpus/TARGET, where cargo test replays it.
#
#   scripts/fuzz.sh [--minutes N] [TARGET...]
#
# Needs cargo-fuzz (cargo install cargo-fuzz). The sanitizer is a nightly feature, which RUSTC_BOOTSTRAP unlocks in any compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/fuzz"
export PATH="$HOME/.cargo/bin:$PATH" RUSTC_BOOTSTRAP=1

die() { echo "fuzz.sh: $*" >&2; exit 1; }

minutes=30
case "${1:-}" in
    --minutes) [[ ${2:-} =~ ^[0-9]+$ ]] || die "--minutes needs a number"; minutes=$2; shift 2 ;;
    -*) sed -n '2,/^set/s/^# \{0,1\}//p' ../../scripts/fuzz.sh >&2; exit 2 ;;
esac
targets=(targets/*.rs)
targets=("${targets[@]#targets/}")
targets=("${targets[@]%.rs}")
for target; do
    [ -e "targets/$target.rs" ] || die "no target $target: there is ${targets[*]}"
done
[ $# -gt 0 ] || set -- "${targets[@]}"
cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is missing: cargo install cargo-fuzz (and cargo itself by scripts/setup.sh)"

for target; do
    mkdir -p "found/$target"
    nice -n 19 cargo fuzz run --fuzz-dir . "$target" "found/$target" "corpus/$target" -- \
        -max_total_time=$((60 * minutes)) -max_len=2048 -print_final_stats=1
done
