#!/bin/bash
# bench.sh: kernel vxlan, Open vSwitch (its userspace data path on AF_XDP ports) and vxgate side by side: the same network, the
# same loads, one core each, in turn, at least five rounds. scripts/bench/lab.sh draws the network; scripts/bench/rows.sh lists
# what is measured. Everything happens in network namespaces; nothing is left behind but the results.
set -euo pipefail
FROM=$PWD                                                # where names of files are from
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C PATH="$HOME/.cargo/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

usage() {
    cat <<'EOT'
usage: scripts/bench.sh [--only PATTERN] [--device NAMES] [--rounds N] [--full | --quick] [--output FILE] [--vxgate FILE]

  --only PATTERN   only these rows: a row (decap/64/ndr), the start of one (tcp/8), or a pattern ('*/64/overload')
  --device NAMES   only these devices, with commas between them: kernel, ovs, vxgate; bare (programs that redirect and do
                   nothing else: the least that could be); none (the control: the generator straight to the sink)
  --rounds N       rounds; the devices take turns in each (default 5)
  --full           CSIT's parameters: trials of 1 s, 21 s of them at each load, TCP for 10 s: takes hours
  --quick          one short round, to see whether everything works; its figures mean nothing
  --output FILE    where results go (default: bench/results/DATE-KERNEL.json for a whole comparison, else target/bench/)
  --vxgate FILE    this binary, instead of building one

Rows: decap|encap / 64|imix|1400 / ndr|pdr|overload|cpu, decap|encap / 64|imix / livelock, decap|encap/64/first,
tcp/1|8/out|in/rate|cpu (the device on one node), tcp/1|8/both/out|in/rate|cpu (on both), rr/p50|p99, rr/half/p50|p99, idle/cpu.
With a bridge in front of the pod and vxgate run --direct flows: direct/decap|encap/64|imix/overload|livelock|cpu|cpu300; without
Open vSwitch direct/tcp/1|8/out|in/rate|cpu, direct/rr/p50|p99, direct/rr/half/p50|p99; the same with the device and a bridge on
both nodes direct/both/tcp/1|8/out|in/rate|cpu, direct/both/rr/p50|p99; beside 1,000 services and conntrack
direct/services/decap|encap/64/overload|cpu; with 100,000 flows, or 10,000 new ones a second direct/flows/decap|encap/64/many|new;
with --express false direct/ring/decap|encap/64/overload|livelock|cpu, direct/ring/decap|encap/imix/overload, and not on one core
direct/cores/decap|encap/64/overload; with --pod-programs xdp direct/xdp/encap/64|imix/overload|livelock|cpu|cpu300,
direct/xdp/tcp/1|8/out/rate|cpu, and beside 1,000 services and conntrack
direct/xdp-services/encap/64/overload
EOT
}
die() { printf '\nbench.sh: %s\n' "$*" >&2; exit 1; }
warn() { printf '\nbench.sh: %s\n' "$*" >&2; }
. scripts/packages.sh
. scripts/bench/lab.sh
. scripts/bench/rows.sh
. scripts/bench/flows.sh
. scripts/bench/services.sh
. scripts/bench/sockets.sh
. scripts/bench/settings.sh
. scripts/bench/plots.sh
. scripts/bench/kernel.sh
. scripts/bench/ovs.sh
. scripts/bench/vxgate.sh
. scripts/bench/bare.sh

DEVICES=(kernel ovs vxgate bare none) ROUNDS=5 ONLY='' OUTPUT='' VXGATE='' MODE=default WHOLE=1
while [ $# -gt 0 ]; do
    case $1 in
        --full | --quick) MODE=${1#--}; shift; continue ;;
        -h | --help) usage; exit 0 ;;
        --only | --device | --rounds | --output | --vxgate) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) usage >&2; exit 2 ;;
    esac
    case $1 in
        --only) ONLY=$2 WHOLE=0 ;;
        --device) IFS=, read -ra DEVICES <<<"$2"; WHOLE=0 ;;
        --rounds) ROUNDS=$2 ;;
        --output) OUTPUT=$(cd "$FROM" && realpath -m "$2") ;;
        --vxgate) VXGATE=$(cd "$FROM" && realpath -m "$2"); [ -x "$VXGATE" ] || die "--vxgate $VXGATE: no such program" ;;
    esac
    shift 2
done
[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "--rounds $ROUNDS: use a number"
[ ${#DEVICES[@]} -gt 0 ] || die "--device: use kernel, ovs, vxgate, bare or none"
for device in "${DEVICES[@]}"; do
    [[ " kernel ovs vxgate bare none " == *" $device "* ]] || die "--device $device: use kernel, ovs, vxgate, bare or none"
done
parameters

PLAN=()
for step in "${STEPS[@]}"; do
    if step_wanted "$step"; then PLAN+=("$step"); fi
done
[ ${#PLAN[@]} -gt 0 ] || die "--only $ONLY: no such row; the rows are in --help"

[ "$(id -u)" = 0 ] || die "network namespaces need root: run it with sudo"
[ "$(nproc)" -ge 2 ] || die "it needs two cores, one for the device and one for everything else; this machine lets us use $(nproc)"
exec 9>/run/vxgate-bench.lock
flock -n 9 || die "another bench.sh is running here, and measurements disturb each other"
RUN=$(mktemp -d /tmp/vxgate-bench.XXXXXX)
DEVICE=''
cleanup() {
    local device
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    load_down || true
    answers_down || true
    for device in kernel ovs vxgate bare; do "${device}_down" || true; done
    lab_down
    rm -rf "$RUN"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

scripts/setup.sh
need_packages iperf3 sockperf                            # TCP; requests and responses
[[ " ${DEVICES[*]} " != *" ovs "* ]] || need_packages openvswitch-switch
[[ " ${PLAN[*]} " != *" direct/"*"services/"* ]] || need_packages iptables
if [ -z "$VXGATE" ]; then
    echo "building vxgate"
    CARGO_TARGET_DIR=$PWD/target cargo build --release --locked --quiet
    VXGATE=$PWD/target/release/vxgate
fi
if [ -z "$OUTPUT" ]; then
    OUTPUT=target/bench/$(date +%Y-%m-%d-%H%M%S)-$(uname -r).json
    if [ $WHOLE = 1 ] && [ "$MODE" != quick ]; then OUTPUT=bench/results/$(date +%Y-%m-%d)-$(uname -r).json; fi
fi
mkdir -p "$(dirname "$OUTPUT")"
: >"$OUTPUT"

# From here on everything but the device under test is on the generator's core, and what is started inherits it.
taskset -cp $GENERATOR_CORE $$ >/dev/null

# ---- rounds ---------------------------------------------------------------------------------------------------------
# device_up NAME [NETWORK]: a new network with this device in it, proved to carry frames; one of NETWORKS.
device_up() {
    BRIDGED=${2:-}
    # `kernel_up` may choose another one.
    DEVICE=$1 DEVICE_SETTING=threaded
    lab_up
    "${DEVICE}_up"
    # Between the pods there is nothing then.
    case $DEVICE/$BRIDGED in
        none/ | none/direct/*/ | bare/direct/ring/ | bare/direct/cores/) return ;;
    esac
    endpoints_threaded 0
    check_ping "$DEVICE"
    if [[ $DEVICE != none && " ${PLAN[*]} " == *"tcp/"* && ($BRIDGED != direct/*/ || $BRIDGED = direct/both/) ]]; then check_wire; fi
}

device_down() {
    "${DEVICE}_down"
    lab_down
}

# progress TEXT: with the time left, from what the steps of so far have taken.
progress() {
    local left='' seconds
    if [ $DONE -gt 0 ]; then
        seconds=$(((SECONDS - START) * (TOTAL - DONE) / DONE))
        left=$(printf '%d:%02d left' $((seconds / 60)) $((seconds % 60)))
    fi
    printf '%s  round %s/%s  %-7s %-20s %s\n' "$(date +%T)" "$ROUND" "$ROUNDS" "$DEVICE" "$1" "$left"
}

device_round() {
    local network
    for network in "${NETWORKS[@]}"; do steps_on "$1" "$network"; done
}

# plan DEVICE NETWORK: the steps of the plan that are of this device and this network, in STEPS_HERE.
plan() {
    local step
    STEPS_HERE=()
    for step in "${PLAN[@]}"; do
        if [ "$(network_of "$step")" = "$2" ] && measures "$1" "$step"; then STEPS_HERE+=("$step"); fi
    done
}

# steps_on DEVICE NETWORK: as `plan` has it.
steps_on() {
    local step
    plan "$1" "$2"
    [ ${#STEPS_HERE[@]} -gt 0 ] || return 0
    FLAT_OUT=()
    device_up "$1" "$2"
    for step in "${STEPS_HERE[@]}"; do
        run_step "$step"
        DONE=$((DONE + 1))
        [ -z "$LAST" ] || progress "$LAST"
    done
    device_down
}

START=$SECONDS DONE=0 TOTAL=0 ROUND=0
for device in "${DEVICES[@]}"; do
    for network in "${NETWORKS[@]}"; do
        plan "$device" "$network"
        TOTAL=$((TOTAL + ROUNDS * ${#STEPS_HERE[@]}))
    done
done
settings_of_run
MAX_FPS=''
if [[ " ${PLAN[*]} " == */search* ]]; then calibrate; fi
if [[ " ${DEVICES[*]} " == *" kernel "* ]]; then choose_kernel_setting; fi
if [[ " ${DEVICES[*]} " == *" ovs "* ]]; then choose_ovs_setting; fi
if [[ " ${PLAN[*]} " == *"rr/half "* && " ${DEVICES[*]} " =~ \ (kernel|ovs|vxgate)\  ]]; then choose_half_load; fi
START=$SECONDS
for ROUND in $(seq "$ROUNDS"); do
    for turn in $(seq 0 $((${#DEVICES[@]} - 1))); do
        # A B C, B C A, C A B: nobody always comes first.
        device_round "${DEVICES[$(((turn + ROUND - 1) % ${#DEVICES[@]}))]}"
    done
done
setting load_average_at_end "$(cut -d' ' -f1-3 /proc/loadavg)"
echo
echo "results: $OUTPUT"
show_results
