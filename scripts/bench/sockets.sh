# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# sockets.sh of bench.sh: what programs in pods notice: TCP, request and response, and what the device costs at rest.

IPERF_PORT=5201 SOCKPERF_PORT=11111

# Busy time of all cores so far, in ticks: user, nice, system, irq, softirq (proc(5)).
busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }

# serve NAME PROTOCOL PORT CMD...: in the far pod, once a network; it goes with its namespace.
serve() {
    local name=$1 filter="sport = :$3" flag=-${2}ln
    shift 3
    [ -z "$(in_ns $G ss -H "$flag" "$filter")" ] || return 0
    ip netns exec $G "$@" </dev/null >"$RUN/$name.log" 2>&1 &
    disown $!
    wait_until 10 "$name" is_served "$flag" "$filter"
}
is_served() { [ -n "$(in_ns $G ss -H "$1" "$2")" ]; }

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
    local step=$1 streams flags=() way busy carried bytes='' cpu=null rate=null
    way=${step##*/} streams=${step#tcp/}
    streams=${streams%/*}
    [ "$way" = out ] || flags=(-R)
    FAILURE=$WIRE_FAILURE REPORT=$RUN/report.json
    if [ -z "$FAILURE" ]; then
        endpoints_threaded 1
        [ "$DEVICE_SETTING" != threaded ] || pin_device
        carried=$(carried_bytes) busy=$(busy_ticks)
        if iperf -t $TCP_S -P "$streams" "${flags[@]}"; then
            busy=$(($(busy_ticks) - busy)) carried=$(($(carried_bytes) - carried))
            bytes=$(jq '.end.sum_received.bytes' "$REPORT")
            rate=$(jq '.end.sum_received.bits_per_second / 1e9' "$REPORT")
            cpu=$(jq -n "$busy / $(getconf CLK_TCK) / ($bytes * 8 / 1e9)")
            # TCP sends some bytes twice, and none of them past the device.
            [ $carried -ge $((bytes * 98 / 100)) ] || FAILURE="$bytes bytes arrived, but only $carried by way of $DEVICE"
        else
            FAILURE="iperf3: $(jq -r '.error // "no report"' "$REPORT" 2>/dev/null || tail -n 1 "$RUN/iperf3-client.log")"
        fi
    fi
    [ -z "$FAILURE" ] || rate=null cpu=null
    measure "$step/rate" "$rate" Gbit/s higher "$FAILURE"
    measure "$step/cpu" "$cpu" s/Gbit lower "$FAILURE"
}

# What the device has carried, as bytes; of those that count frames, as if all were of full length.
carried_bytes() {
    if declare -F "${DEVICE}_bytes" >/dev/null; then "${DEVICE}_bytes"; else echo $(($(carried_frames) * 1450)); fi
}

measure_rr() {
    local log=$RUN/sockperf.txt carried messages
    FAILURE=''
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

measure_idle() {
    local before after
    # The traffic before has to run out, and with it what the device does for some time longer.
    sleep 1
    before=$(device_runtime_ns)
    sleep "$IDLE_S"
    after=$(device_runtime_ns)
    measure idle/cpu "$(jq -n "($after - $before) / 1e7 / $IDLE_S")" '% of a core' lower
}
