#!/bin/bash
# A campaign of the oracle: random frames to the kernel's vxlan device and to vxgate, one seed after the other: a plain device
# over IPv4, one over IPv6, and in turn every set of attributes, identity and neighbourhood of devices that the suite has.
# Stops at the first difference, and says how to see it again.
#
#   scripts/oracle.sh [--minutes N] [--seed N] [--frames N]
#
# Needs root; installs what it needs (scripts/setup.sh). Frames are per run; 240,000 are about as many seconds as a machine has
# to spare for them: ten when it is idle.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

die() { echo "oracle.sh: $*" >&2; exit 1; }

minutes=10
seed=$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')
frames=240000
while [ $# -gt 0 ]; do
    case $1 in
        --minutes | --seed | --frames) [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a number" ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/oracle.sh >&2; exit 2 ;;
    esac
    case $1 in
        --minutes) minutes=$2 ;;
        --seed) seed=$2 ;;
        --frames) frames=$2 ;;
    esac
    shift 2
done
[ "$(id -u)" = 0 ] || die "network namespaces need root: run it with sudo"

scripts/setup.sh
log=$(mktemp)
cleanup() {
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    scripts/lab.sh orphans || true
    rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM
cargo test --test oracle --no-run
end=$(($(date +%s) + minutes * 60))
runs=0
while [ "$(date +%s)" -lt "$end" ]; do
    for test in random_frames_fare_as_in_the_kernel random_frames_over_ipv6_fare_as_in_the_kernel \
        a_device_by_the_seed_fares_as_in_the_kernel; do
        test=runs::$test
        if ! VXGATE_ORACLE_SEED=$seed VXGATE_ORACLE_FRAMES=$frames \
            cargo test -q --test oracle -- --nocapture --exact "$test" >"$log" 2>&1; then
            cat "$log"
            echo "oracle: run $((runs + 1)) differs; again by:"
            echo "  VXGATE_ORACLE_SEED=$seed VXGATE_ORACLE_FRAMES=$frames cargo test --test oracle -- --nocapture --exact $test"
            exit 1
        fi
        grep '^oracle run.*agree' "$log" || { cat "$log"; die "$test has run nothing"; }
        runs=$((runs + 1))
    done
    seed=$((seed + 1))
done
echo "oracle: $runs runs without a difference"
