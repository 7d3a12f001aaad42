# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# vxgate.sh of bench.sh: vxgate as the device under test, on the node of kernel.sh, whose flannel.1 it takes over.

vxgate_up() {
    kernel_node_up
    device_threads_up
    start_vxgate "$GW" $DEVICE_CORE vxgate
    VXGATE_PID=$STARTED
    pin_device
}

vxgate_down() {
    vxgate_far_down
    stop_vxgate "${VXGATE_PID:-}"
    VXGATE_PID=''
}

# On the far node as well, whose pods and receive threads are on the generator's core.
vxgate_far_up() {
    start_vxgate $G $GENERATOR_CORE far
    FAR=$STARTED
}

vxgate_far_down() {
    stop_vxgate "${FAR:-}"
    FAR=''
}

# start_vxgate NETNS CORE NAME: its process number in STARTED.
start_vxgate() {
    local log=$RUN/$3.log tries=0
    # In a session of its own, as a service: its workers' nice value counts against everybody then.
    # Not by in_ns, which would leave the number of a shell in its place.
    ip netns exec "$1" taskset -c "$2" setsid "$VXGATE" run --vxlan flannel.1 --log-level warn --socket "$RUN/$3.sock" >"$log" 2>&1 &
    STARTED=$!
    until grep -qs '^ready' "$log"; do
        kill -0 "$STARTED" 2>/dev/null || die "vxgate did not start: $(tail -n 5 "$log")"
        tries=$((tries + 1))
        [ $tries -lt 400 ] || die "vxgate is not ready after 20 s: $(tail -n 5 "$log")"
        sleep 0.05
    done
}

stop_vxgate() {
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

vxgate_version() { "$VXGATE" --version | cut -d' ' -f2; }

# What vxgate itself forwarded: what it left to the kernel is not among them.
vxgate_frames() { vxgate_sum vxgate forwarded; }
# Outer headers included, and a superframe as what it was.
vxgate_bytes() { vxgate_sum vxgate forwarded_bytes; }
vxgate_far_bytes() { vxgate_sum far forwarded_bytes; }
# vxgate_sum NAME COUNTER: of all ports.
vxgate_sum() { "$VXGATE" status --json --socket "$RUN/$1.sock" | jq "[.ports[].$2] | add"; }
vxgate_tasks() {
    echo "$VXGATE_PID"
    napi_threads bwire bpod vxg0 vxg1
}
