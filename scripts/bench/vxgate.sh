# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# vxgate.sh of bench.sh: vxgate as the device under test, on the node of kernel.sh, whose flannel.1 it takes over.

vxgate_up() {
    kernel_node_up
    device_threads_up
    # In a session of its own, as a service: its workers' nice value counts against everybody then.
    # Not by in_ns, which would leave the number of a shell in its place.
    ip netns exec "$GW" taskset -c $DEVICE_CORE setsid "$VXGATE" run --vxlan flannel.1 --log warn --socket "$RUN/vxgate.sock" >"$RUN/vxgate.log" 2>&1 &
    VXGATE_PID=$!
    local tries=0
    until grep -q '^ready' "$RUN/vxgate.log"; do
        kill -0 "$VXGATE_PID" 2>/dev/null || die "vxgate did not start: $(tail -n 5 "$RUN/vxgate.log")"
        tries=$((tries + 1))
        [ $tries -lt 400 ] || die "vxgate is not ready after 20 s: $(tail -n 5 "$RUN/vxgate.log")"
        sleep 0.05
    done
    pin_device
}

vxgate_down() {
    [ -n "${VXGATE_PID:-}" ] || return 0
    kill "$VXGATE_PID" 2>/dev/null || true
    wait "$VXGATE_PID" 2>/dev/null || true
    VXGATE_PID=''
}

vxgate_version() { "$VXGATE" --version | cut -d' ' -f2; }

# What vxgate itself forwarded: what it left to the kernel is not among them.
vxgate_frames() { "$VXGATE" status --json --socket "$RUN/vxgate.sock" | jq '[.ports[].forwarded] | add'; }
# Outer headers included, and a superframe as what it was.
vxgate_bytes() { "$VXGATE" status --json --socket "$RUN/vxgate.sock" | jq '[.ports[].forwarded_bytes] | add'; }
vxgate_tasks() {
    echo "$VXGATE_PID"
    napi_threads bwire bpod vxg0 vxg1
}
