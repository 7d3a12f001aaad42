#!/bin/bash
# test.sh: everything that must hold before a change goes in: format, lints, a release build, the loom model of the table's
# publication, all tests, those in network namespaces too (as root), and each micro-benchmark once. What fails ends it; the
# last line tells the outcome.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"

[ $# = 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/test.sh >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "test.sh: the tests make network namespaces: run it with sudo" >&2; exit 1; }

LOG=$(mktemp /tmp/vxgate-test.XXXXXX)
RELEASE_LOG=$(mktemp /tmp/vxgate-test.XXXXXX)
RELEASE=""
STEP="setup"
finish() {
    local code=$?
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    # Its compilers with it.
    [ -z "$RELEASE" ] || kill -- "-$RELEASE" 2>/dev/null || true
    rm -f "$LOG" "$RELEASE_LOG"
    if [ $code = 0 ]; then
        echo "test.sh: all passed in $SECONDS s"
    else
        echo "test.sh: FAILED in step '$STEP' after $SECONDS s"
    fi
}
trap finish EXIT
trap 'exit 130' HUP INT TERM

# step NAME CMD...: shows what runs, and all that it says only when it fails.
step() {
    STEP=$1
    local start=$SECONDS
    shift
    printf '%-12s %s\n' "$STEP" "$*"
    "$@" >"$LOG" 2>&1 </dev/null || { cat "$LOG"; return 1; }
    # The runners' own closing lines (what was run, and how it went), and what the tests have measured.
    grep -E '^ +Running |^ +Doc-tests |^test result:|^  [^ ].*:$|longest gap|FDB|entries|resident|processor time' "$LOG" || true
    printf '%-12s done in %s s\n' "$STEP" $((SECONDS - start))
}

# The longest build keeps one processor busy, and nobody else writes where it does: the next steps run beside it.
begin_release() {
    setsid cargo build --release --locked >"$RELEASE_LOG" 2>&1 </dev/null &
    RELEASE=$!
}
end_release() {
    local code=0
    wait "$RELEASE" || code=$?
    RELEASE=""
    cat "$RELEASE_LOG"
    return $code
}

step setup scripts/setup.sh
begin_release
step format cargo fmt --check
step clippy cargo clippy --all-targets --quiet -- -D warnings
# Optimised, since loom runs thousands of interleavings.
step loom env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --locked --manifest-path tests/loom/Cargo.toml
step build cargo test --locked --all-targets --no-run
step release end_release
# Tests in network namespaces wait for half of their time: one more than there are processors.
step tests env RUST_TEST_THREADS=$((1 + $(nproc))) cargo test --locked -- --show-output
# Each micro-benchmark once, unoptimised: that they run, and that no hot action allocates. `cargo test` leaves them out.
step benches cargo test --locked --bench micro --bench pairs
