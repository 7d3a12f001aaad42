# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# vxgate.sh of bench.sh: vxgate as the device under test, on the node of kernel.sh, whose flannel.1 it takes over. Of the rows
# direct/*, it runs with --direct flows.

vxgate_up() {
    kernel_node_up
    # One worker has a core; who receives where nobody is kept to it, is the kernel's choice.
    if [ "$BRIDGED" = direct/cores/ ]; then DEVICE_SETTING=default; else device_threads_up; fi
    local flags=()
    if [ -n "$BRIDGED" ]; then
        # Without it, connections could not come back to conntrack, and no TCP goes direct.
        in_ns "$GW" sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
        flags=(--direct flows)
    fi
    case $BRIDGED in
        direct/ring/ | direct/cores/) flags+=(--express false) ;;
        direct/xdp/ | direct/xdp-services/) flags+=(--pod-programs xdp) ;;
        direct/flows/) ! vxgate_takes direct-flows-max || flags+=(--direct-flows-max $MANY_ROOM) ;;
    esac
    start_vxgate "$GW" $DEVICE_CORE vxgate "${flags[@]}"
    VXGATE_PID=$STARTED
    if [ "$BRIDGED" = direct/both/ ]; then
        in_ns $G sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
        vxgate_far_up "${flags[@]}"
    fi
    [ "$DEVICE_SETTING" != threaded ] || pin_device
}

# Of what its direct path says of itself: the flows that go direct, and the frames of those that do in the ring gear.
DIRECT_FLOWS='.express_flows + (.ring_flows // 0)'
RING_FORWARDED='.ring_out.forwarded + .ring_in.forwarded'

# Whether `vxgate run` has this flag.
vxgate_takes() { "$VXGATE" run --help | grep -q -- "--$1 "; }

vxgate_down() {
    vxgate_far_down
    stop_vxgate "${VXGATE_PID:-}"
    VXGATE_PID=''
}

# vxgate_far_up FLAGS...: on the far node as well, whose pods and receive threads are on the generator's core.
vxgate_far_up() {
    start_vxgate $G $GENERATOR_CORE far "$@"
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
    case $BRIDGED in
        direct/ring/ | direct/cores/) vxgate_direct "$RING_FORWARDED" ;;
        # All ways count: a flow may find no place, a new one has none yet, and one frame in ten seconds of each is shown to the kernel.
        direct/flows/)
            echo $(($(vxgate_sum vxgate forwarded) + $(vxgate_sum vxgate 'passed.shown // 0') + $(vxgate_direct '.out.forwarded // 0')))
            ;;
        direct/xdp/ | direct/xdp-services/) vxgate_direct '.out_by_xdp + .in.forwarded' ;;
        direct/*) vxgate_direct '.out.forwarded + .in.forwarded' ;;
        *) vxgate_sum vxgate forwarded ;;
    esac
}
# Outer headers included, and a superframe as what it was. TCP goes direct or as superframes, as vxgate chooses; what of the direct path
# it leaves to the kernel's own device is counted in frames, as if all were of full length.
vxgate_bytes() { bytes_of vxgate; }
vxgate_far_bytes() { bytes_of far; }
bytes_of() {
    local left
    left=$(vxgate_sum "$1" 'passed.superframe // 0')
    echo $(($(vxgate_sum "$1" forwarded_bytes) + $(vxgate_direct '.out.forwarded_bytes // 0' "$1") + left * 1450))
}
# vxgate_direct FILTER [NAME]: of what the direct path counts.
vxgate_direct() { "$VXGATE" status --json --socket "$RUN/${2:-vxgate}.sock" | jq "(.direct // {}) | $1"; }
# vxgate_sum NAME COUNTER: of all ports.
vxgate_sum() { "$VXGATE" status --json --socket "$RUN/$1.sock" | jq "[.ports[].$2] | add"; }

# Both directions at once, slowly, until every flow of the load goes direct: seen one way only, none does. What of them do not is
# in UNJUDGED.
UNJUDGED=''
vxgate_judge_flows() {
    local tries=0
    UNJUDGED=''
    # Those that are there may be others.
    [ "$BRIDGED" != direct/flows/ ] || both_ways
    # Of very many, some find no place.
    until [ "$(vxgate_direct "$DIRECT_FLOWS")" -ge $((FLOWS - FLOWS / 100)) ]; do
        tries=$((tries + 1))
        [ $tries -le 5 ] || {
            UNJUDGED="only $(vxgate_direct "$DIRECT_FLOWS") of $FLOWS flows go direct"
            warn "$UNJUDGED"
            return
        }
        both_ways
    done
}

vxgate_tasks() {
    echo "$VXGATE_PID"
    napi_threads bwire bpod vxg0 vxg1
}
