#!/bin/bash
# test.sh: everything that must hold before a change goes in: format, lints, a release build, the loom model of the table's
# publication, all tests, those in network namespaces too (as root), and each micro-benchmark once. What fails ends it; the
# last line tells the outcome.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

[ $# = 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/test.sh >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "test.sh: the tests make network namespaces: run it with sudo" >&2; exit 1; }

# Tests write there as well, some of them as other users: it is as /tmp is.
TMPDIR=$(mktemp -d /tmp/vxgate-test.XXXXXX)
chmod 1777 "$TMPDIR"
export TMPDIR
LOG=$TMPDIR/step.log
RELEASE_LOG=$TMPDIR/release.log
RELEASE="" RUNNING=""
STEP="setup"

finish() {
    local code=$? group
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    # Their compilers with them, and tests with what they started.
    for group in $RELEASE $RUNNING; do
        kill -- "-$group" "$group" 2>/dev/null || true
        wait "$group" 2>/dev/null || true
    done
    scripts/lab.sh orphans || true
    rm -rf "$TMPDIR" || true
    if [ $code = 0 ]; then
        echo "test.sh: all passed in $SECONDS s"
    else
        echo "test.sh: FAILED in step '$STEP' after $SECONDS s"
    fi
}
trap finish EXIT
trap 'exit 130' HUP INT TERM

# run CMD...: in a process group of its own, so that a signal to this script alone ends all of it, and at once. Functions of this
# script wait for what has one.
run() {
    local code=0
    if [ "$(type -t "$1")" = function ]; then
        "$@"
        return
    fi
    setsid "$@" &
    RUNNING=$!
    wait "$RUNNING" || code=$?
    RUNNING=""
    return $code
}

# step NAME CMD...: shows what runs, and all that it says only when it fails.
step() {
    STEP=$1
    local start=$SECONDS
    shift
    printf '%-12s %s\n' "$STEP" "$*"
    run "$@" >"$LOG" 2>&1 </dev/null || { cat "$LOG"; return 1; }
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
# Tests in network namespaces wait for half of their time: two for each processor. Properties are tried on the same values each
# time, so that what passes passes again: others come from whoever runs `cargo test`, and from scripts/fuzz.sh.
step tests env RUST_TEST_THREADS=$((2 * $(nproc))) PROPTEST_RNG_SEED=8472 cargo test --locked -- --show-output
# Each micro-benchmark once, unoptimised: that they run, and that no hot action allocates. `cargo test` leaves them out.
step benches cargo test --locked --bench micro --bench pairs
