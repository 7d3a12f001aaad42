# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# ovs.sh of bench.sh: Open vSwitch's userspace data path on AF_XDP ports as the device under test. A router by flows, in two
# bridges, as its manual has it for tunnels: br-phy has the wire and the VTEP's address, br-pod the pod's port and the tunnel.
#
#   bwire (afxdp) ── br-phy 198.18.1.2 ··· vxlan ── br-pod ── bpod (afxdp)

OVS_PIDS=() OVS_SETTING=spin

ovs_up() {
    local state=$RUN/ovs port
    mkdir -p "$state"
    device_threads_up
    export OVS_RUNDIR=$state OVS_DBDIR=$state OVS_LOGDIR=$state OVS_SYSCONFDIR=$state
    # AF_XDP sees frames before their checksums are made: the pod has to make them itself, and so has br-phy's own port.
    in_ns "$P" ethtool -K eth0 tx off >/dev/null
    ovsdb-tool create "$state/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ip netns exec "$GW" ovsdb-server "$state/conf.db" --remote=punix:"$state/db.sock" --log-file="$state/ovsdb.log" \
        --unixctl="$state/ovsdb.ctl" -vconsole:off >/dev/null 2>&1 &
    OVS_PIDS+=($!)
    wait_until 10 "ovsdb-server" test -S "$state/db.sock"
    ovs_set --no-wait init
    ovs_set --no-wait set Open_vSwitch . "other_config:pmd-cpu-mask=$(printf '0x%x' $((1 << DEVICE_CORE)))" \
        other_config:pmd-maxsleep="$(ovs_sleep_us "$OVS_SETTING")"
    # Its polling thread chooses its core by the mask; everything else of it stays off the device's.
    ip netns exec "$GW" ovs-vswitchd unix:"$state/db.sock" --log-file="$state/vswitchd.log" --unixctl="$state/vswitchd.ctl" \
        --pidfile="$state/ovs-vswitchd.pid" --no-chdir -vconsole:off >/dev/null 2>&1 &
    OVS_PIDS+=($!)
    wait_until 20 "ovs-vswitchd" test -S "$state/vswitchd.ctl"
    ovs_set --may-exist add-br br-phy -- set bridge br-phy datapath_type=netdev fail-mode=secure "other-config:hwaddr=\"$MAC_WIRE_GW\"" \
        -- --may-exist add-br br-pod -- set bridge br-pod datapath_type=netdev fail-mode=secure \
        -- add-port br-phy bwire -- set interface bwire type=afxdp options:xdp-mode=native ofport_request=1 \
        -- add-port br-pod bpod -- set interface bpod type=afxdp options:xdp-mode=native ofport_request=1 \
        -- add-port br-pod vxlan -- set interface vxlan type=vxlan ofport_request=2 options:key=$VNI options:dst_port=$PORT \
        options:local_ip=$WIRE_GW options:remote_ip=$WIRE_G options:csum=false
    for port in bwire bpod vxlan; do
        port=$(ovs_set get interface $port error | tr -d '"[]')
        [ -z "$port" ] || die "Open vSwitch refused a port: $port"
    done
    ip -n "$GW" addr add $WIRE_GW/24 dev br-phy
    ip -n "$GW" link set br-phy up
    ovs_ask ovs/route/show | grep -q "$WIRE_GW" || ovs_ask ovs/route/add 198.18.1.0/24 br-phy >/dev/null
    ovs_ask tnl/neigh/set br-phy $WIRE_G $MAC_WIRE_G >/dev/null
    ovs_flows br-phy "in_port=1,actions=LOCAL" "in_port=LOCAL,actions=output:1"
    ovs_flows br-pod \
        "in_port=2,ip,dl_dst=$MAC_VTEP_GW,nw_dst=10.244.1.0/24,actions=mod_dl_src:$MAC_BPOD,mod_dl_dst:$MAC_POD,dec_ttl,output:1" \
        "in_port=1,ip,dl_dst=$MAC_BPOD,nw_dst=10.244.0.0/24,actions=mod_dl_src:$MAC_VTEP_GW,mod_dl_dst:$MAC_VTEP_G,dec_ttl,output:2"
    pin_device
    [ "$(ovs_ask dpctl/show | grep -c 'afxdp:.*xdp-mode-in-use=native')" = 2 ] ||
        die "Open vSwitch's ports are not in native mode: $(ovs_ask dpctl/show | tail -n 4)"
}

ovs_down() {
    local pid
    for pid in "${OVS_PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${OVS_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    OVS_PIDS=()
    rm -rf "$RUN/ovs"
}

# Whether the polling thread spins, or sleeps a little when there is nothing to do, which leaves the core to the receive threads:
# the longest sleep, by setting.
ovs_sleep_us() { if [ "$1" = sleep ]; then echo 50; else echo 0; fi; }

ovs_version() { ovs-vswitchd --version | sed -n '1s/.* //p'; }

ovs_set() { in_ns "$GW" ovs-vsctl --timeout=20 --db=unix:"$RUN/ovs/db.sock" "$@"; }
ovs_ask() { ovs-appctl --timeout=10 -t "$RUN/ovs/vswitchd.ctl" "$@"; }
# ovs_flows BRIDGE FLOW...: these, and no other.
ovs_flows() {
    local bridge=$1 flow
    shift
    for flow; do echo "$flow"; done | in_ns "$GW" ovs-ofctl replace-flows "unix:$RUN/ovs/$bridge.mgmt" -
}

# What the polling threads received from the ports.
ovs_frames() { ovs_ask dpif-netdev/pmd-stats-show | awk '/packets received:/ { sum += $3 } END { print sum + 0 }'; }
ovs_tasks() {
    printf '%s\n' "${OVS_PIDS[@]}"
    napi_threads bwire bpod
}
