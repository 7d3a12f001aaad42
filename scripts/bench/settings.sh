# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# settings.sh of bench.sh: the parameters of a run, what is recorded of them, and the kernel's best setting.

# The mix: CSIT's, with the largest size that fits the overlay's MTU in place of 1518.
IMIX=64:7,570:4,1400:1
FLOWS=64
CPU_RATE=50k
FIRST_RATE=20
BENCH_TIMEOUT_S=4000
SOFTIRQ_SHARE_MAX=0.05

# A virtual machine stops for milliseconds every now and then: what the generator could not send in such a gap (--unsent) is no
# loss, as long as it is well below the width of the answer.
parameters() {
    OVERLOAD_S=1 CPU_S=2 TCP_S=3 RR_S=2 IDLE_S=3 FIRST_S=10 MODE_FLAG=''
    SEARCH_FLAGS=(--trial 0.4 --sum 0.8 --width 10% --unsent 4% --time-limit 25)
    case $MODE in
        full)
            OVERLOAD_S=10 CPU_S=10 TCP_S=10 RR_S=10 IDLE_S=10 FIRST_S=60 MODE_FLAG=' --full'
            SEARCH_FLAGS=(--trial 1 --sum 21) ;;
        quick)
            ROUNDS=1 SOFTIRQ_SHARE_MAX=0.5 OVERLOAD_S=0.3 CPU_S=0.3 TCP_S=1 RR_S=1 IDLE_S=1 FIRST_S=1 MODE_FLAG=' --quick'
            SEARCH_FLAGS=(--trial 0.1 --sum 0.2 --width 10% --unsent 4% --time-limit 10) ;;
    esac
}

settings_of_run() {
    setting started "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    setting mode "$MODE"
    setting rounds "$ROUNDS"
    setting kernel "$(uname -r)"
    setting cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    setting cores "$(nproc --all)"
    setting commit "$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)"
    setting load_average_at_start "$(cut -d' ' -f1-3 /proc/loadavg)"
    setting iperf3 "$(iperf3 --version | head -n 1 | cut -d' ' -f2)"
    setting sockperf "$(sockperf --version 2>&1 | grep -o '[0-9][0-9.]*[0-9]' | head -n 1)"
    if [[ " ${DEVICES[*]} " == *" ovs "* ]]; then
        setting ovs "$(ovs_version)"
        setting ovs_pod "transmit checksums off in the pod, which makes them itself: AF_XDP sees frames before they are made; on beside the others"
    fi
    setting vxgate "$(vxgate_version)"
    setting topology "veth, 1 queue; wire MTU 1500 without segmentation and checksum offloads, pod MTU 1450; VNI 1, UDP 8472, IPv4"
    setting cores_used "generator, sink, pods: core $GENERATOR_CORE; device with all its receive work: core $DEVICE_CORE (threaded NAPI)"
    setting frames "inner sizes with FCS; imix = $IMIX; $FLOWS UDP flows; live generator; XDP sink, on the device's core"
    setting search "${SEARCH_FLAGS[*]}"
    setting overload "received frames/s with the generator flat out for $OVERLOAD_S s"
    setting cpu_row "processor time of the device's processes and receive threads a delivered frame, at $CPU_RATE frames/s for $CPU_S s; a polling device is always busy"
    setting tcp "iperf3, $TCP_S s, 1 and 8 streams; out: from the pod, in: to it; cpu: busy seconds of all cores a Gbit"
    setting first "p99 of the latency at $FIRST_RATE frames/s, for $FIRST_S s: each frame meets a device at rest"
    setting rr "sockperf ping-pong, UDP, 64 bytes, $RR_S s, whole round trip"
    setting idle "processor time of the device's processes and receive threads without load, in % of a core, over $IDLE_S s"
}

# flat_out DEVICE: frames/s of both directions together, 64 bytes, the generator flat out, in SUM; the generator's core's share in
# softirq in SHARE_MAX, in %.
flat_out() {
    local direction
    SUM=0 SHARE_MAX=0
    device_up "$1"
    for direction in decap encap; do
        tester_flags $direction 64
        bench rate --rate max --duration "$OVERLOAD_S"
        [ -z "$FAILURE" ] || warn "$1: $FAILURE"
        SUM=$((SUM + $(value '.trials[0].received_fps | floor' | sed s/null/0/)))
        SHARE_MAX=$(jq -n "[$SHARE_MAX, ($SOFTIRQ_SHARE * 100 | round)] | max")
    done
    device_down
}

# Which way of receiving is the best for kernel vxlan, of those that keep it to its own core as the others are kept: RPS is
# none where it leaves the first half of receiving to the core that sends, and the default leaves it all there.
choose_kernel_setting() {
    local name best=0 winner=threaded line=''
    for name in threaded rps default; do
        KERNEL_SETTING=$name
        flat_out kernel
        line+="$name $SUM frames/s with $SHARE_MAX % of the sender's core in softirq; "
        if [ $name != default ] && [ "$SHARE_MAX" -le 5 ] && [ $SUM -gt $best ]; then best=$SUM winner=$name; fi
    done
    KERNEL_SETTING=$winner
    tell_setting kernel "$winner. Tried, decap + encap, 64 bytes, flat out: ${line%; }. Who uses the sender's core \
for more than 5 % cannot win: one core each"
}

# The same for Open vSwitch, on the device's core in any case.
choose_ovs_setting() {
    local name best=0 winner=spin line=''
    for name in spin sleep; do
        OVS_SETTING=$name
        flat_out ovs
        line+="$name $SUM, "
        if [ $SUM -gt $best ]; then best=$SUM winner=$name; fi
    done
    OVS_SETTING=$winner
    tell_setting ovs "polling thread: $winner, of: ${line%, } frames/s (decap + encap, 64 bytes, flat out)"
}

tell_setting() {
    setting "${1}_setting" "$2"
    echo "$1: best setting: $2"
}

# The highest load that the generator can pace: what it keeps on a direct wire. Found once, not before each of some hundred searches.
calibrate() {
    device_up none
    tester_flags decap 64
    bench ndr --trial 0.5 --sum 0.5 --width 50% --time-limit 20
    device_down
    if [ -n "$FAILURE" ] && [ "$MODE" = quick ]; then
        MAX_FPS=1000000
        return
    fi
    [ -z "$FAILURE" ] || die "$FAILURE"
    MAX_FPS=$(value '.search.calibration.paced_fps | floor')
    [ "$MAX_FPS" != null ] || die "vxgate bench ndr says nothing of what the generator can keep"
    setting generator "$MAX_FPS frames/s paced, $(value '.search.calibration.flat_out_fps | floor') flat out, on a direct wire"
}

# Ratios by round, and the page with the plots; a table of the values where this vxgate has neither.
show_results() {
    local page=${OUTPUT%.json}.html
    if "$VXGATE" bench compare --help >/dev/null 2>&1; then
        "$VXGATE" bench compare "$OUTPUT" --report "$page"
        echo "page: $page"
        plots "$page"
        return
    fi
    jq -rs '
        def short: . * 1000 | round / 1000;
        def middle: sort | .[length / 2 | floor];
        map(select(.kind == "measure")) | group_by(.row)[] | . as $rows
        | [$rows[0].row, $rows[0].unit] + (["kernel", "ovs", "vxgate", "none"] | map(. as $device
            | [$rows[] | select(.device == $device and .value != null).value]
            | if length == 0 then "-" else "\(min | short) \(middle | short) \(max | short)" end)) | @tsv' "$OUTPUT" |
        column -t -s $'\t' -N "row,unit,kernel (min median max),ovs,vxgate,none"
}
