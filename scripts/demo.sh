#!/bin/bash
# demo.sh: vxgate at work, for somebody who has never seen it. Builds it, makes two Kubernetes-shaped nodes out of network
# namespaces (scripts/lab.sh draws them), runs vxgate on one of them and the plain kernel on the other, and plays:
#
#   1. a pod fetches a page from a pod on the other node, by address
#   2. the same by DNS name, through a service address
#   3. somebody outside the cluster fetches it through a NodePort, on either node
#   4. vxgate is killed with SIGKILL in the middle of a download; the download finishes
#
# Every scene shows its proof: how many frames vxgate carried, and that the kernel's own vxlan device carried none.
# Exits with 0 only if every scene went as told. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

[ $# = 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' scripts/demo.sh >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "demo.sh: network namespaces need root: run it with sudo" >&2; exit 1; }

LAB=vxdemo$$
DIRECTORY=$(mktemp -d /tmp/vxgate-demo.XXXXXX)
SOCKET=$DIRECTORY/control.sock
GATE='' FAILED=0

cleanup() {
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    [ -z "$GATE" ] || kill -9 "$GATE" 2>/dev/null || true
    scripts/lab.sh down --prefix "$LAB" || true
    rm -rf "$DIRECTORY"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

# ---- how it talks ---------------------------------------------------------------------------------------------------
if [ -t 1 ]; then BOLD=$'\e[1m' GOOD=$'\e[32m' BAD=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' GOOD='' BAD='' PLAIN=''; fi
title() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
tell() { printf '   %s\n' "$*"; }
good() { printf '   %sok%s    %s\n' "$GOOD" "$PLAIN" "$*"; }
bad() { printf '   %sFAIL%s  %s\n' "$BAD" "$PLAIN" "$*"; FAILED=$((FAILED + 1)); }
# expect WHAT EXPECTED GOT
expect() { if [ "$2" = "$3" ]; then good "$1: $3"; else bad "$1: expected '$2', got '$3'"; fi; }

# ---- what it asks ---------------------------------------------------------------------------------------------------
in_ns() { local name=$1; shift; ip netns exec "$LAB-$name" "$@"; }
get() { in_ns "$1" curl -s -m 5 "$2" 2>&1 || true; }
ask_gate() { target/release/vxgate status --json --socket "$SOCKET"; }
# Frames that vxgate forwarded, both ways.
gate_frames() { ask_gate | jq '[.ports[].forwarded] | add'; }
# Frames that the kernel's own vxlan device carried on the worker, both ways.
kernel_frames() { ip -n "$LAB-n2" -json -s link show dev flannel.1 | jq '.[0].stats64 | .rx.packets + .tx.packets'; }

# Bytes that it carried. (Frames tell less here: the kernel joins up to 64 KiB of TCP into one.)
kernel_bytes() { ip -n "$LAB-n2" -json -s link show dev flannel.1 | jq '.[0].stats64 | .rx.bytes + .tx.bytes'; }

# scene NETNS URL EXPECTED: fetches, compares, and proves which way the frames took.
scene() {
    local gate kernel
    gate=$(gate_frames) kernel=$(kernel_frames)
    tell "$1\$ curl $2"
    expect "answer" "$3" "$(get "$1" "$2")"
    gate=$(($(gate_frames) - gate)) kernel=$(($(kernel_frames) - kernel))
    if [ $gate -gt 0 ] && [ $kernel = 0 ]; then
        good "proof:  $gate frames carried by vxgate, $kernel by the kernel's flannel.1"
    else
        bad "proof:  $gate frames carried by vxgate, $kernel by the kernel's flannel.1"
    fi
}

# ---- the play -------------------------------------------------------------------------------------------------------
title "Building vxgate"
scripts/setup.sh
# Where it is looked for, whatever cargo is set to.
export CARGO_TARGET_DIR=$PWD/target
cargo build --release --quiet
START=$SECONDS
tell "target/release/vxgate, $(target/release/vxgate --version)"

title "Two nodes, made of network namespaces"
cat <<'PICTURE'

      client, outside ── 10.0.0.100 ──┐
                                      │ "wire"
        ┌─────────────────────────────┴──┐
   master 10.0.0.10                 worker 10.0.0.11
   kernel vxlan (flannel.1)         vxgate carries for flannel.1
   pods 10.244.0.0/24               pods 10.244.1.0/24
     cli1 10.244.0.14                 web2 10.244.1.13   web server behind the service "web"
     web1 10.244.0.13                 dns  10.244.1.5    cluster DNS
     (service "web1")                 cli2 10.244.1.14

PICTURE
scripts/lab.sh up --prefix "$LAB" >/dev/null
tell "flannel.1 on both: VNI 1, UDP 8472, set up as flanneld leaves it; nothing of it is changed from here on"

title "vxgate starts on the worker"
tell "worker\$ vxgate run"
ip netns exec "$LAB-n2" target/release/vxgate run --log-level warn --socket "$SOCKET" >"$DIRECTORY/gate.log" 2>&1 &
GATE=$!
for _ in $(seq 200); do
    if grep -q '^ready' "$DIRECTORY/gate.log" || ! kill -0 $GATE 2>/dev/null; then break; fi
    sleep 0.05
done
if grep -q '^ready' "$DIRECTORY/gate.log"; then
    good "$(grep '^ready' "$DIRECTORY/gate.log")"
else
    bad "vxgate is not ready; it said:"
    sed 's/^/         /' "$DIRECTORY/gate.log"
    exit 1
fi

title "Scene 1: a pod on the master talks to a pod on the worker, by address"
scene cli1 http://10.244.1.13/ "pod=web2 client=10.244.0.14"

title "Scene 2: by name: DNS through its service address, then the web server through its own; both ways"
scene cli1 http://web.default.svc.cluster.local/ "pod=web2 client=10.244.0.14"
scene cli2 http://web1.default.svc.cluster.local/ "pod=web1 client=10.244.1.14"

title "Scene 3: from outside the cluster, through NodePorts on both nodes"
tell "(the pod is on the other node: the client's address is masqueraded to the entry node's flannel.1, as kube-proxy does)"
scene ext http://10.0.0.10:30080/ "pod=web2 client=10.244.0.0"
scene ext http://10.0.0.11:30081/ "pod=web1 client=10.244.1.0"

title "What vxgate says of itself"
tell "worker\$ vxgate status"
if target/release/vxgate status --socket "$SOCKET" >"$DIRECTORY/status"; then
    sed 's/^/   | /' "$DIRECTORY/status"
    good "healthy"
else
    sed 's/^/   | /' "$DIRECTORY/status"
    bad "not healthy"
fi

title "Scene 4: kill -9 in the middle of a download"
tell "cli1\$ curl http://web/blob   (24 MiB, at 8 MB a second)"
# Asked before: on a busy machine the download would be over while somebody asks.
KERNEL=$(kernel_bytes)
in_ns cli1 curl -sS -m 60 -o "$DIRECTORY/blob" 'http://web/blob?rate=8000000' 2>"$DIRECTORY/curl.log" &
CURL=$!
size() { stat -c %s "$DIRECTORY/blob" 2>/dev/null || echo 0; }
for _ in $(seq 400); do
    if [ "$(size)" -gt 8000000 ]; then break; fi
    sleep 0.02
done
GATED=$(gate_frames)
{ kill -9 $GATE && wait $GATE; } 2>/dev/null || true
GATE=''
AT=$(size)
tell "worker\$ kill -9 vxgate         (after $AT of 25165824 bytes; vxgate had forwarded $GATED frames by then)"
if [ "$AT" -ge 25165824 ]; then bad "the download was over before the kill"; fi
if wait $CURL; then good "the download finished"; else bad "the download broke: $(cat "$DIRECTORY/curl.log")"; fi
expect "SHA-256 of what arrived" "$(get web2 http://10.244.1.13/blob.sha256)" "$(sha256sum <"$DIRECTORY/blob" | cut -d' ' -f1)"
KERNEL=$(($(kernel_bytes) - KERNEL)) REST=$((25165824 - AT))
# A little of the rest was under way when the process died.
if [ $KERNEL -gt $((REST * 9 / 10)) ]; then
    good "proof:  $REST bytes were missing; the kernel's flannel.1 has carried $KERNEL since"
else
    bad "proof:  $REST bytes were missing; the kernel's flannel.1 has carried only $KERNEL since"
fi

title "Taking it all down"
cleanup
trap - EXIT
if [ -z "$(ip netns list | grep "^$LAB-" || true)" ]; then good "no namespace, process or device is left"; else bad "something is left"; fi

if [ $FAILED = 0 ]; then
    title "All scenes played, in $((SECONDS - START)) s."
else
    title "$FAILED step(s) failed."
    exit 1
fi
