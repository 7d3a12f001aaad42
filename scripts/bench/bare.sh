# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# bare.sh of bench.sh: two contenders that are no data paths, to tell what any data path could reach on these devices.
#
# none: generator and sink with nothing between them; for requests, both pods at the ends of one veth pair.
#
# bare: on the devices of the others, programs that do nothing but redirect (bare.py): no look at the frame, no header changed, no
# routing. So the generator sends what the sink is to get, and of TCP and requests the far pod is the wire's other end.
#
#   frames             wire ═ bwire ── xdp ──▶ bpod ═ eth0        what comes in by XDP, as in the express gear
#                      wire ═ bwire ◀── tcx ── bpod ═ eth0
#   TCP, requests      wire ═ bwire ◀── tcx ──▶ bpod ═ eth0       classifiers, behind GRO: no copy of a frame for XDP
#   direct/xdp         wire ═ bwire ◀── xdp ──▶ bpod ═ eth0
#   direct/ring,cores  the generator's AF_XDP sockets on the device's core, straight to the sink: AF_XDP that only sends, and
#                      receives nothing
#
# Two settings from outside say what limits these:
#   BARE_OUT=xdp   frames from the pod are taken by XDP, too. No data path that leaves the pod its offloads can do that: XDP on its
#                  device takes segmentation offload from the pod, and sees checksums that are not finished
#   BARE_PASS=xdp  of TCP and requests there is a program on the wire's device that passes every frame: what AF_XDP needs there. A
#                  veth copies each frame for it

BARE_PIDS=() BARE_JOINED='' BARE_OUT=${BARE_OUT:-tcx} BARE_PASS=${BARE_PASS:-}

none_up() {
    device_threads_up
    [ "$BRIDGED" != direct/ ] || plain_up
}
none_down() { :; }
# The receive threads are there all the same: the sink is on one of them.
none_tasks() { napi_threads bwire bpod; }
# Of the pair between the pods.
none_frames() { if [ "$BRIDGED" = direct/ ]; then link_frames $G plain; else echo 0; fi; }

# One pair between the pods, with the offloads that the wire has and the pod's device has.
plain_up() {
    ip link add plain netns $G mtu 1450 numrxqueues 1 numtxqueues 1 type veth \
        peer name plain0 netns $P mtu 1450 numrxqueues 1 numtxqueues 1
    constrain $G plain
    in_ns $P ethtool -K plain0 gro on
    ip -n $G link set plain up
    ip -n $P link set plain0 up
    bare_ends plain plain0
    ENDS+=("$G plain" "$P plain0")
}

bare_up() {
    device_threads_up
    case $BRIDGED in
        direct/ring/ | direct/cores/) return ;;
        direct/both/) ip -n $Q route replace 10.244.1.0/24 dev eth1
            ip -n $Q neigh replace $POD lladdr $MAC_POD dev eth1 nud permanent
            ip -n $P route replace 10.244.0.0/24 dev eth0
            ip -n $P neigh replace $POD_G lladdr $MAC_QPOD dev eth0 nud permanent
            ip -n $G link set qpod nomaster ;;
        *) bare_ends wire eth0 ;;
    esac
    bare_joined xdp
}

# bare_ends FAR NEAR: the pods reach each other by these devices of theirs, without VXLAN.
bare_ends() {
    local far near
    far=$(in_ns $G cat "/sys/class/net/$1/address") near=$(in_ns $P cat "/sys/class/net/$2/address")
    ip -n $G -batch - <<LINES
neigh replace $POD lladdr $near dev $1 nud permanent
route replace 10.244.1.0/24 dev $1 mtu 1450 src $POD_G
LINES
    ip -n $P -batch - <<LINES
neigh replace $POD_G lladdr $far dev $2 nud permanent
route replace 10.244.0.0/24 dev $2 src $POD
LINES
}

# bare_joined HOOK: by which of them frames that come in by the wire are taken.
bare_joined() {
    [ "$BARE_JOINED" != "$1" ] || return 0
    bare_down
    local out=tcx pass=()
    case $BRIDGED/$1 in
        direct/xdp//*) out=xdp ;;
        */xdp) out=$BARE_OUT ;;
        *) [ -z "$BARE_PASS" ] || pass=(xdp:bwire) ;;
    esac
    bare_start $GW near $1:bwire:bpod $out:bpod:bwire "${pass[@]}"
    [ "$BRIDGED" != direct/both/ ] || bare_start $G far $1:wire:qpod $out:qpod:wire "${pass[@]/bwire/wire}"
    BARE_JOINED=$1
    pin_device
}

# bare_start NETNS NAME JOINED...
bare_start() {
    local netns=$1 log=$RUN/bare-$2.log
    shift 2
    ip netns exec "$netns" scripts/bench/bare.py "$@" >"$log" 2>&1 &
    BARE_PIDS+=($!)
    wait_until 10 "bare.py ($log)" grep -q '^ready' "$log"
}

bare_down() {
    local pid
    for pid in "${BARE_PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${BARE_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    BARE_PIDS=() BARE_JOINED=''
}

bare_tasks() { napi_threads bwire bpod; }
# What left by both devices of the node.
bare_frames() {
    # Nothing is carried where AF_XDP only sends.
    case $BRIDGED in
        direct/ring/ | direct/cores/) echo 0 ;;
        *) echo $(($(link_stat $GW bwire tx_packets) + $(link_stat $GW bpod tx_packets))) ;;
    esac
}
bare_bytes() { echo $(($(link_stat $GW bwire tx_bytes) + $(link_stat $GW bpod tx_bytes))); }
# link_frames NETNS DEVICE: both ways.
link_frames() { echo $(($(link_stat "$1" "$2" rx_packets) + $(link_stat "$1" "$2" tx_packets))); }
