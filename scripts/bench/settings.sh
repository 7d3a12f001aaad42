# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# settings.sh of bench.sh: the parameters of a run, what is recorded of them, and the kernel's best setting.

# The mix: CSIT's, with the largest size that fits the overlay's MTU in place of 1518.
IMIX=64:7,570:4,1400:1
FLOWS=64
CPU_RATE=50k CPU300_RATE=300k
FIRST_RATE=30
BENCH_TIMEOUT_S=4000
SOFTIRQ_SHARE_MAX=0.05

# A virtual machine stops for milliseconds every now and then: what the generator could not send in such a gap (--unsent) is no
# loss, as long as it is well below the width of the answer.
parameters() {
    OVERLOAD_S=1 PEAK_S=0.4 CPU_S=1.5 TCP_S=3 RR_S=2 IDLE_S=3 FIRST_S=4 MODE_FLAG=''
    SEARCH_FLAGS=(--trial 0.3 --sum 0.6 --width 10% --unsent 4% --time-limit 25)
    case $MODE in
        full)
            OVERLOAD_S=10 PEAK_S=3 CPU_S=10 TCP_S=10 RR_S=10 IDLE_S=10 FIRST_S=60 MODE_FLAG=' --full'
            SEARCH_FLAGS=(--trial 1 --sum 21) ;;
        quick)
            ROUNDS=1 SOFTIRQ_SHARE_MAX=0.5 OVERLOAD_S=0.3 PEAK_S=0.2 CPU_S=0.3 TCP_S=1 RR_S=1 IDLE_S=1 FIRST_S=1 MODE_FLAG=' --quick'
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
    setting cpu_row "processor time of the device's processes and receive threads a delivered frame, at $CPU_RATE frames/s for $CPU_S s (cpu300: at $CPU300_RATE); a polling device is always busy"
    setting livelock "what arrives flat out, in % of the most that arrives at any load: of that, and of trials of $PEAK_S s from there on, each 1.3 times the last, until more offered brings no more"
    setting tcp "iperf3, $TCP_S s, 1 and 8 streams; out: from the pod, in: to it; cpu: busy seconds of all cores a Gbit"
    setting tcp_both "the far node, which is kernel vxlan elsewhere, has the same device as the near one, on the generator's core with both pods; kernel vxlan is on both nodes in any case, so its values are those of tcp"
    setting first "p99 of the latency at $FIRST_RATE frames/s, for $FIRST_S s: each frame meets a device at rest"
    setting rr "sockperf ping-pong, UDP, 64 bytes, $RR_S s, whole round trip"
    setting rr_half "requests.py, else the same, beside frames of 64 bytes to be decapsulated; what takes requests and answers at both ends comes before the generator (SCHED_FIFO), which never sleeps and has the same core; a lost one counts as 50 ms"
    setting direct "direct/*: bpod is a port of a bridge, cni0, for both; vxgate runs with --direct flows, and of frame loads and requests only frames of its express gear count; every flow was seen both ways before"
    setting direct_both "direct/both/*: the device on both nodes, each with a bridge in front of its pod; all of the far node is on the generator's core"
    setting bare "bare: programs that only redirect, on the same devices, nothing looked at or changed: XDP from the wire and a classifier from the pod, of TCP and requests classifiers both ways; of direct/ring and direct/cores AF_XDP sockets that only send, on the device's core. The far pod is the wire's other end, without VXLAN"
    setting none "none: the generator straight to the sink; of requests one veth pair between the pods, whose ends are on the generator's core"
    setting direct_services "direct/services/*: with flannel's rules, and kube-proxy's of $SERVICES services with two end points each (iptables-nft), and conntrack; it has seen both directions of every flow before"
    setting direct_flows "direct/flows/*: in % of what the same device carried of $FLOWS flows right before. many: $MANY flows; vxgate has room for $MANY_ROOM. new: beside $FLOWS flows $NEW_RATE new ones a second, of which one frame goes each way"
    setting direct_xdp "direct/xdp/*: vxgate with --pod-programs xdp, and frames count only when XDP at the pod's device took them; bare by XDP there, too. direct/xdp-services/*: the same with the rules and conntrack of direct/services"
    setting direct_ring "direct/ring/*: vxgate with --express false. direct/cores/*: the same, and receive work is where the kernel's best setting of all has it; of vxgate where frames come from, the generator's core"
    setting idle "processor time of the device's processes and receive threads without load, in % of a core, over $IDLE_S s"
}

# flat_out DEVICE: frames/s of both directions together, 64 bytes, the generator flat out, in SUM, of decap alone in DECAP_FPS; the
# generator's core's share in softirq in SHARE_MAX, in %.
flat_out() {
    local direction fps
    SUM=0 SHARE_MAX=0
    device_up "$1"
    for direction in decap encap; do
        load $direction 64
        bench rate --rate max --duration "$OVERLOAD_S"
        [ -z "$FAILURE" ] || warn "$1: $FAILURE"
        fps=$(value '.trials[0].received_fps | floor' | sed s/null/0/)
        SUM=$((SUM + fps))
        [ $direction != decap ] || DECAP_FPS=$fps
        SHARE_MAX=$(jq -n "[$SHARE_MAX, ($SOFTIRQ_SHARE * 100 | round)] | max")
    done
    device_down
}

# Which way of receiving is the best for kernel vxlan, of those that keep it to its own core as the others are kept: RPS is
# none where it leaves the first half of receiving to the core that sends, and the default leaves it all there.
choose_kernel_setting() {
    local name best=0 most=0 winner=threaded line=''
    for name in threaded rps default; do
        KERNEL_SETTING=$name
        flat_out kernel
        if [ $SUM -gt $most ]; then most=$SUM KERNEL_CORES_SETTING=$name; fi
        line+="$name $SUM frames/s with $SHARE_MAX % of the sender's core in softirq; "
        if [ $name != default ] && [ "$SHARE_MAX" -le 5 ] && [ $SUM -gt $best ]; then
            best=$SUM winner=$name KERNEL_DECAP_FPS=$DECAP_FPS
        fi
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

# The load beside which requests and responses are measured: the same for all, half of what kernel vxlan carries.
choose_half_load() {
    if [ "${KERNEL_DECAP_FPS:-0}" = 0 ]; then
        KERNEL_SETTING=threaded
        flat_out kernel
        KERNEL_DECAP_FPS=$DECAP_FPS
    fi
    HALF_FPS=$((KERNEL_DECAP_FPS / 2))
    [ $HALF_FPS -gt 0 ] || die "no frame went through kernel vxlan, so nobody knows what half of that is for rr/half"
    setting half_load "$HALF_FPS frames/s: half of what kernel vxlan decapsulates flat out"
}

tell_setting() {
    setting "${1}_setting" "$2"
    echo "$1: best setting: $2"
}

# The highest load that the generator can pace: what it keeps on a direct wire. Found once, not before each of some hundred searches.
calibrate() {
    device_up none
    load decap 64
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
        | [$rows[0].row, $rows[0].unit] + (["kernel", "ovs", "vxgate", "bare", "none"] | map(. as $device
            | [$rows[] | select(.device == $device and .value != null).value]
            | if length == 0 then "-" else "\(min | short) \(middle | short) \(max | short)" end)) | @tsv' "$OUTPUT" |
        column -t -s $'\t' -N "row,unit,kernel (min median max),ovs,vxgate,bare,none"
}
