# shellcheck shell=bash disable=SC2034,SC2086,SC2153,SC2154,SC2206 # one script in several files; its constants are words
# services.sh of bench.sh: what else stands in a frame's way on a node of a cluster, for the rows direct/services/*: flannel's
# rules, kube-proxy's of a thousand services, and with them conntrack. By iptables-nft, whose changes the kernel announces.

SERVICES=1000
CLUSTER=10.244.0.0/16 NODE_PODS=10.244.1.0/24

services_up() {
    services_rules | in_ns "$GW" iptables-nft-restore || die "iptables-nft-restore refused the rules of services.sh"
    # A rule that is not there measures nothing.
    [ "$(in_ns "$GW" iptables-nft-save -t nat | grep -c '^-A KUBE-SERVICES -d ')" = $SERVICES ] ||
        die "the rules of $SERVICES services are not in place"
}

# As flanneld and kube-proxy (its mode iptables) write them. Each service has
# two end points in the cluster, none of which is the pod that is measured.
services_rules() {
    awk -v services=$SERVICES -v cluster=$CLUSTER -v pods=$NODE_PODS '
    function comment(text) { return "-m comment --comment \"" text "\"" }
    function service(n) { return sprintf("KUBE-SVC-%016d", n) }
    function endpoint(n, which) { return sprintf("KUBE-SEP-%015d%d", n, which) }
    function address(n) { return sprintf("10.96.%d.%d", int(n / 250), n % 250 + 1) }
    function pod(n, which) { return sprintf("10.244.%d.%d", 2 + (n + 7 * which) % 100, 2 + n % 200) }
    BEGIN {
        masq = "-j MASQUERADE --random-fully"
        print "*nat"
        print ":PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT"
        print ":FLANNEL-POSTRTG -\n:KUBE-SERVICES -\n:KUBE-NODEPORTS -\n:KUBE-POSTROUTING -\n:KUBE-MARK-MASQ -"
        for (n = 0; n < services; n++)
            print ":" service(n) " -\n:" endpoint(n, 0) " -\n:" endpoint(n, 1) " -"
        print "-A PREROUTING", comment("kubernetes service portals"), "-j KUBE-SERVICES"
        print "-A OUTPUT", comment("kubernetes service portals"), "-j KUBE-SERVICES"
        print "-A POSTROUTING", comment("kubernetes postrouting rules"), "-j KUBE-POSTROUTING"
        print "-A POSTROUTING", comment("flanneld masq"), "-j FLANNEL-POSTRTG"
        print "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000"
        print "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"
        print "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000"
        print "-A KUBE-POSTROUTING", comment("kubernetes service traffic requiring SNAT"), masq
        flannel = comment("flanneld masq")
        print "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000", flannel, "-j RETURN"
        print "-A FLANNEL-POSTRTG -s", pods, "-d", cluster, flannel, "-j RETURN"
        print "-A FLANNEL-POSTRTG -s", cluster, "-d", pods, flannel, "-j RETURN"
        print "-A FLANNEL-POSTRTG ! -s", cluster, "-d", pods, flannel, "-j RETURN"
        print "-A FLANNEL-POSTRTG -s", cluster, "! -d 224.0.0.0/4", flannel, masq
        print "-A FLANNEL-POSTRTG ! -s", cluster, "-d", cluster, flannel, masq
        for (n = 0; n < services; n++) {
            protocol = n % 10 ? "tcp" : "udp"
            name = "default/service-" n
            ports = " -p " protocol " " comment(name " cluster IP") " -m " protocol " --dport 80"
            print "-A KUBE-SERVICES -d " address(n) "/32" ports " -j " service(n)
            print "-A " service(n) " ! -s " cluster " -d " address(n) "/32" ports " -j KUBE-MARK-MASQ"
            for (which = 0; which < 2; which++) {
                to = pod(n, which)
                chance = which ? "" : " -m statistic --mode random --probability 0.5"
                print "-A " service(n) " " comment(name " -> " to ":8080") chance " -j " endpoint(n, which)
                print "-A " endpoint(n, which) " -s " to "/32 " comment(name) " -j KUBE-MARK-MASQ"
                print "-A " endpoint(n, which) " -p " protocol " " comment(name) " -m " protocol \
                    " -j DNAT --to-destination " to ":8080"
            }
        }
        print "-A KUBE-SERVICES", comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain"), \
            "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
        print "COMMIT"
        print "*filter"
        print ":INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT"
        print ":FLANNEL-FWD -\n:KUBE-FORWARD -\n:KUBE-SERVICES -\n:KUBE-EXTERNAL-SERVICES -\n:KUBE-PROXY-FIREWALL -"
        fresh = "-m conntrack --ctstate NEW"
        print "-A FORWARD", fresh, comment("kubernetes load balancer firewall"), "-j KUBE-PROXY-FIREWALL"
        print "-A FORWARD", comment("kubernetes forwarding rules"), "-j KUBE-FORWARD"
        print "-A FORWARD", fresh, comment("kubernetes service portals"), "-j KUBE-SERVICES"
        print "-A FORWARD", fresh, comment("kubernetes externally-visible service portals"), "-j KUBE-EXTERNAL-SERVICES"
        print "-A FORWARD", comment("flanneld forward"), "-j FLANNEL-FWD"
        print "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
        print "-A KUBE-FORWARD", comment("kubernetes forwarding rules"), "-m mark --mark 0x4000/0x4000 -j ACCEPT"
        print "-A KUBE-FORWARD", comment("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        print "-A FLANNEL-FWD -s", cluster, comment("flanneld forward"), "-j ACCEPT"
        print "-A FLANNEL-FWD -d", cluster, comment("flanneld forward"), "-j ACCEPT"
        print "COMMIT"
    }'
}
