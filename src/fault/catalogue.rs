//! The kinds of fault. Codes never change their meaning, and none is used again when its fault is gone.
//!
//! | codes | subject |
//! |---|---|
//! | VXG-01xx | sockets, rings, memory for frames |
//! | VXG-02xx | devices and their drivers |
//! | VXG-03xx | kernel and privileges |
//! | VXG-04xx | MTU, checksums, offloads |
//! | VXG-05xx | what is mirrored and taken over |
//! | VXG-06xx | configuration |
//! | VXG-07xx | fail-over, and others on the same devices |
//! | VXG-08xx | control socket, metrics and command line |
//! | VXG-09xx | `vxgate bench` |

use super::Outcome;

macro_rules! faults {
    ($($number:literal $variant:ident $outcome:ident { $title:literal $cause:literal $fix:literal })*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault { $(#[doc = $title] $variant,)* }

        impl Fault {
            /// Every kind, in ascending order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its code: `VXG-` and four digits.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => concat!("VXG-", $number),)* }
            }

            /// What it means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Why it happens.
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }

            /// What it does to the command.
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome,)* }
            }
        }
    };
}

faults! {
    "0101" SocketRefused Failed {
        "an AF_XDP socket cannot be opened"
        "A socket on a receive queue is made, given its rings and its memory, and bound. The kernel refused the step that the message names."
        "Look whether device and queue exist (`ethtool -l DEVICE`), whether the kernel has AF_XDP (CONFIG_XDP_SOCKETS), and whether the process has CAP_NET_RAW."
    }
    "0102" FrameMemoryRefused Failed {
        "there is no memory for frames"
        "Each worker keeps its frames in one area of memory, which is locked so that it is never swapped out. The kernel gave none, or may not lock it."
        "Raise the limit of locked memory (LimitMEMLOCK=infinity in a systemd unit, `ulimit -l unlimited` in a shell) or grant CAP_IPC_LOCK; use fewer workers (--workers); or give the control group more memory."
    }
    "0103" FrameMemoryForeign Failed {
        "a port is to share memory that its frames are not in"
        "All ports of a worker share its memory for frames; this one was given another's. That is a mistake of vxgate's own."
        "Report it, with the output of `vxgate run --log-level debug`. The kernel carries the traffic meanwhile."
    }
    "0104" SocketCountersRefused Failed {
        "the counters of a socket cannot be watched"
        "What the kernel drops in front of a socket is read through a descriptor of its own, and none could be had."
        "Raise the limit of open files (LimitNOFILE= in a systemd unit, `ulimit -n` in a shell)."
    }
    "0107" QueueBusy Busy {
        "a receive queue has another AF_XDP socket"
        "A queue takes one AF_XDP socket. Another program holds it, or one that was killed a moment ago has not been cleared away yet."
        "Stop the other program (the message names those that have such sockets), or wait a moment and start again."
    }
    "0201" QueuesUneven Failed {
        "receive queues and workers do not fit together"
        "Each worker owns a receive queue of every underlay device, so a device with few queues allows few workers; and frames of a queue without a socket stay with the kernel."
        "Give the device as many queues as workers are wanted: `ethtool -l DEVICE` shows how many it can have, `ethtool -L DEVICE combined N` sets them (the driver may reset the link)."
    }
    "0203" FlowsNotSpread Failed {
        "all VXLAN frames of a peer come in by one receive queue"
        "The device chooses the queue by addresses alone. What tells flows apart in VXLAN is the outer UDP source port, so one worker gets all frames of a peer, and the others none."
        "Let the ports count, too: `ethtool -N DEVICE rx-flow-hash udp4 sdfn` (udp6 for an IPv6 underlay)."
    }
    "0210" GenericXdpOnly Failed {
        "a device runs XDP in the generic mode"
        "Its driver has no XDP, or refuses it with its present settings. The kernel then makes an skb of every frame first, which costs most of what AF_XDP saves."
        "Use a device whose driver has native XDP; where it has, look at its MTU, its number of queues and its offloads (lro), which a driver may not take together with XDP."
    }
    "0211" AttachRefused Failed {
        "a device does not take a steering program"
        "The driver or the kernel refused the program at the hook that the message names. Frames of this device stay with the kernel."
        "Look at the kernel's answer: a device that is gone, an MTU or an offload that its driver does not allow together with XDP, or missing rights (CAP_NET_ADMIN, CAP_BPF)."
    }
    "0221" AccessDeviceRefused Failed {
        "an access device cannot be made, set up or removed"
        "For each vxlan device vxgate makes a veth pair (and TAPs for superframes), through which the kernel hands over its frames. The kernel refused a step of it."
        "Look at the kernel's answer: it may lack the veth or tun driver (`modprobe veth tun`), a setting may be forbidden to this process (CAP_NET_ADMIN), or somebody removed the device meanwhile."
    }
    "0222" UnderlayDown Failed {
        "an underlay device lets no frames through"
        "It is not up, or has no carrier. Nothing reaches the peers by it, neither through vxgate nor through the kernel."
        "Set it up (`ip link set dev DEVICE up`), and look at the cable and at what it is connected to (`ethtool DEVICE`)."
    }
    "0301" CapabilityMissing Denied {
        "a capability is missing"
        "vxgate opens AF_XDP sockets (CAP_NET_RAW), makes devices and attaches programs (CAP_NET_ADMIN), and loads BPF programs (CAP_BPF)."
        "Run it as root, or grant the capability (`setcap`, AmbientCapabilities= in a systemd unit, securityContext.capabilities in Kubernetes)."
    }
    "0302" ProgramsDenied Denied {
        "the kernel does not let this process load BPF programs"
        "Loading takes CAP_BPF and CAP_NET_ADMIN, and before Linux 5.11 locked memory, too. A security module or a seccomp filter may forbid it all the same."
        "Run it as root, or grant CAP_BPF and CAP_NET_ADMIN; before Linux 5.11 raise the limit of locked memory (`ulimit -l unlimited`)."
    }
    "0303" ProgramsUnsupported Unsupported {
        "the kernel cannot run the steering programs"
        "The programs need Linux 5.11 or later with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS; this kernel refused them."
        "Use such a kernel. `--log-level debug` shows the kernel's own words about the program."
    }
    "0304" ProgramsWithoutMemory Failed {
        "there is no memory for the steering programs"
        "The kernel had no memory for a BPF program or map, or the control group may not have more."
        "Free memory, or raise the limit of the control group."
    }
    "0305" DescriptorsExhausted Failed {
        "no descriptor is left for a steering program"
        "The process has as many files open as it may."
        "Raise the limit (LimitNOFILE= in a systemd unit, `ulimit -n` in a shell)."
    }
    "0306" HeartbeatNotMapped Failed {
        "the heartbeat cannot be mapped"
        "Workers store their heartbeats in memory that the steering programs read, and the kernel did not map it."
        "Look at the kernel's answer; most often memory is short, or the limit of locked memory (`ulimit -l`) too low."
    }
    "0307" ProgramsNotTold Failed {
        "the steering programs cannot be told of a socket or device"
        "Which frames go where stands in BPF maps, and the kernel refused to change one."
        "Look at the kernel's answer. vxgate hands the traffic to the kernel and tries again by itself; when it stays, report it with the output of `--log-level debug`."
    }
    "0308" PlanContradicts Failed {
        "what is to be steered does not fit the steering programs"
        "There are more devices, queues or workers than the programs can hold, or something went away while it was set up."
        "Choose fewer devices (--vxlan) or workers (--workers). When something went away, vxgate tries again by itself."
    }
    "0309" KernelSilent Failed {
        "the kernel does not tell its network devices"
        "vxgate asks over netlink, and got an error, or no answer that makes sense."
        "Look at the kernel's answer: memory for sockets may be short, or a security module in the way. `ip -d link` asks the same."
    }
    "0310" NamespaceUnknown Invalid {
        "the network namespace has no name to call the control socket by"
        "Without --socket, the control socket is named for the network namespace, which /proc/self/ns/net tells; /proc is not there, or not readable."
        "Mount /proc, or give --socket."
    }
    "0311" SignalsRefused Failed {
        "signals cannot be waited for"
        "SIGTERM and SIGINT are waited for on a thread of their own, and the kernel refused it."
        "Look at the kernel's answer: the limits of processes (`ulimit -u`, TasksMax=) and open files (`ulimit -n`)."
    }
    "0313" ThreadRefused Failed {
        "a thread cannot be started"
        "Every worker is a thread, and so are the control socket and the mirror of the kernel's tables."
        "Raise the limit of processes (`ulimit -u`, TasksMax= in a systemd unit, pids.max of the control group), or use fewer workers (--workers)."
    }
    "0321" ForwardingOff Failed {
        "the kernel does not forward between the pods and the overlay"
        "Pods, bridge and vxlan device are connected by routing, and that is switched off: every frame for somebody else dies."
        "Switch it on: `sysctl -w net.ipv4.ip_forward=1` (net.ipv6.conf.all.forwarding for IPv6), and in /etc/sysctl.d for the next start."
    }
    "0322" ReversePathStrict Failed {
        "the kernel drops frames whose way back is another one"
        "With rp_filter=1 a frame that comes out of the tunnel is dropped when its sender would be answered by another device: as those of other nodes themselves are."
        "Be loose on the vxlan device: `sysctl -w net.ipv4.conf.DEVICE.rp_filter=2` (the greater of this and of `all` counts)."
    }
    "0324" DirectUnsupported Unsupported {
        "the kernel lacks what the direct path needs"
        "Its programs at the pods' devices hang on tcx (Linux 6.6). For express, what XDP writes in front of a frame has to reach a classifier behind, whatever the device, and so it does since Linux 6.15. Everything else works without; without express, flows go in the ring gear."
        "Use such a kernel, or leave the direct path off (--direct off)."
    }
    "0401" MtuTooLarge Failed {
        "an MTU is too large for the path"
        "A frame in the tunnel is 50 bytes longer (70 over IPv6). What does not fit the underlay is cut into fragments, or dropped; connections begin and then stand still."
        "Make it smaller: the MTU of the vxlan device is that of the underlay less 50 (70), and bridge and pods have that of the vxlan device."
    }
    "0412" OffloadsOn Failed {
        "offloads of an access device have been switched on"
        "Frames on it are to have their final bytes. With these offloads they come unfinished or merged, which costs time at best, and drops them at worst."
        "Switch them off again: `ethtool -K DEVICE NAME off`. Nobody but vxgate should touch its access devices."
    }
    "0413" VerifiesUnfinished Failed {
        "checksums are verified that senders may not have finished"
        "Between virtual devices the kernel leaves the outer UDP checksum to hardware that is not there. With udp_checksum_rx = verify such frames are dropped, although nothing is wrong with them."
        "Leave it at auto, which verifies on hardware only (`--udp-checksum-rx auto`)."
    }
    "0414" FramesMerged Failed {
        "the underlay device merges frames in hardware"
        "LRO and hardware GRO make one frame of several before XDP sees them. Most drivers refuse XDP then; others hand over frames that do not fit."
        "Switch it off: `ethtool -K DEVICE lro off rx-gro-hw off`."
    }
    "0501" MirrorFailed Failed {
        "the kernel's tables cannot be mirrored"
        "FDB, routes and neighbours are read over netlink, and the kernel refused or failed."
        "Look at the kernel's answer. A running vxgate hands the traffic to the kernel and tries again by itself."
    }
    "0503" DeviceNone Failed {
        "there is no vxlan device"
        "vxgate takes over vxlan devices that exist, and this network namespace has none."
        "Make one (flanneld does, or `ip link add flannel.1 type vxlan ...`), or start vxgate in the network namespace that has it (`ip netns exec NAME`), then start again."
    }
    "0504" DeviceUnknown NotFound {
        "there is no vxlan device of that name"
        "--vxlan or overlay.devices names a device which this network namespace does not have, or which is of another kind."
        "See `ip -d link show type vxlan`, and correct the name."
    }
    "0505" DeviceRefused Failed {
        "a vxlan device has to stay with the kernel"
        "It uses something that vxgate does not do, or is not ready; the message names the attribute in the words of `ip -d link`. The kernel carries its frames."
        "Make the device without that attribute, or leave it to the kernel and name the others (--vxlan)."
    }
    "0507" DevicesAllRefused Failed {
        "no vxlan device can be taken over"
        "Each of them uses something that vxgate does not do, or is not ready; the message names the attributes. The kernel carries their frames."
        "Make a device without that attribute, or set it up (`ip link set DEVICE up`)."
    }
    "0508" DevicesTooMany Failed {
        "there are more vxlan devices than one process can serve"
        "A process tells 65,536 devices apart."
        "Choose some (--vxlan)."
    }
    "0510" MirrorDrifted Failed {
        "the running vxgate knows other tables than the kernel"
        "It follows what the kernel announces within milliseconds. A difference that stays means that the thread which does so hangs, or has missed something."
        "Restart vxgate: the kernel carries the traffic meanwhile. Report it, with the output of `vxgate doctor --json` and the log."
    }
    "0511" PeerIncomplete Failed {
        "something that leads to a peer is missing"
        "Pods of another node are reached by a route to its subnet, a neighbour entry of the vxlan device for the router of that route, and an FDB entry for the Ethernet address of the neighbour. A control plane writes all three; one is not there."
        "Let the control plane write it again (restart flanneld), or write it by hand; `ip route`, `ip neigh` and `bridge fdb` show what is there. vxgate invents none."
    }
    "0512" PeerUnreachable Failed {
        "there is no way to the end point of a peer"
        "The kernel has no route to its address, or the next hop does not answer ARP. The frames die, whoever sends them."
        "Look at `ip route get ADDRESS` and `ip neigh`, and whether the peer is up and in this network."
    }
    "0513" AddressDoubled Failed {
        "another node has the Ethernet address of a vxlan device here"
        "The FDB has it behind a peer. Machines that were cloned with their /etc/machine-id get the same address from udev; frames then go to one of them only."
        "Make the machine-id of the clone anew (`rm /etc/machine-id; systemd-machine-id-setup`), delete the vxlan device there, and let the control plane make it again."
    }
    "0514" AddressUnstable Failed {
        "udev may change the Ethernet address of a vxlan device"
        "The address was made up by the kernel, and systemd has MACAddressPolicy=persistent for such devices. When udev changes it behind the back of the control plane, peers go on sending to the old one, and all their frames die."
        "Tell udev to leave it: a file /etc/systemd/network/50-vxlan.link with `OriginalName=flannel*` under [Match] and `MACAddressPolicy=none` under [Link]."
    }
    "0515" PortTaken Busy {
        "the UDP port of a vxlan device is taken"
        "A device that is set up takes its UDP port in the whole network namespace. A socket of a process has it already, or a vxlan device with other attributes, which cannot share it."
        "Stop the process that is named, or give one of the two another port (`dstport`)."
    }
    "0516" DeviceDown Failed {
        "a vxlan device is down"
        "Somebody set it down, or nobody has set it up yet. IPv4 routes through it are gone, too, and do not come back by themselves."
        "Set it up (`ip link set dev DEVICE up`), and let the control plane write its routes again (restart flanneld)."
    }
    "0517" AddressMissing Failed {
        "no device here has the address of a vxlan device"
        "The kernel sends only from addresses that it has: neither the kernel nor vxgate reaches a peer, and what peers send here is not taken."
        "Give it back (`ip address add ADDRESS/LENGTH dev DEVICE`), or make the vxlan device anew with the address that the node has now."
    }
    "0601" KeyUnknown Invalid {
        "a key or table of the configuration file is not known"
        "What is not known is refused: a mistyped key that is passed over is a setting that the operator believes in."
        "Correct it; `vxgate config template` shows every key there is."
    }
    "0602" ValueInvalid Invalid {
        "a value in the configuration file cannot be"
        "The key is known, but this value of it is not."
        "Use one that the message names; `vxgate config template` shows what every key may be."
    }
    "0603" FileNotToml Invalid {
        "the configuration file is no TOML"
        "The text cannot be read: a quote, a bracket or an equals sign is missing, or a key stands there twice."
        "Correct the line that is shown; https://toml.io describes the format."
    }
    "0604" FileUnreadable Invalid {
        "the configuration file cannot be read"
        "It is not there, may not be read, is no text, or is far too long for a configuration."
        "Correct the path (--config, VXGATE_CONFIG), or the file's permissions."
    }
    "0605" FileWritableByAll Invalid {
        "everybody may write to the configuration file"
        "Whoever may write to it decides where frames go."
        "Take that away: chmod o-w FILE."
    }
    "0607" FlagInvalid Invalid {
        "a flag, or the environment variable in its place, cannot be"
        "The flag is known, but this value of it is not."
        "Use one that the message names. Each flag has an environment variable, which counts when the flag is not given: `vxgate run --help` names them."
    }
    "0608" LogFilterInvalid Invalid {
        "what is to be logged cannot be understood"
        "`vxgate log-level` takes a level, or directives by module."
        "Use error, warn, info, debug or trace, or directives such as `info,vxgate::control=debug`."
    }
    "0609" KeyMisplaced Invalid {
        "a key of the configuration file stands in the wrong place"
        "The key is known, but belongs into another table, or a table was written as a value."
        "Put it into the table that the message names; `vxgate config template` shows all of them."
    }
    "0610" FileNone Invalid {
        "there is no configuration file to read again"
        "The daemon was started without --config (VXGATE_CONFIG), so all of its settings are flags, environment variables and defaults."
        "Start it again with a file: vxgate run --config FILE."
    }
    "0701" TrafficDrained Failed {
        "the operator has handed the traffic to the kernel"
        "`vxgate drain` said so, and it stays so until `vxgate resume`: nothing is lost, and nothing is as fast as it could be."
        "When whatever it was for is done, take the traffic back: `vxgate resume`."
    }
    "0702" NotHealthy Failed {
        "the running vxgate is not healthy"
        "It says so itself, with the reason: a device that it cannot take over now, or frames whose fate is not known. The kernel carries what it does not."
        "Do what the reason says; `vxgate status` tells more."
    }
    "0703" WorkerHangs Failed {
        "a worker stores no heartbeat"
        "It hangs, is stopped, or gets no time on its core. The steering programs leave its frames to the kernel until it goes on."
        "Look what has its core (`top -H`), let a stopped process go on (`kill -CONT PID`), or restart vxgate. Report it when it comes again."
    }
    "0704" ForeignProgram Busy {
        "a device runs somebody else's XDP program"
        "A device takes one XDP program, and vxgate does not replace what it does not own."
        "Stop the process that holds it, or detach it (`ip link set dev DEVICE xdp off`), then start again."
    }
    "0705" DeviceTaken Busy {
        "a device is taken over by another vxgate"
        "A vxlan device is served by one vxgate at a time."
        "Stop the other one (the message names it), or choose other devices (--vxlan)."
    }
    "0706" DeviceNotLocked Busy {
        "a device cannot be locked"
        "Before a device is taken over, it is locked, so that no other vxgate takes it, too; the lock could not be made."
        "Look at the kernel's answer, and start again."
    }
    "0707" WorkerPanicked Failed {
        "a worker ended by itself"
        "A worker met what it does not understand. Its ports are closed, and the kernel forwards in its place until the next session begins, half a second later."
        "Report it, with the message and, where it can be had, a recording of the traffic."
    }
    "0708" ForeignClassifier Failed {
        "somebody else has a classifier where the frames of vxgate pass"
        "Programs and filters on one hook run in a row. One before vxgate may take frames away; one behind it, or on the underlay device, does not see those that vxgate carries."
        "See what it is for (`tc filter show dev DEVICE egress`, `bpftool net`), and remove it when it is for nothing."
    }
    "0709" LeftoverFound Failed {
        "a vxgate that is dead left something behind"
        "A process that is killed cannot remove its devices. They carry nothing, and the next start removes them."
        "Start vxgate again, or remove it by hand (`ip link del dev DEVICE`)."
    }
    "0721" FiltersUnheard Failed {
        "filters change without an announcement"
        "A flow that goes the direct path is judged anew when rules change. Those of iptables-legacy, and the members of ipsets, change without a word, so no flow goes it while there are any."
        "Use iptables-nft, nft and its sets; or leave the direct path off (--direct off); or, in a cluster without policies, let rules not matter (--direct always)."
    }
    "0722" ConntrackStrict Failed {
        "conntrack does not let connections come back"
        "Conntrack sees one segment in ten seconds of a connection on the direct path. When it comes back, a strict conntrack calls its segments invalid, and kube-proxy's rules drop those. So no TCP goes it."
        "sysctl net.netfilter.nf_conntrack_tcp_be_liberal=1, which has conntrack follow again; or leave it: TCP goes on as without a direct path."
    }
    "0723" ChangesUnheard Failed {
        "changes of rules, routes and devices cannot be listened to"
        "Flows on the direct path go back to the kernel when anything changes that it decides by, which netlink tells. The kernel refused to, so no flow goes it."
        "Look at the kernel's answer: memory for sockets, open files (`ulimit -n`), or a security module in the way."
    }
    "0801" DaemonSilent NotRunning {
        "no vxgate answers"
        "No daemon listens on the control socket. It is not running, runs in another network namespace, or has another socket."
        "Start it (`vxgate run`), ask in its network namespace (`ip netns exec NAME vxgate status`), or give its socket (--socket)."
    }
    "0802" SocketServed Busy {
        "the control socket is served by a running vxgate"
        "Another vxgate answers on the same path."
        "Stop that one, or give another path (--socket)."
    }
    "0803" SocketNameTaken Failed {
        "the control socket's name is that of a file"
        "There is a file of that name which is no socket, and vxgate does not remove what is not its own."
        "Give another path (--socket), or remove the file."
    }
    "0804" SocketNotMade Failed {
        "the control socket cannot be made"
        "Its folder could not be made or written to, or the kernel refused the socket."
        "Give another path (--socket), or make the folder writable for vxgate (RuntimeDirectory=vxgate in a systemd unit)."
    }
    "0805" AnswerInvalid Failed {
        "the daemon's answer cannot be understood"
        "The daemon is of another version, or something else listens on that path."
        "Use the `vxgate` of the running daemon's version, or restart the daemon."
    }
    "0806" OutputFailed Failed {
        "what was asked for cannot be written"
        "The file or folder cannot be written to, or the disk is full."
        "Look at the system's answer, and choose another place."
    }
    "0807" CodeUnknown NotFound {
        "there is no such code"
        "Codes are VXG- and four digits, as error messages show them."
        "`vxgate explain` without a code lists them all."
    }
    "0808" MetricsPlaceServed Busy {
        "another process serves the place of the metrics"
        "Where /metrics, /healthz and /readyz are to be served, somebody listens already: another vxgate, or another program."
        "Stop that one, or give another address or path (--metrics-listen)."
    }
    "0809" MetricsAddressUnknown Failed {
        "nobody here has the address of the metrics"
        "A server listens on addresses of its own network namespace only, and no device of this one has it."
        "Give one that `ip address` shows, or all of them with 0.0.0.0 or [::] (--metrics-listen)."
    }
    "0810" MetricsNameTaken Failed {
        "the name of the metrics' socket is that of a file"
        "There is a file of that name which is no socket, and vxgate does not remove what is not its own."
        "Give another path (--metrics-listen), or remove the file."
    }
    "0811" MetricsNotServed Failed {
        "metrics cannot be served"
        "The folder of the socket could not be made or written to, the port takes a right (CAP_NET_BIND_SERVICE below 1024), or the kernel refused."
        "Give another place (--metrics-listen), or serve them nowhere: --metrics-listen off."
    }
    "0812" SocketStale Failed {
        "the file of the control socket is a dead process's"
        "A process that is killed leaves it behind. Nobody listens there; the next start replaces it."
        "Start vxgate again, or remove the file."
    }
    "0813" DaemonHangs Failed {
        "vxgate has its control socket open and does not answer"
        "The process is stopped (SIGSTOP), hangs, or gets no time. The heartbeat of its workers grows old, and the kernel carries the traffic."
        "Let it go on (`kill -CONT PID`), or restart it. Report it when it comes again."
    }
    "0814" MendFailed Failed {
        "a command that was to mend something failed"
        "`vxgate doctor --fix` runs the commands that it prints; this one could not be run, or said that it failed."
        "Look at its words; run it by hand. It may be missing here (iproute2, ethtool, procps), or take rights (CAP_NET_ADMIN)."
    }
    "0815" RequestDenied Denied {
        "the daemon does not do this for anybody"
        "Everybody who can connect to the control socket may look; what changes the daemon is for root and for the user that the daemon runs as."
        "Ask as root."
    }
    "0816" DaemonStopping Busy {
        "the daemon is stopping"
        "It was asked for something after it had been told to stop."
        "Start it again, or wait until its supervisor does."
    }
    "0817" StateBusy Busy {
        "as many are told the whole state as can be"
        "Who is told it has a copy of every table until all of it has been read, for a minute at most, and four have one."
        "Ask again in a moment; `vxgate status` and `vxgate fdb` are answered meanwhile."
    }
    "0820" VniUnknown NotFound {
        "no device that is taken over has this VNI"
        "The VNI is none of the vxlan devices' that vxgate carries: there is no such device, or it is left to the kernel."
        "`vxgate status` lists the devices with their VNIs, and says why one is left to the kernel."
    }
    "0821" JournalSilent Failed {
        "the journal does not take entries"
        "With --log-format journald, entries go to the journal's socket (/run/systemd/journal/socket), and nothing listens there."
        "Use --log-format text or json, or give the process that socket (a container has none of its own)."
    }
    "0860" WorkersReplaced Busy {
        "the workers were replaced meanwhile"
        "Devices came, went or changed while they were looked at, and with another takeover all counts begin anew."
        "Look again; `vxgate status` counts the takeovers, and the log says why they come."
    }
    "0861" WorkerUnknown NotFound {
        "there is no such worker"
        "Workers are numbered from 0; there are as many as `worker.count` says, and none while the kernel carries all traffic."
        "`vxgate workers` lists them."
    }
    "0862" ScreenNone Failed {
        "there is no terminal to draw on"
        "`vxgate top` draws a screen, and its output goes to a file or a pipe, or the terminal cannot do what it takes."
        "Run it in a terminal, or print one look with `vxgate top --once`."
    }
    "0870" CapturesBusy Busy {
        "as many captures run as there can be"
        "Each capture has a part of every worker's attention, and there are four parts. The message names the processes that have them."
        "End one of them (`vxgate status` lists them), or wait until one ends."
    }
    "0871" CapturePortUnknown NotFound {
        "there is no port of this name to capture at"
        "Frames are seen at the underlay devices and at the vxlan devices that vxgate carries, and this is none of them."
        "Use a name that the message or `vxgate status` tells, or leave -i out: then all of them are seen."
    }
    "0872" FilterInvalid Invalid {
        "a filter is no filter"
        "Filters are those of tcpdump, and libpcap could not compile this one; its own words stand in the message."
        "Look at pcap-filter(7). What is about the frame in the tunnel goes to --inner. Quote what a shell would take for its own: parentheses, and !."
    }
    "0873" CaptureEnded NotRunning {
        "the daemon has ended a capture"
        "The daemon was stopped or killed, or closed the connection. What had been seen by then is written."
        "Look whether it runs (`vxgate status`), and capture again."
    }
    "0874" CaptureToTerminal Invalid {
        "a capture is no text for a terminal"
        "Without -w, frames go to standard output as pcapng, and that is a terminal."
        "Write a file (-w FILE), pipe it on (`vxgate capture | tshark -r -`), or read lines: `vxgate observe`."
    }
    "0875" RotationWithoutFile Invalid {
        "the standard output cannot be rotated"
        "Sizes, times and numbers of files (-C, -G, -W) are about files, and what goes to standard output has none."
        "Write a file: -w FILE."
    }
    "0880" StateUnreadable Failed {
        "a dumped state cannot be read"
        "The file is not there, may not be read, or is longer than any state."
        "Dump one (`vxgate state dump -o FILE`), and look at the system's answer."
    }
    "0881" StateInvalid Invalid {
        "a file is no state of a gateway"
        "It is no JSON document of `vxgate state dump`, was cut off, is of a vxgate with another format, or was changed by hand into what cannot be; the message says where."
        "Dump it again with the `vxgate` that is to read it."
    }
    "0882" PortUnknown NotFound {
        "there is no such port"
        "Frames come in by an underlay device or by a vxlan device that vxgate carries."
        "Use one that the message names; `vxgate status` lists them."
    }
    "0883" FrameUnreadable Invalid {
        "the bytes of a frame cannot be read"
        "They are to be hexadecimal digits: bare, or as `xxd`, `tcpdump -xx` and Wireshark write them."
        "Give the whole frame from its Ethernet header on, or a recording (--pcap)."
    }
    "0884" FrameUndescribed Invalid {
        "a frame cannot be made from its description"
        "It is described by KEY=VALUE words; one of them is not known, or cannot be together with the others."
        "Change what the message names; `vxgate trace --help` lists every key."
    }
    "0885" RecordingUnreadable Failed {
        "a recording has no frame to trace"
        "The file cannot be read, is no pcap or pcapng of Ethernet, or has no frame of that number."
        "Record again (`tcpdump -w FILE -s 0`), or choose another frame (--packet)."
    }
    "0901" LoadInvalid Invalid {
        "this load cannot be sent"
        "What the flags or the profile ask for contradicts itself, or is more than a stream can have."
        "Change what the message names; `vxgate bench rate --help` describes every flag."
    }
    "0902" ProfileInvalid Invalid {
        "the profile of a load cannot be used"
        "The file cannot be read, or says what cannot be; the message names line and column."
        "Correct it: its keys are the flags of one stream."
    }
    "0903" RecordingInvalid Invalid {
        "the recording cannot be replayed"
        "It is no pcap or pcapng, is cut off, has no frame with room for a signature, or the engine cannot send recorded frames."
        "Record again (`tcpdump -w FILE`), or use `--engine afxdp`."
    }
    "0904" StrangersReached Invalid {
        "the load would reach strangers"
        "Loads are sent only to the ranges set aside for benchmarks and to the namespace's own networks, and never by the device with the default route."
        "Use addresses of 198.18.0.0/15 or 2001:2::/48, or another device; --i-know-this-network sends all the same."
    }
    "0905" EndUnusable Failed {
        "a device cannot send or receive the load"
        "There is no such device or network namespace, it is no Ethernet device, or the kernel does not tell."
        "See `ip link` and `ip netns list`; entering a network namespace takes CAP_SYS_ADMIN."
    }
    "0906" EngineFailed Failed {
        "the load generator failed"
        "The kernel refused a program, a socket or a run, or the device cannot carry the load."
        "Do what the message says; where `live` cannot work, `--engine afxdp` often can."
    }
    "0907" WireImpossible Invalid {
        "there is no direct wire to try the generator on"
        "A direct wire can be made of veth devices only."
        "Find out what the generator keeps there (`vxgate bench rate`, the ports connected to each other), and say it: --max-rate RATE --no-calibrate."
    }
    "0908" CalibrationFailed Failed {
        "the generator could not be tried"
        "The wire could not be made, the machine is too busy, or the time was over before."
        "Keep other programs off the generator's core (--tx-core), lower --min-rate, or give it more time (--time-limit)."
    }
    "0909" TrialVoid Failed {
        "a trial has no result"
        "The books do not balance, or the receiver itself lost frames, so nobody knows what became of them."
        "Use a lower --rate, --receiver xdp, or a core of its own (--rx-core), and measure again."
    }
    "0910" MeasuringFailed Failed {
        "the system refused something that measuring takes"
        "Processor times, memory or signals could not be read or waited for."
        "Look at the system's answer."
    }
    "0911" CommandFailed Failed {
        "the command to measure under load cannot be run"
        "There is none, or it could not be started or waited for."
        "Give it behind `--`, and see that it can be found (PATH) and executed."
    }
    "0912" MeasurementInterrupted Failed {
        "a signal ended the measurement"
        "SIGINT or SIGTERM came before there was a result."
        "Measure again."
    }
    "0913" ResultsUnreadable Failed {
        "results cannot be compared"
        "A file cannot be read, or a line of it is none that scripts/bench.sh writes; the message names it."
        "Give files of `bench/results/`, of this version."
    }
    "0914" PageNotWritten Failed {
        "the page of a measurement cannot be written"
        "The folder is not there, or may not be written to."
        "Give another path (--report)."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_text() {
        for fault in Fault::ALL {
            let code = fault.code();
            assert!((10..80).contains(&fault.title().len()), "{code}");
            assert!(!fault.title().ends_with('.'), "{code}");
            for sentence in [fault.cause(), fault.fix()] {
                assert!(
                    sentence.len() > 10 && sentence.ends_with('.'),
                    "{code}: {sentence}"
                );
            }
        }
    }
}
