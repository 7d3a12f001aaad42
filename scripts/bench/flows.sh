# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# flows.sh of bench.sh: what many flows, and new ones, cost the direct path. A value is a share of what the same device carries of
# few flows, measured right before.

MANY=100000 PROFILE=''
# The places that vxgate's table has then: where so many flows find theirs but for one in a thousand.
MANY_ROOM=262144
NEW_RATE=10000
# What many and new flows are told by. Flow N has the N-th address and the N-th port, round and round: no divisor in common.
NEW_ADDRESSES=3 NEW_PORTS=50000 NEW_FAR=10.244.0.21 NEW_FAR_LAST=10.244.0.23

measure_flows() {
    local step=$1 few name=${1%/*}
    UNJUDGED=''
    offer_all "$name"
    few=$ARRIVED
    if [ -z "$FAILURE" ]; then
        case $step in
            */many) offer_many ;;
            */new) offer_new "${name%%/*}" "$few" ;;
        esac
    fi
    measure "$step" "$(value "$ARRIVED / $few * 100")" '% of few flows' higher "${FAILURE:-$UNJUDGED}"
}

# The generator flat out with many flows. Two generators on one core bring each direction as few as 12,000 frames a second when the
# machine is busy, and each begins with the first flow: in a shorter time the last ones would never be sent, however often.
offer_many() {
    local FLOWS=$MANY JUDGE_RATE=50k JUDGE_S=10
    offer_all many
}

# For `tester_flags`: of one pod and three far ones, by ports of the pod's. The flows of one direction are those of the other.
many_flows() {
    far=$NEW_FAR-$NEW_FAR_LAST far_ports=5000 near_ports=7000-$((6999 + NEW_PORTS))
    # The far addresses are nobody's.
    more=(--i-know-this-network)
}

# The ends alone, in place of the flags of one stream.
profile_flags() {
    TESTER=(--profile "$PROFILE" --engine live --tx-core $GENERATOR_CORE --i-know-this-network)
    case $1 in
        decap) TESTER+=(--tx wire --tx-netns $G --rx eth0 --rx-netns $P) ;;
        encap) TESTER+=(--tx eth0 --tx-netns $P --rx wire --rx-netns $G) ;;
    esac
}

# offer_new DIRECTION FEW: few flows flat out, and beside them new ones, of which so many a second arrive as are wanted if the rest
# arrives as before. Of each there is one frame each way.
offer_new() {
    local share
    share=$(jq -n "[$2 / $NEW_RATE, 1] | max | floor")
    new_profile "$1" "$share" >"$RUN/new.toml"
    answers_up "$1"
    PROFILE=$RUN/new.toml
    offer_all new
    PROFILE=''
    answers_down
}

# new_profile DIRECTION SHARE: the streams, as `vxgate bench rate --profile` reads them.
new_profile() {
    local few=5000-$((4999 + FLOWS)) near=7000-$((6999 + FLOWS)) ports=7000-$((6999 + NEW_PORTS)) common
    case $1 in
        decap)
            common="vni = $VNI
vxlan-port = $PORT
vtep-src = \"$WIRE_G\"
vtep-dst = \"$WIRE_GW\"
outer-dst-mac = \"$MAC_WIRE_GW\"
src-mac = \"$MAC_VTEP_G\"
dst-mac = \"$MAC_VTEP_GW\"
dst = \"$POD\"
arrival-mac = \"$MAC_POD\""
            printf '[[stream]]\nname = "few"\nshare = %s\nflows = %s\nsrc = "%s"\nsrc-port = "%s"\ndst-port = "%s"\n%s\n' \
                "$2" "$FLOWS" "$POD_G" "$few" "$near" "$common"
            printf '[[stream]]\nname = "new"\nflows = %s\nsrc = "%s-%s"\nsrc-port = 5000\ndst-port = "%s"\n%s\n' \
                $((NEW_ADDRESSES * NEW_PORTS)) $NEW_FAR $NEW_FAR_LAST "$ports" "$common" ;;
        encap)
            common="src-mac = \"$MAC_POD\"
dst-mac = \"$MAC_BPOD\"
src = \"$POD\"
arrival-mac = \"$MAC_VTEP_G\""
            printf '[[stream]]\nname = "few"\nshare = %s\nflows = %s\ndst = "%s"\nsrc-port = "%s"\ndst-port = "%s"\n%s\n' \
                "$2" "$FLOWS" "$POD_G" "$near" "$few" "$common"
            printf '[[stream]]\nname = "new"\nflows = %s\ndst = "%s-%s"\nsrc-port = "%s"\ndst-port = 5000\n%s\n' \
                $((NEW_ADDRESSES * NEW_PORTS)) $NEW_FAR $NEW_FAR_LAST "$ports" "$common" ;;
    esac
}

# answers_up DIRECTION: the other direction of the new flows, on the generator's core and before the generator there, which never
# sleeps.
ANSWERS=''
answers_up() {
    local ends
    case $1 in
        decap) ends=($P eth0 $MAC_POD $MAC_BPOD $POD $NEW_FAR+$NEW_ADDRESSES 7000+$NEW_PORTS 5000) ;;
        encap) ends=($G flannel.1 $MAC_VTEP_G $MAC_VTEP_GW $NEW_FAR+$NEW_ADDRESSES $POD 5000 7000+$NEW_PORTS) ;;
    esac
    ip netns exec "${ends[0]}" chrt -f 1 scripts/bench/answers.py "${ends[@]:1}" $NEW_RATE >"$RUN/answers.log" 2>&1 &
    ANSWERS=$!
}
answers_down() {
    local answers=$ANSWERS
    ANSWERS=''
    [ -n "$answers" ] || return 0
    kill "$answers" 2>/dev/null || FAILURE="answers.py: $(tail -n 1 "$RUN/answers.log" | cut -c 1-300)"
    wait "$answers" 2>/dev/null || true
}
