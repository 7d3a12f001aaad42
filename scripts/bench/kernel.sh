# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# kernel.sh of bench.sh: kernel vxlan as the device under test, set up as flanneld leaves it.

# The node's own side of the lab: also what vxgate takes over.
kernel_node_up() {
    in_ns "$GW" sysctl -qw net.ipv4.ip_forward=1
    ip -n "$GW" -batch - <<LINES
addr add $WIRE_GW/24 dev bwire
neigh replace $WIRE_G lladdr $MAC_WIRE_G dev bwire nud permanent
link add flannel.1 address $MAC_VTEP_GW mtu 1450 txqueuelen 0 type vxlan id $VNI dev bwire local $WIRE_GW dstport $PORT nolearning
addr add 10.244.1.0/32 dev flannel.1
link set flannel.1 up
addr add 10.244.1.1/24 dev bpod
neigh replace $POD lladdr $MAC_POD dev bpod nud permanent
neigh replace 10.244.0.0 lladdr $MAC_VTEP_G dev flannel.1 nud permanent
route replace 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink
LINES
    in_ns "$GW" bridge fdb replace $MAC_VTEP_G dev flannel.1 dst $WIRE_G self permanent
    [ -z "$BRIDGED" ] || bridge_up
    case $BRIDGED in direct/services/ | direct/xdp-services/) services_up ;; esac
}

# A bridge in front of the pod, with what bpod had.
bridge_up() {
    ip -n "$GW" link set bpod address $MAC_PORT
    ip -n "$GW" -batch - <<LINES
addr flush dev bpod
link add cni0 address $MAC_BPOD mtu 1450 type bridge mcast_snooping 0
link set bpod master cni0
link set cni0 up
addr add 10.244.1.1/24 dev cni0
neigh replace $POD lladdr $MAC_POD dev cni0 nud permanent
LINES
    in_ns "$GW" bridge fdb replace $MAC_POD dev bpod master static
}

kernel_up() {
    kernel_node_up
    DEVICE_SETTING=$KERNEL_SETTING
    [ "$BRIDGED" != direct/cores/ ] || DEVICE_SETTING=$KERNEL_CORES_SETTING
    kernel_receive "$DEVICE_SETTING"
}

# Where the receive work is done: by threads on the device's core, by RPS on it, or where the frame comes from.
kernel_receive() {
    case $1 in
        threaded) device_threads_up ;;
        rps)
            in_ns "$GW" sh -c "echo $(printf %x $((1 << DEVICE_CORE))) | tee /sys/class/net/bwire/queues/rx-0/rps_cpus \
                >/sys/class/net/bpod/queues/rx-0/rps_cpus" ;;
        default) ;;                                            # on the sender's core: no fair setting, but worth knowing
    esac
}

kernel_down() { :; }
kernel_version() { uname -r; }

# Frames and bytes that the device has carried so far, both ways.
kernel_frames() { echo $(($(link_stat "$GW" flannel.1 rx_packets) + $(link_stat "$GW" flannel.1 tx_packets))); }
kernel_bytes() { echo $(($(link_stat "$GW" flannel.1 rx_bytes) + $(link_stat "$GW" flannel.1 tx_bytes))); }
# Processes and kernel threads that are the device's.
kernel_tasks() { napi_threads bwire bpod; }
