# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# vxgate.sh of bench.sh: vxgate as the device under test, on the node of kernel.sh, whose flannel.1 it takes over. Of the rows
# direct/*, it runs with --direct flows.

vxgate_up() {
    kernel_node_up
    device_threads_up
    if [ -n "$BRIDGED" ]; then
        # Without it, connections could not come back to conntrack, and no TCP goes direct.
        in_ns "$GW" sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
        start_vxgate "$GW" $DEVICE_CORE vxgate --direct flows
    else
        start_vxgate "$GW" $DEVICE_CORE vxgate
    fi
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

# start_vxgate NETNS CORE NAME FLAGS...: its process number in STARTED.
start_vxgate() {
    local netns=$1 core=$2 name=$3 log=$RUN/$3.log tries=0
    shift 3
    # In a session of its own, as a service: its workers' nice value counts against everybody then.
    # Not by in_ns, which would leave the number of a shell in its place.
    ip netns exec "$netns" taskset -c "$core" setsid "$VXGATE" run --vxlan flannel.1 --log-level warn --socket "$RUN/$name.sock" \
        "$@" >"$log" 2>&1 &
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
vxgate_frames() {
    if [ -n "$BRIDGED" ]; then vxgate_direct '.out.forwarded + .in.forwarded'; else vxgate_sum vxgate forwarded; fi
}
# Outer headers included, and a superframe as what it was. TCP goes direct or as superframes, as vxgate chooses.
vxgate_bytes() { echo $(($(vxgate_sum vxgate forwarded_bytes) + $(vxgate_direct '.out.forwarded_bytes // 0'))); }
# vxgate_direct FILTER: of what the direct path counts.
vxgate_direct() { "$VXGATE" status --json --socket "$RUN/vxgate.sock" | jq "(.direct // {}) | $1"; }
vxgate_far_bytes() { vxgate_sum far forwarded_bytes; }
# vxgate_sum NAME COUNTER: of all ports.
vxgate_sum() { "$VXGATE" status --json --socket "$RUN/$1.sock" | jq "[.ports[].$2] | add"; }

# Both directions at once, slowly, until every flow of the load goes direct: seen one way only, none does.
vxgate_judge_flows() {
    local tries=0 direction pid pids
    until [ "$(vxgate_direct .express_flows)" -ge $FLOWS ]; do
        tries=$((tries + 1))
        [ $tries -le 5 ] || { warn "only $(vxgate_direct .express_flows) of $FLOWS flows go direct"; return; }
        pids=()
        for direction in decap encap; do
            tester_flags $direction 64
            "$VXGATE" bench rate --rate 5k --duration 0.5 "${TESTER[@]}" --json >/dev/null 2>"$RUN/judge.log" &
            pids+=($!)
        done
        for pid in "${pids[@]}"; do wait "$pid" || warn "vxgate bench rate: $(tail -n 1 "$RUN/judge.log" | cut -c 1-300)"; done
    done
}

vxgate_tasks() {
    echo "$VXGATE_PID"
    napi_threads bwire bpod vxg0 vxg1
}
