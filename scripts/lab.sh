#!/bin/bash
# lab.sh: two flannel nodes with pods, services and an outside client, all in network namespaces.
#
#   PFX-ext  eth1 10.0.0.100 ──────┐
#                                  │ pext
#                         ┌────────┴────────┐
#                         │ PFX-sw          │  switch, the only place where the wire can be watched
#                         │ bridge "sw"     │
#                         └──┬───────────┬──┘
#                       p1   │           │   p2          multi-queue veth pairs (--queues)
#   ┌────────────────────────┴────┐ ┌────┴────────────────────────┐
#   │ PFX-n1   (master)           │ │ PFX-n2   (worker)           │
#   │ eth1      10.0.0.10/24      │ │ eth1      10.0.0.11/24      │
#   │ flannel.1 10.244.0.0/32     │ │ flannel.1 10.244.1.0/32     │  VNI 1, UDP 8472, nolearning
#   │ cni0      10.244.0.1/24     │ │ cni0      10.244.1.1/24     │
#   └──┬───────────────┬──────────┘ └──┬───────────┬───────────┬──┘
#   PFX-web1        PFX-cli1        PFX-web2    PFX-cli2     PFX-dns
#   10.244.0.13     10.244.0.14     10.244.1.13 10.244.1.14  10.244.1.5
#
#   services (nftables in the shape of kube-proxy, on both nodes):
#     web2  10.96.0.80:80  NodePort 30080 -> 10.244.1.13      DNS name web.default.svc.cluster.local
#     web1  10.96.0.81:80  NodePort 30081 -> 10.244.0.13      DNS name web1.default.svc.cluster.local
#     dns   10.96.0.10:53                 -> 10.244.1.5
#
#   --routed puts the nodes into two subnets, with two routers between them, so that a route can move from one to the other:
#
#     PFX-n1 10.0.0.10 ── "sw" ──┬── 10.0.0.1 PFX-r1 10.0.1.1 ──┬── "sw2" ── PFX-n2 10.0.1.11
#                     PFX-ext ───┴── 10.0.0.2 PFX-r2 10.0.1.2 ──┘
#
#   --dual-stack gives the nodes fd00:a::10 and fd00:a::11, a second device flannel-v6.1 with the same VNI and port, and the
#   pods IPv6 addresses beside the others: fd00:10:244::13 and ::14 on node 1, fd00:10:244:1::13, ::14 and ::5 on node 2.
#
#   --nics A,B has the nodes connected by two devices of the machine that are on one wire: A becomes eth1 of node 1, B of node 2.
#   There is no "sw" then, nor is the client outside connected. Taken down, the devices come back to the machine, called eth1.
#
# Nothing is ever set in the machine's own network namespace: every other device is born inside a namespace of the lab.
# The lab's state is its namespaces; a note of its options lies in /run/vxgate-lab/PFX.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

VNI=1 PORT=8472 CLUSTER=10.244.0.0/16 CLUSTER6=fd00:10:244::/48 SERVICES=10.96.0.0/16
NODE_PORT=(- 30081 30080) CLUSTER_IP=(- 10.96.0.81 10.96.0.80)   # by node of the web server

usage() {
    cat <<'EOT'
usage: lab.sh up     --prefix PFX [--queues N] [--mtu M] [--routed | --dual-stack] [--offloads on|off] [--nics A,B]
       lab.sh status --prefix PFX
       lab.sh down   --prefix PFX
       lab.sh orphans

  --prefix PFX        every namespace of the lab is called PFX-something
  --queues N          receive and transmit queues of the nodes' eth1 (default 1)
  --mtu M             MTU of the underlay (default 1500); flannel.1 and the pods get M-50
  --routed            the nodes in two subnets behind two routers
  --dual-stack        IPv6 as well: underlay, flannel-v6.1, pods
  --offloads on|off   checksum and segmentation offloads of all veths (default on, as the kernel makes them)
  --nics A,B          two devices of the machine, on one wire, instead of veths between the nodes

orphans takes down the networks of tests that were ended before they could: all that are called vxPID-something or vxPIDxN-something
and whose process PID is gone. Do not call a lab of your own so.
EOT
}
die() { echo "lab.sh: $*" >&2; exit 1; }

# ---- small tools ----------------------------------------------------------------------------------------------------
namespaces() { local f; for f in /run/netns/"$PFX"-*; do if [ -e "$f" ]; then echo "${f##*/}"; fi; done; }
in_ns() { local n=$1; shift; ip netns exec "$PFX-$n" "$@"; }
# Lines for `ip` from standard input, all in one process.
ip_in() { ip -n "$PFX-$1" -batch -; }
# Its loopback is down: what is set in it first has it up.
namespace() { ip netns add "$PFX-$1"; }
# veth NS1 IF1 NS2 IF2 MTU QUEUES
veth() {
    local q="numrxqueues $6 numtxqueues $6"
    # shellcheck disable=SC2086
    ip link add "$2" netns "$PFX-$1" mtu "$5" $q type veth peer name "$4" netns "$PFX-$3" mtu "$5" $q
    if [ "$OFFLOADS" = off ]; then
        in_ns "$1" ethtool -K "$2" tx off gso off tso off gro off >/dev/null
        in_ns "$3" ethtool -K "$4" tx off gso off tso off gro off >/dev/null
    fi
}
# A process of the lab: gone with its namespace, so nobody needs to remember its number.
background() { local n=$1; shift; setsid ip netns exec "$PFX-$n" "$@" </dev/null >>"$STATE.log" 2>&1 & }
# Under emulation everything takes many times as long (scripts/kernels.sh): so many.
PATIENCE=${VXGATE_TEST_PATIENCE:-1}
wait_for() { # SECONDS WHAT CMD...
    local end=$((SECONDS + $1 * PATIENCE)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "gave up waiting for $what; the lab's log is $STATE.log"
        sleep 0.05
    done
}

# ---- addresses ------------------------------------------------------------------------------------------------------
node_address() { if [ "$1" = 2 ] && [ "$ROUTED" = 1 ]; then echo 10.0.1.11; else echo "10.0.0.$((9 + $1))"; fi; }
node_gateway() { if [ "$1" = 2 ] && [ "$ROUTED" = 1 ]; then echo 10.0.1.1; else echo 10.0.0.1; fi; }
node_bridge() { if [ "$1" = 2 ] && [ "$ROUTED" = 1 ]; then echo sw2; else echo sw; fi; }
subnet() { echo "10.244.$(($1 - 1))"; }
node_address6() { printf 'fd00:a::1%d' $(($1 - 1)); }
subnet6() { if [ "$1" = 1 ]; then echo fd00:10:244:; else echo "fd00:10:244:$(($1 - 1)):"; fi; }   # and then ":HOST"
vtep_mac6() { printf '0e:24:40:00:%02x:06' "$1"; }
vtep_mac() { printf '0e:24:40:00:%02x:04' "$1"; }

# ---- parts ----------------------------------------------------------------------------------------------------------
switch_up() {
    namespace sw
    echo "link set lo up
link add sw mtu $MTU type bridge
link set sw up" | ip_in sw
    if [ "$ROUTED" = 0 ]; then ip -n "$PFX-sw" addr add 10.0.0.1/24 dev sw; return; fi
    echo "link add sw2 mtu $MTU type bridge
link set sw2 up" | ip_in sw
    router_up 1
    router_up 2
}

router_up() {
    namespace "r$1"
    veth sw "r$1a" "r$1" eth0 "$MTU" 1
    veth sw "r$1b" "r$1" eth1 "$MTU" 1
    echo "link set r$1a master sw up
link set r$1b master sw2 up" | ip_in sw
    echo "link set lo up
addr add 10.0.0.$1/24 dev eth0
addr add 10.0.1.$1/24 dev eth1
link set eth0 up
link set eth1 up" | ip_in "r$1"
    # No redirects: with both routers on one wire they would tell the nodes of shorter ways.
    in_ns "r$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 \
        net.ipv4.conf.eth0.send_redirects=0 net.ipv4.conf.eth1.send_redirects=0
}

nic_to() {
    local nics
    IFS=, read -ra nics <<<"$NICS"
    ip link set "${nics[$1 - 1]}" down netns "$PFX-n$1" name eth1 mtu "$MTU"
    # QEMU's igb takes checksums within a tunnel, and does not finish them.
    in_ns "n$1" ethtool -K eth1 tx off >/dev/null
}

# A node in the order in which flanneld leaves it: device, accept_ra=0, the /32, up; then each lease.
node_up() {
    local i=$1 n=n$1
    namespace "$n"
    if [ -n "$NICS" ]; then
        nic_to "$i"
    else
        veth sw "p$i" "$n" eth1 "$MTU" "$QUEUES"
        ip -n "$PFX-sw" link set "p$i" master "$(node_bridge "$i")" up
    fi
    echo "link set lo up
addr add $(node_address "$i")/24 brd + dev eth1
link set eth1 up
route add default via $(node_gateway "$i")
link add flannel.$VNI address $(vtep_mac "$i") mtu $((MTU - 50)) txqueuelen 0 type vxlan id $VNI dev eth1 local $(node_address "$i") dstport $PORT nolearning
addr add $(subnet "$i").0/32 dev flannel.$VNI
link set flannel.$VNI up
link add cni0 address 0a:58:0a:f4:0$((i - 1)):01 mtu $((MTU - 50)) type bridge
addr add $(subnet "$i").1/24 brd + dev cni0
link set cni0 up" | ip_in "$n"
    # What kubeadm asks of a host. Without bridge-nf-call-iptables same-node service traffic is not un-NATed.
    in_ns "$n" sysctl -qw net.ipv4.ip_forward=1 "net.ipv6.conf.flannel/$VNI.accept_ra=0" net.bridge.bridge-nf-call-iptables=1
    lease "$i" $((3 - i))
    [ "$DUAL" = 0 ] || node_up6 "$i"
    rules "$i" | in_ns "$n" nft -f -
}

# The lease of node $2 as flanneld applies it on node $1: neighbour, FDB entry, on-link route.
lease() {
    echo "neigh replace $(subnet "$2").0 lladdr $(vtep_mac "$2") dev flannel.$VNI nud permanent
route replace $(subnet "$2").0/24 via $(subnet "$2").0 dev flannel.$VNI onlink proto boot" | ip_in "n$1"
    bridge -n "$PFX-n$1" fdb replace "$(vtep_mac "$2")" dev flannel.$VNI dst "$(node_address "$2")" self permanent
}

# The second stack: flanneld asks for the same MTU as before, and the kernel gives it the underlay's minus 70.
node_up6() {
    local i=$1 n=n$1 j=$((3 - $1))
    in_ns "$n" sysctl -qw net.ipv6.conf.all.forwarding=1 net.bridge.bridge-nf-call-ip6tables=1
    echo "addr add $(node_address6 "$i")/64 dev eth1 nodad
link add flannel-v6.$VNI address $(vtep_mac6 "$i") mtu $((MTU - 50)) txqueuelen 0 type vxlan id $VNI dev eth1 local $(node_address6 "$i") dstport $PORT nolearning
addr add $(subnet6 "$i"):/128 dev flannel-v6.$VNI nodad
link set flannel-v6.$VNI up
addr add $(subnet6 "$i"):1/64 dev cni0 nodad
neigh replace $(subnet6 "$j"): lladdr $(vtep_mac6 "$j") dev flannel-v6.$VNI nud permanent
route replace $(subnet6 "$j"):/64 via $(subnet6 "$j"): dev flannel-v6.$VNI onlink proto boot" | ip_in "$n"
    in_ns "$n" sysctl -qw "net.ipv6.conf.flannel-v6/$VNI.accept_ra=0"
    bridge -n "$PFX-$n" fdb replace "$(vtep_mac6 "$j")" dev flannel-v6.$VNI dst "$(node_address6 "$j")" self permanent
    in_ns "$n" nft -f - <<N
table ip6 flannel {
  chain postrouting { type nat hook postrouting priority srcnat + 1;
    ip6 saddr $CLUSTER6 ip6 daddr $CLUSTER6 return
    ip6 saddr $CLUSTER6 ip6 daddr != ff00::/8 masquerade fully-random
  }
}
N
}

pod_up() { # POD NODE HOST-PART
    local pod=$1 node=n$2 net
    net=$(subnet "$2")
    namespace "$pod"
    veth "$node" "veth-$pod" "$pod" eth0 $((MTU - 50)) 1
    echo "link set veth-$pod master cni0 up
link set veth-$pod type bridge_slave hairpin on" | ip_in "$node"
    echo "link set lo up
addr add $net.$3/24 brd + dev eth0
link set eth0 up
route add default via $net.1" | ip_in "$pod"
    [ "$DUAL" = 0 ] || echo "addr add $(subnet6 "$2"):$3/64 dev eth0 nodad
route add default via $(subnet6 "$2"):1" | ip_in "$pod"
    # Another lab that goes takes the folder around this one away, if that is empty at the moment.
    wait_for 5 "the folder of $pod" mkdir -p "/etc/netns/$PFX-$pod"
    # `ip netns exec` mounts this over /etc/resolv.conf: what the kubelet writes into a pod.
    printf 'nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n' \
        >"/etc/netns/$PFX-$pod/resolv.conf"
}

# Services in the shape of kube-proxy (DNAT on the way in, mark 0x4000 for what must come back through this node) and the
# masquerading of flannel's --ip-masq.
rules() {
    local own
    own=$(subnet "$1").0/24
    cat <<N
table ip proxy {
  chain web1 { ip saddr 10.244.0.13 meta mark set meta mark or 0x4000; meta l4proto tcp dnat to 10.244.0.13:80; }
  chain web2 { ip saddr 10.244.1.13 meta mark set meta mark or 0x4000; meta l4proto tcp dnat to 10.244.1.13:80; }
  chain dns { ip saddr 10.244.1.5 meta mark set meta mark or 0x4000; meta l4proto { tcp, udp } dnat to 10.244.1.5:53; }
  chain services {
    ip saddr != $CLUSTER ip daddr $SERVICES meta mark set meta mark or 0x4000
    ip daddr ${CLUSTER_IP[1]} tcp dport 80 goto web1
    ip daddr ${CLUSTER_IP[2]} tcp dport 80 goto web2
    ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 53 goto dns
    fib daddr type local tcp dport ${NODE_PORT[1]} meta mark set meta mark or 0x4000 goto web1
    fib daddr type local tcp dport ${NODE_PORT[2]} meta mark set meta mark or 0x4000 goto web2
  }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain output { type nat hook output priority -100; jump services; }
  chain postrouting { type nat hook postrouting priority srcnat;
    meta mark & 0x4000 != 0x4000 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
}
table ip flannel {
  chain postrouting { type nat hook postrouting priority srcnat + 1;
    meta mark & 0x4000 == 0x4000 return
    ip saddr $own ip daddr $CLUSTER return
    ip saddr $CLUSTER ip daddr $own return
    ip saddr != $CLUSTER ip daddr $own return
    ip saddr $CLUSTER ip daddr != 224.0.0.0/4 masquerade fully-random
    ip saddr != $CLUSTER ip daddr $CLUSTER masquerade fully-random
  }
}
N
}

outside_up() {
    namespace ext
    veth sw pext ext eth1 "$MTU" 1
    ip -n "$PFX-sw" link set pext master sw up
    echo "link set lo up
addr add 10.0.0.100/24 dev eth1
link set eth1 up
route add default via 10.0.0.1" | ip_in ext
}

daemons_up() {
    background web1 "$HERE/podhttpd.py" web1 10.244.0.13 80
    background web2 "$HERE/podhttpd.py" web2 10.244.1.13 80
    background dns dnsmasq -k -C /dev/null --no-resolv --no-hosts --user=root --pid-file= --bind-interfaces \
        --listen-address=10.244.1.5 "--address=/web.default.svc.cluster.local/${CLUSTER_IP[2]}" \
        "--address=/web1.default.svc.cluster.local/${CLUSTER_IP[1]}"
    wait_for 20 "the web server of node 1" in_ns web1 curl -sf -m "$PATIENCE" http://10.244.0.13/
    wait_for 20 "the web server of node 2" in_ns web2 curl -sf -m "$PATIENCE" http://10.244.1.13/
    wait_for 20 "the DNS server" in_ns cli2 getent ahostsv4 web
    wait_for 20 "the overlay" in_ns cli1 curl -sf -m "$PATIENCE" http://10.244.1.13/
    [ "$DUAL" = 1 ] || return 0
    background web1 "$HERE/podhttpd.py" web1 fd00:10:244::13 80
    background web2 "$HERE/podhttpd.py" web2 fd00:10:244:1::13 80
    wait_for 20 "the IPv6 web server of node 1" in_ns web1 curl -sf -m "$PATIENCE" 'http://[fd00:10:244::13]/'
    wait_for 20 "the IPv6 web server of node 2" in_ns web2 curl -sf -m "$PATIENCE" 'http://[fd00:10:244:1::13]/'
    wait_for 20 "the IPv6 overlay" in_ns cli1 curl -sf -m "$PATIENCE" 'http://[fd00:10:244:1::13]/'
}

# ---- verbs ----------------------------------------------------------------------------------------------------------
# Only in the script itself: bash has a subshell that a signal ends come here, too. No other signal ends it half-way.
up_failed() {
    [ "$BASHPID" = $$ ] || return 0
    trap '' HUP INT PIPE TERM
    set +e
    echo "lab.sh: up failed, removing what was built" >&2
    lab_down
}

log_begin() { mkdir -p "${STATE%/*}" && : >"$STATE.log"; }

lab_up() {
    local options="queues=$QUEUES mtu=$MTU routed=$ROUTED dual=$DUAL offloads=$OFFLOADS nics=$NICS" tool
    for tool in ip nft sysctl ethtool curl dnsmasq /usr/bin/python3; do
        command -v $tool >/dev/null || die "$tool is missing: run scripts/setup.sh"
    done
    if [ "$(cat "$STATE" 2>/dev/null)" = "$options" ]; then echo "already up: $options"; return; fi
    lab_down
    modprobe -qa vxlan bridge veth br_netfilter 2>/dev/null || true      # built in, or loaded, or the next lines tell
    wait_for 5 "the folder of the lab's log" log_begin
    trap up_failed EXIT
    trap 'exit 130' HUP INT TERM
    switch_up
    node_up 1
    node_up 2
    pod_up web1 1 13
    pod_up cli1 1 14
    pod_up web2 2 13
    pod_up cli2 2 14
    pod_up dns 2 5
    outside_up
    daemons_up
    echo "$options" >"$STATE"
    trap - EXIT HUP INT TERM
    echo "up: $options"
}

lab_down() {
    local n pids
    rm -f "$STATE" "$STATE.log"
    for n in $(namespaces); do
        pids=$(ip netns pids "$n" 2>/dev/null) || true
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
    done
    for n in $(namespaces); do
        ip netns del "$n" || true
        rm -rf "/etc/netns/$n"
    done
    rmdir /etc/netns "${STATE%/*}" 2>/dev/null || true
}

# The number of a test's process is in the names.
lab_orphans() {
    local netns
    for netns in /run/netns/vx*; do
        if [[ ${netns##*/} =~ ^(vx([0-9]+)(x[0-9]*)?)- && ! -e /proc/${BASH_REMATCH[2]}/exe ]]; then
            PFX=${BASH_REMATCH[1]} STATE=/run/vxgate-lab/${BASH_REMATCH[1]}
            lab_down
        fi
    done
}

lab_status() {
    local i
    [ -e "$STATE" ] || { echo "down"; exit 1; }
    echo "up: $(cat "$STATE")"
    for i in 1 2; do
        echo "--- $PFX-n$i"
        ip -n "$PFX-n$i" -br addr show
        ip -n "$PFX-n$i" route show
        in_ns "n$i" bridge fdb show dev flannel.$VNI
    done
}

VERB=${1:-help}
[ $# = 0 ] || shift
PFX='' QUEUES=1 MTU=1500 ROUTED=0 DUAL=0 OFFLOADS=on NICS=''
while [ $# -gt 0 ]; do
    case $1 in
        --routed) ROUTED=1; shift; continue ;;
        --dual-stack) DUAL=1; shift; continue ;;
        --prefix | --queues | --mtu | --offloads | --nics) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) usage >&2; die "what is $1?" ;;
    esac
    case $1 in
        --prefix) PFX=$2 ;;
        --queues) QUEUES=$2 ;;
        --mtu) MTU=$2 ;;
        --offloads) OFFLOADS=$2 ;;
        --nics) NICS=$2 ;;
    esac
    shift 2
done
case $VERB in
    help | -h | --help) usage; exit 0 ;;
    up | down | status | orphans) ;;
    *) usage >&2; die "what is $VERB?" ;;
esac
[ "$(id -u)" = 0 ] || die "network namespaces need root: run it with sudo"
[ "$VERB" != orphans ] || { lab_orphans; exit; }
[[ $PFX =~ ^[A-Za-z0-9]+$ ]] || die "--prefix must be letters and digits"
[[ $QUEUES =~ ^[0-9]+$ && $QUEUES -ge 1 && $QUEUES -le 64 ]] || die "--queues must be 1..64"
[[ $MTU =~ ^[0-9]+$ && $MTU -ge 650 && $MTU -le 9000 ]] || die "--mtu must be 650..9000"
[[ $OFFLOADS =~ ^(on|off)$ ]] || die "--offloads must be on or off"
[[ $NICS =~ ^([A-Za-z0-9]+,[A-Za-z0-9]+)?$ ]] || die "--nics must be two devices, with a comma between them"
[ -z "$NICS" ] || [ "$ROUTED" = 0 ] || die "--nics and --routed exclude each other"
[ $((ROUTED + DUAL)) -le 1 ] || die "--routed and --dual-stack exclude each other"
[ "$DUAL" = 0 ] || [ "$MTU" -ge 1350 ] || die "--dual-stack needs --mtu 1350 at least: IPv6 needs 1280 inside"
STATE=/run/vxgate-lab/$PFX
"lab_$VERB"
