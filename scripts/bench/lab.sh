# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# lab.sh of bench.sh: the network that all devices under test are put into, sourced by it.
#
#   core 0                        core 1                          core 0
#   ┌─ vxbench-g ─────────────┐   ┌─ vxbench-gw ────────────┐    ┌─ vxbench-p ──────────┐
#   │ generator, sink, or the │   │ the device under test   │    │ generator, sink, or  │
#   │ far VTEP with its pod   │   │                         │    │ the near pod         │
#   │                         │   │                         │    │                      │
#   │ wire     198.18.1.1/24 ═╪═══╪═ bwire   198.18.1.2/24  │    │                      │
#   │ flannel.1 10.244.0.0/32 │   │ flannel.1 10.244.1.0/32 │    │                      │
#   │ pod      10.244.0.13/32 │   │ bpod      10.244.1.1/24═╪════╪═ eth0 10.244.1.13/24 │
#   └─────────────────────────┘   └─────────────────────────┘    └──────────────────────┘
#      VNI 1, UDP 8472, MTU 1500 on the wire and 1450 inside; one queue everywhere, static neighbours, no IPv6
#
# Of the rows direct/*, bpod is a port of a bridge, cni0, which has its addresses: as on a node of a cluster. Of direct/both/* the
# far node has a bridge and a pod behind it, too: vxbench-q, on the generator's core.
#
# Decap: VXLAN frames leave by wire, plain ones arrive at eth0. Encap: the other way round.
#
# One core each: bwire and bpod do their receive work in kernel threads (threaded NAPI), which are put on the device's core
# after everything that makes new ones. The ends of a frame load are XDP programs, whose few nanoseconds a frame fall on the
# core that brings the frame, which is the device's: the same for everybody. The ends of TCP and of requests have kernel
# threads of their own, on the generator's core.
#
# Segmentation and checksum offloads are off at both ends of the wire, so that no frame longer than the MTU crosses it, as
# none crosses a cable (check_wire proves it). The pod's own device has them, as pods have.

GENERATOR_CORE=0 DEVICE_CORE=1
G=vxbench-g GW=vxbench-gw P=vxbench-p Q=vxbench-q
VNI=1 PORT=8472
WIRE_G=198.18.1.1 WIRE_GW=198.18.1.2
POD_G=10.244.0.13 POD=10.244.1.13
MAC_WIRE_G=02:00:00:00:01:01 MAC_WIRE_GW=02:00:00:00:01:02
MAC_VTEP_G=0e:24:40:00:01:04 MAC_VTEP_GW=0e:24:40:00:02:04
MAC_BPOD=02:00:00:00:02:01 MAC_POD=02:00:00:00:02:02 MAC_PORT=02:00:00:00:02:03
MAC_QBRIDGE=02:00:00:00:01:03 MAC_QPOD=02:00:00:00:01:04
# Whether bpod is a bridge's port.
BRIDGED=''

# in_ns NETNS CMD...: on the generator's core, like this script itself.
in_ns() { ip netns exec "$@"; }
lab_up() {
    local netns
    lab_down
    # Where the far pod is, and the devices at which traffic begins and ends: all on the generator's core.
    FAR_POD=$G ENDS=("$G wire" "$P eth0")
    [ "$BRIDGED" != direct/both/ ] || FAR_POD=$Q
    for netns in $G $GW $P $Q; do
        ip netns add "$netns"
        in_ns "$netns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 \
            net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        ip -n "$netns" link set lo up
    done
    ip link add wire netns $G address $MAC_WIRE_G mtu 1500 numrxqueues 1 numtxqueues 1 type veth \
        peer name bwire netns $GW address $MAC_WIRE_GW mtu 1500 numrxqueues 1 numtxqueues 1
    ip link add bpod netns $GW address $MAC_BPOD mtu 1450 numrxqueues 1 numtxqueues 1 type veth \
        peer name eth0 netns $P address $MAC_POD mtu 1450 numrxqueues 1 numtxqueues 1
    # GRO gives a veth NAPI, without which it has no thread, and frames of the live generator cannot reach it.
    constrain $G wire
    constrain $GW bwire
    in_ns $GW ethtool -K bpod gro on
    in_ns $P ethtool -K eth0 gro on
    ip -n $G link set wire up
    ip -n $GW link set bwire up
    ip -n $GW link set bpod up
    ip -n $P link set eth0 up
    far_vtep_up
    [ $FAR_POD = $G ] || far_pod_up
    near_pod_up
}

# What TCP would otherwise hand over in one piece leaves in frames, as through a plain network card.
constrain() {
    in_ns "$1" ethtool -K "$2" tx off tso off gso off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off gro on \
        >/dev/null
}

# The kernel's own vxlan, whatever is under test; its pod is an address of its own.
far_vtep_up() {
    ip -n $G -batch - <<LINES
addr add $WIRE_G/24 dev wire
neigh replace $WIRE_GW lladdr $MAC_WIRE_GW dev wire nud permanent
link add flannel.1 address $MAC_VTEP_G mtu 1450 txqueuelen 0 type vxlan id $VNI dev wire local $WIRE_G dstport $PORT nolearning
addr add 10.244.0.0/32 dev flannel.1
link set flannel.1 up
neigh replace 10.244.1.0 lladdr $MAC_VTEP_GW dev flannel.1 nud permanent
route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
LINES
    in_ns $G bridge fdb replace $MAC_VTEP_GW dev flannel.1 dst $WIRE_GW self permanent
    [ $FAR_POD != $G ] || ip -n $G -batch - <<LINES
addr add $POD_G/32 dev lo
route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink src $POD_G
LINES
}

# Behind a bridge, as the near one.
far_pod_up() {
    in_ns $G sysctl -qw net.ipv4.ip_forward=1
    ip link add qpod netns $G mtu 1450 numrxqueues 1 numtxqueues 1 type veth \
        peer name eth1 netns $Q address $MAC_QPOD mtu 1450 numrxqueues 1 numtxqueues 1
    in_ns $G ethtool -K qpod gro on
    in_ns $Q ethtool -K eth1 gro on
    ip -n $G -batch - <<LINES
link add cni0 address $MAC_QBRIDGE mtu 1450 type bridge mcast_snooping 0
link set qpod master cni0
link set qpod up
link set cni0 up
addr add 10.244.0.1/24 dev cni0
neigh replace $POD_G lladdr $MAC_QPOD dev cni0 nud permanent
LINES
    in_ns $G bridge fdb replace $MAC_QPOD dev qpod master static
    ip -n $Q -batch - <<LINES
link set eth1 up
addr add $POD_G/24 dev eth1
neigh replace 10.244.0.1 lladdr $MAC_QBRIDGE dev eth1 nud permanent
route add 10.244.1.0/24 via 10.244.0.1
LINES
    ENDS+=("$G qpod" "$Q eth1")
}

near_pod_up() {
    ip -n $P -batch - <<LINES
addr add $POD/24 dev eth0
neigh replace 10.244.1.1 lladdr $MAC_BPOD dev eth0 nud permanent
route add 10.244.0.0/24 via 10.244.1.1
LINES
}

# threads DEVICE on|off NETNS
threaded() { in_ns "$3" sh -c "echo $2 >/sys/class/net/$1/threaded"; }

# The receive threads of the devices named so, one number a line.
napi_threads() {
    local device comm directory
    for directory in /proc/[0-9]*; do
        { read -r comm <"$directory/comm"; } 2>/dev/null || continue
        for device; do
            if [[ $comm == "napi/$device-"* ]]; then echo "${directory#/proc/}"; fi
        done
    done
}

# All receive threads of the device under test to its core. To be called after everything that attaches or detaches.
pin_device() {
    local thread
    for thread in $(napi_threads bwire bpod); do
        # One that an attachment replaces may be gone by now.
        taskset -cp $DEVICE_CORE "$thread" >/dev/null 2>&1 || true
    done
    is_pinned || die "bwire and bpod have no receive threads on core $DEVICE_CORE; does this kernel have threaded NAPI (5.12)?"
}

# Whether they are there, both, and nowhere else.
is_pinned() {
    local thread pinned=0
    for thread in $(napi_threads bwire bpod); do
        [ "$(taskset -cp "$thread" 2>/dev/null | sed 's/.*: //')" = $DEVICE_CORE ] || return 1
        pinned=$((pinned + 1))
    done
    [ $pinned = 2 ]
}

device_threads_up() {
    threaded bwire 1 $GW
    threaded bpod 1 $GW
    pin_device
}

# endpoints_threaded 1|0: whether the ends of the traffic receive in threads of their own on the generator's core.
endpoints_threaded() {
    local thread end
    for end in "${ENDS[@]}"; do threaded "${end#* }" "$1" "${end% *}"; done
    [ "$1" = 1 ] || return 0
    for thread in $(napi_threads "${ENDS[@]#* }"); do
        taskset -cp $GENERATOR_CORE "$thread" >/dev/null
    done
}

lab_down() {
    local netns pids
    for netns in $G $GW $P $Q; do
        [ -e "/run/netns/$netns" ] || continue
        pids=$(ip netns pids "$netns" 2>/dev/null) || true
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
    done
    for netns in $G $GW $P $Q; do
        [ ! -e "/run/netns/$netns" ] || ip netns del "$netns" || true
    done
    # The kernel removes the devices a little later, and their threads must not be taken for the next ones'.
    wait_until 20 "the end of the receive threads" no_threads
}
no_threads() { [ -z "$(napi_threads bwire bpod)" ]; }

# Pings through the device, both ways.
check_ping() {
    in_ns $P ping -q -c 2 -i 0.05 -W 2 -I $POD $POD_G >/dev/null || die "$1: no ping from the pod to the far pod"
    in_ns $FAR_POD ping -q -c 2 -i 0.05 -W 2 -I $POD_G $POD >/dev/null || die "$1: no ping from the far pod to the pod"
}


# Processor time that the device's processes and threads have used so far, with the softirqs that they ran.
device_runtime_ns() {
    local task file time sum=0
    for task in $("${DEVICE}_tasks") $(pgrep -x "ksoftirqd/$DEVICE_CORE"); do
        for file in /proc/"$task"/task/*/schedstat; do
            { read -r time _ <"$file"; } 2>/dev/null || continue
            sum=$((sum + time))
        done
    done
    echo $sum
}

# link_stat NETNS DEVICE COUNTER
link_stat() { in_ns "$1" cat "/sys/class/net/$2/statistics/$3"; }

# wait_until SECONDS WHAT CMD...
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$end" ] || die "gave up waiting for $what"
        sleep 0.05
    done
}
