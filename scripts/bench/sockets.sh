# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# sockets.sh of bench.sh: what programs in pods notice: TCP, request and response, and what the device costs at rest.

IPERF_PORT=5201 SOCKPERF_PORT=11111 REQUESTS_PORT=11112

# Busy time of all cores so far, in ticks: user, nice, system, irq, softirq (proc(5)).
busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

# serve NAME PROTOCOL PORT CMD...: in the far pod, once a network; it goes with its namespace.
serve() {
    local name=$1 filter="sport = :$3" flag=-${2}ln
    shift 3
    [ -z "$(in_ns $FAR_POD ss -H "$flag" "$filter")" ] || return 0
    ip netns exec $FAR_POD "$@" </dev/null >"$RUN/$name.log" 2>&1 &
    echo $! >"$RUN/$name.pid"
    disown $!
    wait_until 10 "$name" is_served "$flag" "$filter"
}
is_served() { [ -n "$(in_ns $FAR_POD ss -H "$1" "$2")" ]; }

# iperf FLAGS...: from the near pod to the far one; its report in $REPORT.
iperf() {
    serve iperf3 t $IPERF_PORT iperf3 -s -B $POD_G -p $IPERF_PORT
    timeout $((TCP_S + 30)) ip netns exec $P iperf3 -c $POD_G -B $POD -p $IPERF_PORT -J "$@" >"$REPORT" 2>"$RUN/iperf3-client.log"
}

# Proves that no frame longer than the wire's MTU crosses it: WIRE_FAILURE is empty then. Taps see what leaves a device after the
# kernel has cut it; what AF_XDP sends they do not see, and it fits its 2 or 4 KiB chunks anyway.
check_wire() {
    local end netns device pid pids=() long
    REPORT=$RUN/report.json WIRE_FAILURE=''
    endpoints_threaded 1
    for end in $G/wire $GW/bwire; do
        netns=${end%/*} device=${end#*/}
        ip netns exec "$netns" dumpcap -q -i "$device" -f 'outbound and greater 1515' -w "$RUN/$device.pcapng" 2>"$RUN/$device.log" &
        pids+=($!)
        wait_until 10 "dumpcap on $device" grep -q '^File:' "$RUN/$device.log"
    done
    { iperf -n 20M && iperf -R -n 20M; } || WIRE_FAILURE="iperf3: $(jq -r '.error // "no report"' "$REPORT")"
    for pid in "${pids[@]}"; do
        kill -INT "$pid"
        wait "$pid" || true
    done
    for device in wire bwire; do
        long=$(sed -n 's/.*Packets captured: //p' "$RUN/$device.log")
        [ "$long" = 0 ] || WIRE_FAILURE="${long:-an unknown number of} frames longer than the MTU left $device"
    done
}

measure_tcp() {
    [ "$DEVICE" != bare ] || bare_joined tcx
    local streams=${1#tcp/} way=${1##*/}
    streams=${streams%/*}
    run_tcp "$streams" "$way"
    show_tcp "$1"
    # Its far node is kernel vxlan, too.
    [ "$BRIDGED$DEVICE" != kernel ] || show_tcp "tcp/$streams/both/$way"
}

# The same with the device on the far node as well.
measure_tcp_both() {
    local streams way WIRE_FAILURE=$WIRE_FAILURE
    if [ "$DEVICE" = vxgate ]; then
        vxgate_far_up
        check_wire
    fi
    for streams in 1 8; do
        for way in out in; do
            if ! wanted "tcp/$streams/both/$way/rate" && ! wanted "tcp/$streams/both/$way/cpu"; then continue; fi
            case $DEVICE in
                kernel) [[ " ${PLAN[*]} " != *" tcp/$streams/$way "* ]] || continue ;;
                ovs)
                    # To say so once is enough.
                    [ "$ROUND" = 1 ] || continue
                    FAILURE="Open vSwitch is measured on one node only" RATE=null CPU=null ;;
            esac
            [ "$DEVICE" = ovs ] || run_tcp "$streams" "$way"
            show_tcp "tcp/$streams/both/$way"
        done
    done
    [ "$DEVICE" != vxgate ] || vxgate_far_down
}

# run_tcp STREAMS WAY: in RATE and CPU, null when FAILURE says why not.
run_tcp() {
    local flags=() busy carried far bytes
    [ "$2" = out ] || flags=(-R)
    FAILURE=$WIRE_FAILURE REPORT=$RUN/report.json RATE=null CPU=null
    [ -z "$FAILURE" ] || return 0
    endpoints_threaded 1
    [ "$DEVICE_SETTING" != threaded ] || pin_device
    carried=$(carried_bytes) far=$(far_bytes) busy=$(busy_ticks)
    if ! iperf -t $TCP_S -P "$1" "${flags[@]}"; then
        FAILURE="iperf3: $(jq -r '.error // "no report"' "$REPORT" 2>/dev/null || tail -n 1 "$RUN/iperf3-client.log")"
        return 0
    fi
    busy=$(($(busy_ticks) - busy)) carried=$(($(carried_bytes) - carried)) far=$(($(far_bytes) - far))
    bytes=$(jq '.end.sum_received.bytes' "$REPORT")
    # TCP sends some bytes twice, and none of them past the device.
    if [ $carried -lt $((bytes * 98 / 100)) ]; then
        FAILURE="$bytes bytes arrived, but only $carried by way of $DEVICE"
    elif [ -n "$FAR" ] && [ $far -lt $((bytes * 98 / 100)) ]; then
        FAILURE="$bytes bytes arrived, but only $far by way of $DEVICE on the far node"
    else
        RATE=$(jq '.end.sum_received.bits_per_second / 1e9' "$REPORT")
        CPU=$(jq -n "$busy / $(getconf CLK_TCK) / ($bytes * 8 / 1e9)")
    fi
}

show_tcp() {
    measure "$1/rate" "$RATE" Gbit/s higher "$FAILURE"
    measure "$1/cpu" "$CPU" s/Gbit lower "$FAILURE"
}

# What the device has carried, as bytes; of those that count frames, as if all were of full length.
carried_bytes() {
    if declare -F "${DEVICE}_bytes" >/dev/null; then "${DEVICE}_bytes"; else echo $(($(carried_frames) * 1450)); fi
}
# The same of the device on the far node, where there is one.
FAR=''
far_bytes() { if [ -n "$FAR" ]; then "${DEVICE}_far_bytes"; else echo 0; fi; }

measure_rr() {
    local log=$RUN/sockperf.txt carried messages
    FAILURE=''
    [ "$DEVICE" != bare ] || bare_joined tcx
    endpoints_threaded 1
    [ "$DEVICE_SETTING" != threaded ] || pin_device
    serve sockperf u $SOCKPERF_PORT sockperf sr -i $POD_G -p $SOCKPERF_PORT
    carried=$(carried_frames)
    if in_ns $P timeout $((RR_S + 20)) sockperf pp -i $POD_G -p $SOCKPERF_PORT -t "$RR_S" -m 64 --full-rtt >"$log" 2>&1; then
        carried=$(($(carried_frames) - carried))
        messages=$(grep -o 'ReceivedMessages=[0-9]*' "$log" | tail -n 1 | cut -d= -f2)
        [ $carried -ge $((messages * 2 * 98 / 100)) ] || FAILURE="$((messages * 2)) messages arrived, but only $carried by way of $DEVICE"
    else
        FAILURE="sockperf: $(tail -n 1 "$log" | tr -d '\033')"
    fi
    measure rr/p50 "$(percentile 50.000)" us lower "$FAILURE"
    measure rr/p99 "$(percentile 99.000)" us lower "$FAILURE"
}

percentile() {
    local value
    value=$(sed -n "s/.*percentile $1 = *//p" "$RUN/sockperf.txt")
    if [ -n "$FAILURE" ] || [ -z "$value" ]; then echo null; else jq -n "$value"; fi
}

# The same beside a load, which keeps the generator's core busy all the time: what shares that with it comes before it, else to
# wait for the core would be most of each answer's time. The load is killed in the end, so that it never ends before.
measure_rr_half() {
    local carried start_ns p50=null p99=null count lost note=''
    FAILURE=''
    endpoints_threaded 1
    [ "$DEVICE_SETTING" != threaded ] || pin_device
    serve requests u $REQUESTS_PORT scripts/bench/requests.py serve $POD_G $REQUESTS_PORT
    judged decap 64
    carried=$(carried_frames)
    "$VXGATE" bench rate --rate "$HALF_FPS" --duration 120 "${TESTER[@]}" --json >"$RUN/load.json" 2>"$RUN/load.log" &
    LOAD=$!
    wait_until 20 "the load beside the requests" is_carried $((carried + HALF_FPS / 10))
    # Its sink is attached by now.
    endpoints_threaded 1
    urgent -f 1
    carried=$(carried_frames) start_ns=$(date +%s%N)
    if in_ns $P chrt -f 1 scripts/bench/requests.py ask $POD_G $REQUESTS_PORT "$RR_S" >"$RUN/requests.txt" 2>"$RUN/ask.log"; then
        read -r p50 p99 count lost <"$RUN/requests.txt"
    else
        FAILURE="requests.py: $(tail -n 1 "$RUN/ask.log")"
    fi
    carried=$((($(carried_frames) - carried) * 1000000000 / ($(date +%s%N) - start_ns)))
    load_down || FAILURE="vxgate bench rate: $(tail -n 1 "$RUN/load.log" | cut -c 1-300)"
    urgent -o 0
    if [ "$DEVICE_SETTING" = threaded ] && ! is_pinned; then FAILURE="a receive thread of the device left core $DEVICE_CORE"; fi
    if [ -n "$FAILURE" ]; then
        p50=null p99=null
    elif [ $carried -lt $((HALF_FPS * 95 / 100)) ] || [ $((lost * 200)) -gt "$count" ]; then
        note="the device carried $carried frames/s of the load's $HALF_FPS, and lost $lost of $count requests"
    fi
    measure rr/half/p50 "$p50" us lower "${FAILURE:-$note}"
    measure rr/half/p99 "$p99" us lower "${FAILURE:-$note}"
}
# Fails when it was not there any more.
LOAD=''
load_down() {
    local load=$LOAD
    LOAD=''
    [ -n "$load" ] || return 0
    kill "$load" 2>/dev/null || return 1
    wait "$load" 2>/dev/null || true
}
is_carried() { [ "$(carried_frames)" -ge "$1" ]; }

# urgent POLICY PRIORITY, as for chrt(1): of what takes requests and answers at both ends.
urgent() {
    local task
    for task in $(cat "$RUN/requests.pid") $(napi_threads "${ENDS[@]#* }"); do
        chrt "$1" -p "$2" "$task" || FAILURE="chrt $1 -p $2 $task failed"
    done
}

measure_idle() {
    local before after
    # The traffic before has to run out, and with it what the device does for some time longer.
    sleep 1
    before=$(device_runtime_ns)
    sleep "$IDLE_S"
    after=$(device_runtime_ns)
    measure idle/cpu "$(jq -n "($after - $before) / 1e7 / $IDLE_S")" '% of a core' lower
}
