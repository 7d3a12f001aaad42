# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# rows.sh of bench.sh: what is measured of a device, and how it is written down.
#
# A step is one stretch of measuring; it gives one or more rows. All rows, by step:
#
#   DIR/SIZE/search    -> DIR/SIZE/ndr, DIR/SIZE/pdr        DIR: decap, encap; SIZE: 64, imix, 1400
#   DIR/SIZE/overload  -> DIR/SIZE/overload
#   DIR/SIZE/livelock  -> DIR/SIZE/livelock                 not of 1400
#   DIR/SIZE/cpu       -> DIR/SIZE/cpu
#   DIR/64/first       -> DIR/64/first
#   tcp/N/WAY          -> tcp/N/WAY/rate, tcp/N/WAY/cpu     N: streams; WAY: out (encap), in (decap)
#   tcp/both           -> tcp/N/both/WAY/rate, tcp/N/both/WAY/cpu
#   rr                 -> rr/p50, rr/p99
#   rr/half            -> rr/half/p50, rr/half/p99
#   idle               -> idle/cpu
#
#   direct/...           -> the same with a bridge in front of the pod, and vxgate with --direct flows; TCP and requests
#                           without Open vSwitch
#   direct/both/...      -> TCP and requests with the device and a bridge on both nodes
#   direct/services/...  -> with the rules of flannel and of a thousand services, and conntrack: of kernel and vxgate
#   direct/flows/DIR/64/many, direct/flows/DIR/64/new
#                        -> 100,000 flows at once, and 10,000 new ones a second: % of what few flows get
#   direct/ring/...      -> vxgate with --express false: the ring gear alone
#   direct/cores/...     -> the same, and nobody is kept to one core: of kernel and vxgate
#   direct/xdp/encap/... -> vxgate with --pod-programs xdp, and bare by XDP, too; direct/xdp/tcp/N/out: what that costs TCP
#   direct/xdp-services/encap/64/overload
#                        -> the same with the rules and conntrack of direct/services: of kernel and vxgate

STEPS=()
for size in 64 imix 1400; do
    for direction in decap encap; do
        STEPS+=("$direction/$size/search" "$direction/$size/overload")
        [ $size = 1400 ] || STEPS+=("$direction/$size/livelock")
        STEPS+=("$direction/$size/cpu")
    done
done
STEPS+=(decap/64/first encap/64/first tcp/1/out tcp/1/in tcp/8/out tcp/8/in tcp/both rr rr/half idle)
for size in 64 imix; do
    for direction in decap encap; do
        STEPS+=("direct/$direction/$size/overload" "direct/$direction/$size/livelock" "direct/$direction/$size/cpu"
            "direct/$direction/$size/cpu300")
    done
done
STEPS+=(direct/tcp/1/out direct/tcp/1/in direct/tcp/8/out direct/tcp/8/in direct/rr direct/rr/half
    direct/both/tcp/1/out direct/both/tcp/1/in direct/both/tcp/8/out direct/both/tcp/8/in direct/both/rr)
for direction in decap encap; do
    STEPS+=("direct/services/$direction/64/overload" "direct/services/$direction/64/cpu" "direct/flows/$direction/64/many"
        "direct/flows/$direction/64/new" "direct/ring/$direction/64/overload" "direct/ring/$direction/64/livelock"
        "direct/ring/$direction/64/cpu" "direct/ring/$direction/imix/overload" "direct/cores/$direction/64/overload")
done
STEPS+=(direct/xdp/encap/{64,imix}/{overload,livelock,cpu,cpu300} direct/xdp/tcp/{1,8}/out direct/xdp-services/encap/64/overload)
# All networks that there are, those of the rows whose names begin so.
NETWORKS=('' direct/ direct/both/ direct/services/ direct/flows/ direct/ring/ direct/cores/ direct/xdp/ direct/xdp-services/)

# The network of a step.
network_of() {
    case $1 in
        direct/both/* | direct/services/* | direct/flows/* | direct/ring/* | direct/cores/* | direct/xdp/* | direct/xdp-services/*)
            local rest=${1#direct/}
            echo "direct/${rest%%/*}/" ;;
        direct/*) echo direct/ ;;
    esac
}

# measures DEVICE STEP: whether it is a row of this device.
measures() {
    case $1/$2 in
        none/decap/*/overload | none/encap/*/overload | none/decap/*/cpu | none/encap/*/cpu) ;;
        # What a frame costs without a device is the same in all of these networks, and so its part of each row is known.
        none/direct/decap/*/overload | none/direct/encap/*/overload | none/direct/*/cpu | none/direct/*/cpu300 | none/direct/rr) ;;
        none/*) return 1 ;;
        bare/direct/ring/*/overload | bare/direct/cores/*/overload | bare/direct/tcp/* | bare/direct/rr | bare/direct/both/*) ;;
        bare/direct/decap/*/livelock | bare/direct/encap/*/livelock | bare/direct/xdp/encap/*/livelock) return 1 ;;
        bare/direct/decap/* | bare/direct/encap/* | bare/direct/xdp/encap/*) ;;
        bare/*) return 1 ;;
        # Flows are not judged by Open vSwitch: the frame loads of a bridged pod are what it does, too.
        ovs/direct/decap/* | ovs/direct/encap/* | ovs/direct/ring/*) ;;
        ovs/direct/*) return 1 ;;
        vxgate/direct/ring/* | vxgate/direct/cores/*) vxgate_takes express ;;
        vxgate/direct/xdp/* | vxgate/direct/xdp-services/*) vxgate_takes pod-programs ;;
        # They are there to be compared with what the same device does with few flows; the kernel counts none.
        kernel/direct/flows/*) ;;
    esac
}

# The rows of a step.
rows_of() {
    case $1 in
        */search) echo "${1%/search}/ndr ${1%/search}/pdr" ;;
        tcp/both) echo tcp/{1,8}/both/{out,in}/{rate,cpu} ;;
        tcp/* | direct/tcp/* | direct/both/tcp/* | direct/xdp/tcp/*) echo "$1/rate $1/cpu" ;;
        rr | rr/half | direct/rr | direct/rr/half | direct/both/rr) echo "$1/p50 $1/p99" ;;
        idle) echo "idle/cpu" ;;
        *) echo "$1" ;;
    esac
}

# Whether --only asks for a row: its name, the start of its name, or a pattern of the shell.
# shellcheck disable=SC2053
wanted() { [ -z "$ONLY" ] || [[ $1 == $ONLY || $1 == "$ONLY"/* ]]; }

step_wanted() {
    local row
    for row in $(rows_of "$1"); do
        if wanted "$row"; then return 0; fi
    done
    return 1
}

# ---- the results file: one JSON object a line -----------------------------------------------------------------------
# measure ROW VALUE|null UNIT higher|lower [NOTE]
measure() {
    set -- "$BRIDGED$1" "${@:2}"
    wanted "$1" || return 0
    jq -nc --arg device "$DEVICE" --arg row "$1" --argjson round "$ROUND" --argjson value "$2" --arg unit "$3" --arg better "$4" \
        --arg note "${5:-}" --arg command "scripts/bench.sh --only $1 --device $DEVICE$MODE_FLAG" \
        '{schema: "vxgate-bench/1", kind: "measure", device: $device, row: $row, round: $round, value: $value, unit: $unit,
          better: $better, command: $command} + (if $note == "" then {} else {note: $note} end)' >>"$OUTPUT"
    if [ "$2" = null ]; then
        warn "$DEVICE $1: no value: ${5:-}"
    else
        LAST="$1 $(printf '%.4g' "$2") $3"
    fi
}

setting() {
    jq -nc --arg key "$1" --arg value "$2" '{schema: "vxgate-bench/1", kind: "setting", key: $key, value: $value}' >>"$OUTPUT"
}

# What arrived with the generator flat out, by direction and size: what was offered and what arrived, of this device in this round.
declare -A FLAT_OUT=()

# ---- frame loads ----------------------------------------------------------------------------------------------------
# The flags of a load: TESTER, from a direction and a size.
tester_flags() {
    local size=$2 far=$POD_G far_ports=5000-$((4999 + FLOWS)) near_ports=7000-$((6999 + FLOWS)) more=()
    local engine=live core=$GENERATOR_CORE
    case $DEVICE/$BRIDGED in
        bare/direct/ring/ | bare/direct/cores/) engine=afxdp core=$DEVICE_CORE ;;
    esac
    [ "$size" != imix ] || size=$IMIX
    [ "$FLOWS" != "${MANY:-}" ] || many_flows
    TESTER=(--size "$size" --flows "$FLOWS" --engine $engine --tx-core $core "${more[@]}") TESTER_CORE=$core
    case $DEVICE/$engine/$1 in
        bare/live/decap) TESTER+=(--tx wire --tx-netns $G --dst-mac $MAC_POD) ;;
        bare/live/encap) TESTER+=(--tx eth0 --tx-netns $P --dst-mac $MAC_WIRE_G) ;;
        bare/afxdp/decap) TESTER+=(--tx bpod --tx-netns $GW --dst-mac $MAC_POD) ;;
        bare/afxdp/encap) TESTER+=(--tx bwire --tx-netns $GW --vni $VNI --vxlan-port $PORT --vtep-src $WIRE_GW --vtep-dst $WIRE_G
            --outer-dst-mac $MAC_WIRE_G --src-mac $MAC_VTEP_GW --dst-mac $MAC_VTEP_G) ;;
        */decap) TESTER+=(--tx wire --tx-netns $G --vni $VNI --vxlan-port $PORT --vtep-src $WIRE_G --vtep-dst $WIRE_GW
            --outer-dst-mac $MAC_WIRE_GW --src-mac $MAC_VTEP_G --dst-mac $MAC_VTEP_GW) ;;
        */encap) TESTER+=(--tx eth0 --tx-netns $P --dst-mac $MAC_BPOD) ;;
    esac
    # A router between the ends gives frames another Ethernet destination. Without one, the control, they meet the sink where
    # the device would take them.
    case $DEVICE/$1 in
        none/decap) TESTER+=(--rx bwire --rx-netns $GW) ;;
        none/encap) TESTER+=(--rx bpod --rx-netns $GW) ;;
        bare/decap) TESTER+=(--rx eth0 --rx-netns $P) ;;
        bare/encap) TESTER+=(--rx wire --rx-netns $G) ;;
        */decap) TESTER+=(--src "$far" --dst $POD --rx eth0 --rx-netns $P --arrival-mac $MAC_POD) ;;
        */encap) TESTER+=(--src $POD --dst "$far" --rx wire --rx-netns $G --arrival-mac $MAC_VTEP_G) ;;
    esac
    # The flows of one direction are those of the other, so that they can be judged.
    case ${BRIDGED:+bridged/}$1/$engine in
        */afxdp) ;;
        bridged/decap/*) TESTER+=(--src-port $far_ports --dst-port $near_ports) ;;
        bridged/encap/*) TESTER+=(--src-port $near_ports --dst-port $far_ports --src-mac $MAC_POD) ;;
    esac
    [ -z "${PROFILE:-}" ] || profile_flags "$1"
}

# judged DIRECTION SIZE: the flows of the load that follows go direct, where they may; conntrack, where it is, has seen answers.
judged() {
    case ${BRIDGED:-/}$DEVICE in
        direct/*/vxgate | direct/vxgate) vxgate_judge_flows ;;
        direct/services/kernel | direct/xdp-services/kernel) both_ways ;;
    esac
    tester_flags "$1" "$2"
}

# Both directions of the load's flows at once, slowly.
both_ways() {
    local direction pid pids=() PROFILE=''
    for direction in decap encap; do
        tester_flags $direction 64
        "$VXGATE" bench rate --rate "${JUDGE_RATE:-5k}" --duration "${JUDGE_S:-0.5}" "${TESTER[@]}" --json >/dev/null 2>"$RUN/judge.log" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || warn "vxgate bench rate: $(tail -n 1 "$RUN/judge.log" | cut -c 1-300)"; done
}

# bench VERB FLAGS...: a measurement of vxgate bench; its report in $REPORT, or FAILURE says why there is none. One that does not
# count is made again, twice at most: that is the only reason to throw one away.
bench() {
    local before after attempt
    REPORT=$RUN/report.json
    for attempt in 1 2 3; do
        FAILURE=''
        judged "${LOADED[@]}"
        before=$(carried_frames)
        if timeout "$BENCH_TIMEOUT_S" taskset -c "$TESTER_CORE" "$VXGATE" bench "$@" "${TESTER[@]}" --json >"$REPORT" 2>"$RUN/bench.log" ||
            [ "$(jq '.search.finished' "$REPORT" 2>/dev/null)" = false ]; then
            # A search that its time did not suffice for fails, too, but tells what it found.
            after=$(carried_frames)
            judge_path $((after - before))
        else
            FAILURE="vxgate bench $1: $(tail -n 1 "$RUN/bench.log" | cut -c 1-300)"
        fi
        [ -n "$FAILURE" ] || return 0
        [ "$attempt" = 3 ] || warn "$DEVICE: does not count, once more: $FAILURE"
    done
}

# load DIRECTION SIZE: what `bench` sends from now on.
load() { LOADED=("$@"); }

# What the device itself says it has carried.
carried_frames() { "${DEVICE}_frames"; }

# judge_path CARRIED: a result counts only when the device under test carried the frames, on its own core.
judge_path() {
    local received share carried=$1
    received=$(jq '[.trials[].books.total.received] | add // 0' "$REPORT")
    # Over all trials together: ticks of 10 ms say little of one short trial.
    share=$(jq "([.trials[] | .cpu[$GENERATOR_CORE].softirq * .duration_s] | add // 0) / ([.trials[].duration_s] | add // 1)" "$REPORT")
    SOFTIRQ_SHARE=$share
    case $DEVICE/$BRIDGED in
        # There is nobody to carry any.
        none/* | bare/direct/ring/ | bare/direct/cores/) return 0 ;;
    esac
    if [ "$received" = 0 ]; then
        FAILURE="no frame arrived"
    elif [ $((carried * 100)) -lt $((received * 99)) ]; then
        FAILURE="$received frames arrived, but only $carried by way of $DEVICE"
    elif [ "$DEVICE_SETTING" = threaded ] && ! is_pinned; then
        FAILURE="a receive thread of the device left core $DEVICE_CORE"
    elif [ "$DEVICE_SETTING" = threaded ] && jq -ne "$share > $SOFTIRQ_SHARE_MAX" >/dev/null; then
        FAILURE="the generator's core spent $(jq -nr "$share * 100 | round") % in softirq: the device was not on one core"
    fi
}

# value FILTER: a number of the report, or null.
value() { if [ -n "$FAILURE" ]; then echo null; else jq -c "($1) // null" "$REPORT"; fi; }

# offer_all NAME: the generator flat out: what was offered and what arrived in OFFERED and ARRIVED, null when FAILURE says why not.
offer_all() {
    bench rate --rate max --duration "$OVERLOAD_S"
    OFFERED=$(value '.trials[0].sent_fps') ARRIVED=$(value '.trials[0].received_fps')
    [ -n "$FAILURE" ] || FLAT_OUT[$1]="$OFFERED $ARRIVED"
}

measure_overload() {
    offer_all "${1%/overload}"
    measure "$1" "$ARRIVED" frames/s higher "$FAILURE"
}

# What arrives flat out, of the most that arrives at any load: a device that spends its time on receiving what it cannot send has
# a peak, and falls behind it. From what arrived flat out the load climbs until more of it brings nothing more.
measure_livelock() {
    local name=${1%/livelock} flat peak load arrived lost rises times percent=null note=''
    FAILURE='' OFFERED='' ARRIVED=''
    read -r OFFERED ARRIVED <<<"${FLAT_OUT[$name]:-}" || true
    [ -n "$ARRIVED" ] || offer_all "$name"
    flat=$ARRIVED peak=$ARRIVED load=$ARRIVED
    while [ -z "$FAILURE" ] && holds "$load < $OFFERED"; do
        bench rate --rate "$(jq -n "$load | floor")" --duration "$PEAK_S"
        [ -z "$FAILURE" ] || break
        arrived=$(value '.trials[0].received_fps') lost=$(value '1 - .trials[0].received_fps / .trials[0].sent_fps')
        rises=0
        if holds "$lost < 0.03 or $arrived > 1.02 * $peak"; then rises=1; fi
        peak=$(jq -n "[$peak, $arrived] | max") load=$(jq -n "$load * 1.3")
        [ $rises = 1 ] || break
    done
    if [ -z "$FAILURE" ]; then
        percent=$(jq -n "$flat / $peak * 100") times=$(jq -n "$OFFERED / $peak * 10 | round / 10")
        holds "$times >= 5" || note="flat out is $times times the peak here, no more"
    fi
    measure "$1" "$percent" '% of its peak' higher "${FAILURE:-$note}"
}
holds() { jq -ne "$1" >/dev/null; }

# How late frames are that meet a device at rest: 33 ms after the one before, in which an idle worker has slept one sleep out.
measure_first() {
    bench rate --rate $FIRST_RATE --duration "$FIRST_S"
    measure "$1" "$(value '.trials[0].latency.p99_ns / 1000')" us lower "$FAILURE"
}

# What the device's processes and receive threads used, with the softirqs that they ran. (Not /proc/stat, whose ticks see little
# of a core that sleeps between frames; and not all cores, since the generator's is busy at any rate.) The second argument is the
# rate: at a low one, much of the time is waking up for each frame.
measure_cpu() {
    local before after
    judged "${LOADED[@]}"
    before=$(device_runtime_ns)
    bench rate --rate "$2" --duration "$CPU_S"
    after=$(device_runtime_ns)
    measure "$1" "$(value "$((after - before)) / .trials[0].books.total.received | round")" ns/frame lower "$FAILURE"
}

# NDR and PDR of one search. A device whose limit was not found has no value, and the note says what is known instead.
measure_search() {
    bench ndr "${SEARCH_FLAGS[@]}" --no-calibrate --max-rate "$MAX_FPS"
    measure_goal "$1" ndr
    measure_goal "$1" pdr
}

# goal NAME FILTER: of what a search knows of a goal.
goal() { jq -r --arg goal "$1" ".search.goals[] | select(.name == (\$goal | ascii_upcase)) | $2" "$REPORT"; }

# measure_goal NAME GOAL
measure_goal() {
    local throughput note=$FAILURE
    throughput=$(value ".search.$2.throughput_fps")
    if [ "$throughput" = null ] && [ -z "$note" ]; then
        note=$(goal "$2" '"verdict \(.verdict): borne \(.lower_fps // "nothing"), not borne \(.upper_fps // "nothing") frames/s"')
        # The time was over, or the generator may be why more was not borne; but the bounds are as near as one round is to the
        # next: the device bears the lower one, and the note says that it may bear a little more.
        throughput=$(goal "$2" 'if (.verdict == "unfinished" or .verdict == "generator") and .lower_fps and .upper_fps
            and .lower_fps >= 0.85 * .upper_fps then .lower_fps else null end')
    fi
    measure "$1/$2" "$throughput" frames/s higher "$note"
}

# run_step STEP
run_step() {
    local step=${1#"$BRIDGED"} name
    LAST=''
    case $step in
        decap/* | encap/*)
            name=${step%/*}
            load "${step%%/*}" "${name#*/}"
            case $DEVICE/$BRIDGED in
                bare/direct/ring/ | bare/direct/cores/) ;;
                bare/*) bare_joined xdp ;;
            esac
            endpoints_threaded 0
            [ "$DEVICE_SETTING" != threaded ] || pin_device
            case $step in
                */search) measure_search "$name" ;;
                */overload) measure_overload "$step" ;;
                */livelock) measure_livelock "$step" ;;
                */cpu) measure_cpu "$step" $CPU_RATE ;;
                */cpu300) measure_cpu "$step" $CPU300_RATE ;;
                */first) measure_first "$step" ;;
                */many | */new) measure_flows "$step" ;;
            esac ;;
        tcp/both) measure_tcp_both ;;
        tcp/*) measure_tcp "$step" ;;
        rr) measure_rr ;;
        rr/half) measure_rr_half ;;
        idle) measure_idle ;;
    esac
}
