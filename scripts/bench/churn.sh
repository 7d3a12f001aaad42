#!/bin/bash
# churn.sh: what 10,000 FDB changes a second cost a vxgate that forwards all it can, on the network of bench.sh (lab.sh).
#
# In every round the same bridge(8) writes the same changes twice, at the same pace, on the generator's core: once to a vxlan
# device that nobody mirrors, in the pod's namespace, and once to the one that vxgate carries. So what the ratio tells is vxgate's
# part: hearing of the changes, building the table, publishing it, and the worker's look-ups in it. All of vxgate is on one core.
# bridge(8) comes before the generator (SCHED_FIFO), which is flat out with what it leaves.
set -euo pipefail
FROM=$PWD                                                # where names of files are from
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C PATH="$HOME/.cargo/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

ROUNDS=5 ENTRIES=10000 CHANGES=10000 SECONDS_EACH=2 VXGATE=$PWD/target/release/vxgate
usage() {
    cat <<EOT
usage: scripts/bench/churn.sh [--rounds N] [--entries N] [--changes N] [--vxgate FILE]

  --rounds N       rounds of each direction (default $ROUNDS)
  --entries N      entries of the FDB (default $ENTRIES)
  --changes N      changes a second (default $CHANGES)
  --vxgate FILE    this binary (default: target/release/vxgate)
EOT
}
die() { printf '\nchurn.sh: %s\n' "$*" >&2; exit 1; }
warn() { printf '\nchurn.sh: %s\n' "$*" >&2; }
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --rounds | --entries | --changes | --vxgate) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) usage >&2; exit 2 ;;
    esac
    case $1 in
        --rounds) ROUNDS=$2 ;;
        --entries) ENTRIES=$2 ;;
        --changes) CHANGES=$2 ;;
        --vxgate) VXGATE=$(cd "$FROM" && realpath -m "$2") ;;
    esac
    shift 2
done
# shellcheck source=lab.sh
. scripts/bench/lab.sh
# shellcheck source=rows.sh
. scripts/bench/rows.sh
# shellcheck source=kernel.sh
. scripts/bench/kernel.sh
# shellcheck source=vxgate.sh
. scripts/bench/vxgate.sh
# What rows.sh asks of bench.sh and settings.sh.
# shellcheck disable=SC2034
FLOWS=64 BENCH_TIMEOUT_S=60 SOFTIRQ_SHARE_MAX=0.5 DEVICE=vxgate DEVICE_SETTING=threaded ONLY=''

[ "$(id -u)" = 0 ] || die "network namespaces need root: run it with sudo"
[ -x "$VXGATE" ] || die "$VXGATE is not there: cargo build --release"
exec 9>/run/vxgate-bench.lock
flock -n 9 || die "another bench.sh is running here, and measurements disturb each other"
RUN=$(mktemp -d /tmp/vxgate-churn.XXXXXX)
WRITER=''
cleanup() {
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    writer_down
    vxgate_down || true
    lab_down
    rm -rf "$RUN"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

# lines VERB FROM TO STEP: commands for `bridge -batch`, for entries of a hundred VTEPs.
lines() {
    awk -v verb="$1" -v from="$2" -v to="$3" -v step="$4" 'BEGIN {
        for (n = from; n < to; n++)
            printf "fdb %s 0a:01:00:%02x:%02x:%02x dev flannel.1 dst 198.18.1.%d self permanent\n",
                verb, int(n / 65536) % 256, int(n / 256) % 256, n % 256, 101 + (n + step) % 100
    }'
}

# writer_up NETNS: changes at the asked pace until writer_down, counted in $RUN/written. Every entry moves to the next VTEP, over
# and over.
writer_up() {
    chrt -f 1 ip netns exec "$1" bridge -batch - < <(exec chrt -f 1 python3 -c '
import os, sys, time
entries, rate, written = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "w")
count, start = 0, time.monotonic()
while True:
    due = int((time.monotonic() - start) * rate)
    for n in range(count, due):
        entry = n % entries
        vtep = 101 + (entry + 1 + n // entries) % 100
        print("fdb replace 0a:01:00:%02x:%02x:%02x dev flannel.1 dst 198.18.1.%d self permanent"
              % (entry >> 16 & 255, entry >> 8 & 255, entry & 255, vtep))
    count = max(count, due)
    sys.stdout.flush()
    os.pwrite(written.fileno(), b"%d\n" % count, 0)
    time.sleep(0.005)
' "$ENTRIES" "$CHANGES" "$RUN/written" 2>/dev/null) >/dev/null &
    WRITER=$!
}

writer_down() {
    [ -n "$WRITER" ] || return 0
    kill "$WRITER" 2>/dev/null || true
    wait "$WRITER" 2>/dev/null || true
    WRITER=''
}

# Processor time of the mirror's thread.
control_ns() {
    local task
    for task in /proc/"$VXGATE_PID"/task/*; do
        if [ "$(cat "$task/comm")" = vxgate-control ]; then cut -d' ' -f1 "$task/schedstat"; fi
    done
}
publications() { "$VXGATE" status --json --socket "$RUN/vxgate.sock" | jq '.mirror.publications'; }

# window DIRECTION NETNS: frames/s while changes are written there, in FPS; the mirror's processor time in CONTROL, in ms.
window() {
    local before published written pace start_ns
    load "$1" 64
    : >"$RUN/written"
    writer_up "$2"
    wait_until 5 "the first change" test -s "$RUN/written"
    before=$(control_ns) published=$(publications) written=$(cat "$RUN/written") start_ns=$(date +%s%N)
    bench rate --rate max --duration $SECONDS_EACH
    written=$(($(cat "$RUN/written") - written))
    pace=$((written * 1000000000 / ($(date +%s%N) - start_ns)))
    CONTROL=$((($(control_ns) - before) / 1000000))
    PUBLICATIONS=$(($(publications) - published))
    writer_down
    [ -z "$FAILURE" ] || die "$FAILURE"
    [ $pace -ge $((CHANGES * 98 / 100)) ] || die "bridge(8) wrote $pace changes a second, no $CHANGES: this machine is busy, or too slow"
    FPS=$(value '.trials[0].received_fps | floor')
}

taskset -cp $GENERATOR_CORE $$ >/dev/null
lab_up
vxgate_up
endpoints_threaded 0
check_ping vxgate
# The twin that nobody mirrors. It carries nothing.
ip -n $P link add flannel.1 type vxlan id $VNI local 127.0.0.1 dstport $PORT nolearning
ip -n $P link set flannel.1 up
for netns in $GW $P; do
    lines append 0 "$ENTRIES" 0 | ip netns exec $netns bridge -batch -
done
printf '%-10s %12s %12s %7s   %s\n' '' 'elsewhere/s' 'here/s' ratio 'of the mirror, processor time and publications, elsewhere and here'
for direction in encap decap; do
    : >"$RUN/ratios"
    for round in $(seq "$ROUNDS"); do
        # Each is the first every other time.
        if [ $((round % 2)) = 1 ]; then order="$P $GW"; else order="$GW $P"; fi
        for netns in $order; do
            window $direction $netns
            if [ $netns = $P ]; then
                base=$FPS idle="$CONTROL ms $PUBLICATIONS"
            else
                here=$FPS busy="$CONTROL ms $PUBLICATIONS"
            fi
        done
        ratio=$(jq -n "$here / $base * 10000 | round / 10000")
        echo "$ratio" >>"$RUN/ratios"
        printf '%-10s %12s %12s %7s   %s, %s\n' $direction "$base" "$here" "$ratio" "$idle" "$busy"
    done
    sort -n "$RUN/ratios" | awk -v direction=$direction '{ all[NR] = $1 } END {
        printf "%-10s median ratio %s (%s to %s), target >= 0.98\n", direction, all[int((NR + 1) / 2)], all[1], all[NR]
    }'
done
