#!/bin/bash
# guest.sh KERNEL TESTS: what scripts/kernels.sh runs inside an emulated machine. Its log is beside the folder KERNEL; the lines
# that are told begin with "=".
#
# Two nodes (scripts/lab.sh), vxgate on node 1 with a direct path asked for, the plain kernel on node 2. What the direct path has
# to be here follows from the kernel's version, and everything that vxgate says is held to that.
set -uo pipefail
KERNEL=$1 TESTS=$2
exec >"$KERNEL.log" 2>&1
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export LC_ALL=C PATH="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin" HOME=/tmp
# For all that waits: everything takes some twenty times as long.
export VXGATE_TEST_PATIENCE=15
RELEASE=$(uname -r)
LAB=vxk$$ SOCKET=/tmp/vxk.sock LOG=/tmp/vxk.log GATE='' START=$SECONDS

# ---- the machine --------------------------------------------------------------------------------------------------------
# The kernel loads modules by itself; they lie in the cache.
printf '#!/bin/sh\nexec /usr/sbin/modprobe -d %s "$@"\n' "$KERNEL" >/tmp/modprobe
chmod 755 /tmp/modprobe
echo /tmp/modprobe >/proc/sys/kernel/modprobe
/tmp/modprobe -a veth vxlan bridge br_netfilter tun nf_conntrack 2>&1
VXGATE=$PWD/target/release/vxgate

# The gear that the direct path has here.
case $RELEASE in
    [0-5].* | 6.[0-5].*) GEAR=none ;;
    6.[6-9].* | 6.1[0-4].*) GEAR=ring ;;
    *) GEAR=express ;;
esac

tell() { echo "=$*"; }
# step NAME CMD...: a line of what came of it, and what was said when it went wrong.
step() {
    local name=$1 start=$SECONDS out=/tmp/vxk.out how=ok
    shift
    "$@" >$out 2>&1 || how=FAIL
    printf '=%-4s  %-42s %4d s  %s\n' $how "$name" $((SECONDS - start)) "$(tail -n 1 $out)"
    [ $how = ok ] || { echo "---- $name"; cat $out; tail -n 20 $LOG; echo ----; } 2>&1
}
wait_for() { # WHAT CMD...
    local end=$((SECONDS + 120)) what=$1
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "gave up waiting for $what"; return 1; }
        sleep 0.2
    done
}
in_ns() { local n=$1; shift; ip netns exec "$LAB-$n" "$@"; }
ask() { "$VXGATE" "$@" --socket $SOCKET; }
forwarded() { ask status --json | jq '[.ports[].forwarded] | add'; }
by_kernel() { ip -n "$LAB-n1" -json -s link show dev flannel.1 | jq '.[0].stats64 | .rx.packets + .tx.packets'; }
get() { in_ns "$1" curl -sS -m 300 "$2"; }
has() { grep -qF -- "$1" <<<"$2" || { echo "'$1' is not in: $2"; return 1; }; }

# ---- what is to be seen -------------------------------------------------------------------------------------------------
lab() { # [ARGUMENT...]
    scripts/lab.sh up --prefix $LAB "$@" && in_ns n1 sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
}

gate_up() { # [ARGUMENT...]
    ip netns exec $LAB-n1 setsid "$VXGATE" run --direct flows --log-level info --socket $SOCKET "$@" >$LOG 2>&1 &
    GATE=$!
    wait_for "the line that says ready" grep -q '^ready' $LOG || { cat $LOG; return 1; }
    grep '^ready' $LOG
}

# Both ways, by address, by name, from outside where there is one; through vxgate and beside the kernel's own device.
scenes() { # [inside]
    local before kernel
    before=$(forwarded) kernel=$(by_kernel)
    [ "$(get cli1 http://10.244.1.13/)" = "pod=web2 client=10.244.0.14" ] || { echo "by address"; return 1; }
    [ "$(get cli2 http://10.244.0.13/)" = "pod=web1 client=10.244.1.14" ] || { echo "by address, back"; return 1; }
    [ "$(get cli1 http://web.default.svc.cluster.local/)" = "pod=web2 client=10.244.0.14" ] || { echo "by name"; return 1; }
    [ "${1:-}" = inside ] || [ "$(get ext http://10.0.0.10:30080/)" = "pod=web2 client=10.244.0.0" ] || { echo "through a NodePort"; return 1; }
    in_ns cli1 ping -q -c 5 -i 0.3 -W 5 10.244.1.14 >/dev/null || { echo "ping"; return 1; }
    in_ns cli1 ping -q -c 2 -W 5 -M do -s 1422 10.244.1.14 >/dev/null || { echo "ping, as long as may be"; return 1; }
    before=$(($(forwarded) - before)) kernel=$(($(by_kernel) - kernel))
    [ $before -gt 30 ] || { echo "vxgate forwarded $before frames"; return 1; }
    echo "$before frames by vxgate, $kernel by the kernel's device"
}

# A download of 24 MiB, hashed: superframes, or what this kernel has of them.
bulk() {
    local hash
    hash=$(get cli1 http://10.244.1.13/blob | sha256sum | cut -d' ' -f1) || return 1
    [ "$hash" = "$(get cli1 http://10.244.1.13/blob.sha256)" ] || { echo "24 MiB are not what was sent"; return 1; }
    echo "24 MiB, $(ask status | grep -om 1 'superframes by [^,]*, [^,]*' || echo 'frame by frame')"
}

# The same from a pod of this node. Its superframes are for the kernel's own vxlan device to send, once the flow goes direct.
left_to_kernel() { ask status --json | jq '[.ports[] | select(.role == "access") | .passed.superframe // 0] | add'; }
bulk_out() {
    local hash before left end=$((SECONDS + 300))
    while :; do
        before=$(left_to_kernel)
        hash=$(get cli2 http://10.244.0.13/blob | sha256sum | cut -d' ' -f1) || return 1
        [ "$hash" = "$(get web2 http://10.244.1.13/blob.sha256)" ] || { echo "24 MiB are not what was sent"; return 1; }
        left=$(($(left_to_kernel) - before))
        [ $GEAR != none ] || break
        [ $left -lt 1000 ] || break
        [ $SECONDS -lt $end ] || { echo "$left frames by the kernel's device"; ask status; return 1; }
    done
    [ $GEAR != none ] || [ $left = 0 ] || { echo "$left frames by the kernel's device"; return 1; }
    echo "24 MiB, $left frames of them in superframes by the kernel's device"
}

# The words of the direct path, in status, flows and doctor.
says() {
    local status flows doctor
    status=$(ask status) flows=$(ask flows) doctor=$(ip netns exec $LAB-n1 "$VXGATE" doctor --socket $SOCKET)
    printf '%s\n\n%s\n\n%s\n' "$status" "$flows" "$doctor"
    case $GEAR in
        none) local words="not on this kernel ($RELEASE): needs Linux 6.6 (tcx)" ;;
        ring) local words="not on this kernel ($RELEASE): needs Linux 6.15 (" ;;
        express)
            ! grep -q 'not on this kernel' <<<"$status$flows$doctor" || return 1
            echo "both gears"
            return
            ;;
    esac
    has "$words" "$status" && has "$words" "$flows" && has "$words" "$(tr -s ' \n' ' ' <<<"$doctor")" || return 1
    grep -m 1 -F "$words" <<<"$status" | sed 's/^ *//'
}

direct_frames() { # WAY
    ask status --json | jq ".direct.$1.forwarded // 0"
}
# Requests over connections that live on, until they went as high as they may here.
promoted() {
    local way end=$((SECONDS + 180))
    case $GEAR in none) way='' ;; ring) way=ring_out ;; express) way=out ;; esac
    while :; do
        [ "$(get cli1 'http://10.244.1.13/?[1-300]' | sort -u)" = "pod=web2 client=10.244.0.14" ] || { echo "an answer is wrong"; return 1; }
        [ -n "$way" ] || break
        [ "$(direct_frames $way)" -lt 100 ] || break
        [ $SECONDS -lt $end ] || { echo "no flow goes direct"; ask flows; ask status; return 1; }
    done
    [ -n "$way" ] || { echo "every flow takes the transparent path"; return; }
    [ $GEAR = express ] || [ "$(direct_frames out)" = 0 ] || { echo "frames went express"; return 1; }
    echo "$(direct_frames out) frames from pods express, $(direct_frames ring_out) by the ring gear"
}

# XDP at the pods' devices takes what they send with finished checksums, where flows go express. Where none does, it is left out,
# and said.
offloads() { in_ns cli1 ethtool -k eth0 | grep ': on'; }
xdp_at_pods() { ip -n $LAB-n1 -json link show master cni0 | jq '[.[] | select(.xdp)] | length'; }
pod_xdp_up() {
    # A veth takes frames from XDP on others while its other end has GRO on; a NIC says by itself whether it does.
    ! in_ns sw test -e /sys/class/net/p1 || in_ns sw ethtool -K p1 gro on || return 1
    offloads >/tmp/vxk.offloads
    gate_up --pod-programs xdp
}
pods_send_by() { [ "$(ask status --json | jq -c '[.direct.pod_devices[].sending] | unique')" = "[\"$1\"]" ]; }
pod_xdp() {
    local words='sending: no pod by XDP, since no flow goes express' end=$((SECONDS + 180)) lost status
    if [ $GEAR != express ]; then
        status=$(ask status)
        has "$words" "$status" || return 1
        [ $GEAR = none ] || wait_for "pods that are looked after" pods_send_by classifier || return 1
        [ "$(xdp_at_pods)" = 0 ] || { echo "XDP is at pods' devices"; return 1; }
        [ "$(offloads)" = "$(cat /tmp/vxk.offloads)" ] || { offloads; return 1; }
        echo "$words"
        return
    fi
    wait_for "XDP at the pods" pods_send_by xdp || { ask status; return 1; }
    lost=$(comm -23 <(sort /tmp/vxk.offloads) <(offloads | sort) | wc -l)
    in_ns cli1 ethtool -K eth0 tx off || return 1
    until [ "$(ask status --json | jq .direct.out_by_xdp)" -ge 100 ]; do
        [ "$(get cli1 'http://10.244.1.13/?[1-300]' | sort -u)" = "pod=web2 client=10.244.0.14" ] || { echo "an answer is wrong"; return 1; }
        [ $SECONDS -lt $end ] || { echo "nothing goes by XDP"; ask flows; ask status; return 1; }
    done
    balanced >/dev/null || { echo "out of balance"; return 1; }
    echo "$(ask status --json | jq .direct.out_by_xdp) frames from pods by XDP at $(xdp_at_pods) devices, which lost $lost offloads"
}
# It is gone with vxgate, and the pods have their offloads again.
pod_xdp_down() {
    gate_down || return 1
    in_ns cli1 ethtool -K eth0 tx on || return 1
    [ "$(xdp_at_pods)" = 0 ] || { echo "XDP is at pods' devices still"; return 1; }
    offloads | diff /tmp/vxk.offloads - || return 1
    echo "no program is left, offloads as before"
}

balanced() {
    local status
    for _ in $(seq 20); do
        status=$(ask status --json)
        if jq -e '([.ports[].balance_ok] + [.direct // {} | (.out, .in, .ring_out, .ring_in) | select(. != null) | .balance_ok]) | all' <<<"$status" >/dev/null; then
            jq -r '"every port, every way; \(.state)"' <<<"$status"
            return
        fi
        sleep 1
    done
    jq -c '[.ports[] | {name, received, in_flight, balance_ok}], .direct' <<<"$status"
    return 1
}

# Pings every 50 ms, while something happens to the process: how many are lost.
under_pings() { # AT-MOST CMD...
    local pings lost most=$1
    shift
    in_ns cli1 ping -n -c 200 -i 0.05 -W 10 10.244.1.14 >/tmp/pings &
    pings=$!
    sleep 4
    "$@" || return 1
    wait $pings
    lost=$(sed -n 's/.* \([0-9]*\) received.*/\1/p' /tmp/pings)
    lost=$((200 - ${lost:-0}))
    echo "$lost of 200 pings lost"
    [ $lost -le "$most" ]
}

hang() {
    local before
    before=$(by_kernel)
    kill -STOP $GATE
    sleep 3
    kill -CONT $GATE
    [ $(($(by_kernel) - before)) -gt 10 ] || { echo "the kernel's device carried nothing meanwhile"; return 1; }
}

die_hard() {
    kill -9 $GATE
    wait $GATE
    [ -z "$(filters)" ] || [ $GEAR = none ] || { echo "a filter is left: $(filters)"; return 1; }
}
filters() { tc -n $LAB-n1 filter show dev flannel.1 egress; }

after_death() {
    local before
    before=$(by_kernel)
    [ "$(get cli1 http://10.244.1.13/)" = "pod=web2 client=10.244.0.14" ] || { echo "no answer"; return 1; }
    [ $(($(by_kernel) - before)) -ge 8 ] || { echo "not by the kernel's device"; return 1; }
    if [ -n "$(filters)" ]; then echo "by the kernel; the clsact filter passes every frame"; else echo "by the kernel; no program is left"; fi
}

# On SIGTERM nothing is left, whatever a killed one had left before.
gate_down() {
    kill -TERM $GATE
    wait $GATE || { echo "it ends with $?"; return 1; }
    [ -z "$(filters)" ] || { filters; return 1; }
    ! ip -n $LAB-n1 -br link show | grep -E '^vxg' || return 1
}

# tests NAME BINARY ARGUMENT...: tests of the suite, a few at a time.
tests() {
    local binary=$1
    shift
    [ -x "$TESTS/$binary" ] || { echo "$TESTS/$binary is not there"; return 1; }
    timeout 1500 "$(readlink -f "$TESTS/$binary")" --test-threads 1 "$@" >/tmp/vxk.tests 2>&1 || { cat /tmp/vxk.tests; return 1; }
    grep '^test result' /tmp/vxk.tests
}

tell "$RELEASE, $(nproc) processors, emulated; the direct path here: $GEAR"
# Each test of the programs loads them and has the kernel run them.
step "programs: verified, and judge as elsewhere" tests vxgate steer::copy
# Of those of the direct path some: verifying takes seconds here, and each does it anew.
[ $GEAR = none ] || step "programs of the direct path: the same" tests vxgate every_frame_that_comes the_ring_gear_routes_either_family \
    steer::ring::tests::superframes
# Before Linux 6.13 `bpf_csum_diff` takes 512 bytes, and longer datagrams would be left to the classifier.
[ $GEAR != express ] || step "programs at the pods: the same" tests vxgate steer::express::tests::pod::what
step "lab" lab
step "vxgate starts" gate_up
step "scenes" scenes
step "bulk" bulk
step "direct path" promoted
step "bulk from a pod" bulk_out
step "what it says" says
step "balance" balanced
step "SIGSTOP" under_pings 10 hang
step "SIGKILL" under_pings 10 die_hard
step "after SIGKILL" after_death
step "starts again" gate_up
step "scenes again" scenes
step "SIGTERM" gate_down
step "XDP at the pods: starts" pod_xdp_up
step "XDP at the pods" pod_xdp
step "XDP at the pods: SIGTERM" pod_xdp_down
GATE=''
scripts/lab.sh down --prefix $LAB

# The same on a NIC that is none of ours: two of them, on one wire (igb: zero-copy from Linux 6.14 on).
nics() {
    /tmp/modprobe igb || return 1
    wait_for "two NICs" eval '[ "$(drivers | wc -l)" = 2 ]' || return 1
    lab --nics "$(drivers | paste -sd,)"
}
drivers() { local nic; for nic in /sys/class/net/*; do if [ "$(basename "$(readlink "$nic/device/driver")")" = igb ]; then basename "$nic"; fi; done; }
zero_copy() {
    local port
    port=$(ask status --json | jq -c '.ports[] | select(.role == "underlay") | {name, xdp_mode, zero_copy, why_not_better, queues}')
    echo "$port"
    case $RELEASE in
        [0-5].* | 6.[0-9].* | 6.1[0-3].*) ;;
        *) [ "$(jq .zero_copy <<<"$port")" = true ] || return 1 ;;
    esac
}
step "igb: lab" nics
step "igb: vxgate starts" gate_up
step "igb: zero-copy" zero_copy
step "igb: scenes" scenes inside
step "igb: bulk" bulk
step "igb: direct path" promoted
step "igb: bulk from a pod" bulk_out
step "igb: balance" balanced
# The driver resets the device when a program comes or goes: some 2 s without a link.
step "igb: SIGKILL" under_pings 80 die_hard
step "igb: after SIGKILL" after_death
step "igb: XDP at the pods: starts" pod_xdp_up
step "igb: XDP at the pods" pod_xdp
step "igb: XDP at the pods: SIGTERM" pod_xdp_down
GATE=''
scripts/lab.sh down --prefix $LAB

# What the suite has of this, where no time is measured, and as far as it holds for every kernel: before 6.17 one call sends 32
# frames, before 6.16 a veth does not push back, before 6.6 no test of programs that are gone knows where to look for them.
if [ $GEAR = none ]; then
    step "tests: programs on devices" tests steer attach::a_filter fail_open::the fail_open::what judge
else
    step "tests: programs on devices" tests steer attach fail_open judge
fi
step "tests: AF_XDP" tests port_xsk bytes_cross a_second_registration a_taken_queue a_closed_port a_device_that_is_down \
    a_deleted_device a_sleeping_worker
tell "all done in $((SECONDS - START)) s"
