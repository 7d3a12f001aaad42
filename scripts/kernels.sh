#!/bin/bash
# kernels.sh: vxgate on other kernels than this machine's, without other hardware. Debian's kernels run in QEMU's software
# emulation, with this machine's files below them (virtme-ng), and scripts/kernels/guest.sh plays in there: the programs load,
# pods talk to pods through vxgate, `status`, `flows` and `doctor` say what the direct path does without, a killed and a hung
# process leave the traffic to the kernel; the same on an emulated NIC (igb); and then some of the tests.
#
#   scripts/kernels.sh [6.1 6.12 newest ...]    (without a name: these three)
#
# A name is the start of a version that Debian 12, its backports or those of Debian 13 have, or "newest". A line tells of each
# kernel and step; the exit code is 0 when all went well.
#
# Needs root (or this user's own namespaces), Debian 12 and its archive, and PyPI. Packages, kernels (some 450 MB each) and
# virtme-ng are fetched once, into $VXGATE_KERNELS (/var/tmp/vxgate-kernels), with a log of each kernel's last run; nothing
# else is left behind. Emulation takes about 20 times the time: speeds mean nothing there, and CI does not run this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

CACHE=${VXGATE_KERNELS:-/var/tmp/vxgate-kernels}
VIRTME=1.42
CPUS=2 MEMORY=3G
# Two NICs on one wire.
NICS="-device pcie-root-port,id=rp1,chassis=1,slot=1 -device pcie-root-port,id=rp2,chassis=2,slot=2"
NICS+=" -netdev hubport,id=n0,hubid=0 -netdev hubport,id=n1,hubid=0 -device igb,netdev=n0,bus=rp1 -device igb,netdev=n1,bus=rp2"
BOUND=2400                                           # seconds a kernel
TESTS=(steer port_xsk)                               # of which guest.sh runs some, and of the library's own

die() { echo "kernels.sh: $*" >&2; exit 1; }
. scripts/packages.sh

NAMES=()
for word; do
    case $word in
        newest | [0-9]*) NAMES+=("$word") ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' scripts/kernels.sh >&2; exit 2 ;;
    esac
done
[ ${#NAMES[@]} -gt 0 ] || NAMES=(6.1 6.12 newest)
[ "$(uname -m)" = x86_64 ] || die "written for x86_64"
{ mkdir -p "$CACHE/lists/partial" "$CACHE/tests" && exec 9>"$CACHE/lock"; } 2>/dev/null ||
    die "$CACHE cannot be written: run this with sudo, or name another folder in VXGATE_KERNELS"
flock -n 9 || die "another kernels.sh uses $CACHE: wait for it, or name another folder in VXGATE_KERNELS"
# The machine has a process group of its own, to which `timeout` hands signals on; and what follows its log ends with it.
cleanup() {
    local jobs
    # A second signal would end it half-way.
    trap '' HUP INT TERM
    jobs=$(jobs -p)
    # shellcheck disable=SC2086
    [ -z "$jobs" ] || { kill $jobs && wait $jobs; } 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

# ---- Debian's archive: lists of our own, beside those of the machine -------------------------------------------------
mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
cat >"$CACHE/debian.sources" <<EOT
Types: deb
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: bookworm bookworm-updates bookworm-backports trixie-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOT
APT=(-qq -o "Dir::Etc::sourcelist=$CACHE/debian.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$CACHE/lists"
    -o "Dir::Cache::pkgcache=$CACHE/pkgcache.bin" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300)
lists() {
    # Once a day is enough, and without a network what there is has to do.
    [ -z "$(find "$CACHE/lists-fetched" -mmin -1440 2>/dev/null)" ] || return 0
    apt-get "${APT[@]}" update >"$CACHE/apt.log" 2>&1 || die "apt-get update: $(tail -n 3 "$CACHE/apt.log")"
    touch "$CACHE/lists-fetched"
}

# The newest version that starts with a name.
version_of() {
    local start=$1
    [ "$start" = newest ] && start='[0-9]+'
    apt-cache "${APT[@]}" pkgnames linux- | sed -nE \
        "s/^linux-(image|binary)-(${start//./\\.}(\.[0-9][0-9.]*)?([-+][a-z0-9]+)?-amd64)$/\2/p" | sort -V | tail -n 1
}

# kernel VERSION: fetches and unpacks it, once; from 6.19 on, Debian has the modules in a package of their own.
kernel() {
    local version=$1 to=$CACHE/$1 packages=()
    [ ! -e "$to/ready" ] || return 0
    rm -rf "$to" && mkdir -p "$to/debs"
    if apt-cache "${APT[@]}" show "linux-binary-$version" >/dev/null 2>&1; then
        packages=("linux-binary-$version" "linux-modules-$version")
    else
        packages=("linux-image-$version")
    fi
    (cd "$to/debs" && apt-get "${APT[@]}" download "${packages[@]}") >"$CACHE/apt.log" 2>&1 ||
        die "apt-get download ${packages[*]}: $(tail -n 3 "$CACHE/apt.log")"
    for deb in "$to"/debs/*.deb; do dpkg -x "$deb" "$to"; done
    rm -rf "$to/debs"
    # One layout for all: modules in lib/modules, whether that is a link or not.
    [ -e "$to/lib" ] || ln -s usr/lib "$to/lib"
    depmod -b "$to" "$version" 2>/dev/null
    touch "$to/ready"
}

image() { local found; for found in "$CACHE/$1/boot/vmlinuz-$1" "$CACHE/$1/lib/modules/$1/vmlinuz"; do if [ -e "$found" ]; then echo "$found"; return; fi; done; }

# ---- the machine ------------------------------------------------------------------------------------------------------
emulator() {
    need_packages python3-venv kmod busybox-static binutils
    # That of the backports: Debian 12's own has no igb.
    if ! command -v qemu-system-x86_64 >/dev/null; then
        [ "$(id -u)" = 0 ] || die "qemu-system-x86_64 is missing: run this with sudo once"
        echo "kernels.sh: installing qemu-system-x86"
        DEBIAN_FRONTEND=noninteractive apt-get "${APT[@]}" -y --no-install-recommends -t bookworm-backports install qemu-system-x86 \
            </dev/null >"$CACHE/apt.log" 2>&1 || die "qemu-system-x86: $(tail -n 3 "$CACHE/apt.log")"
    fi
    [ -x "$CACHE/venv/bin/vng" ] || {
        python3 -m venv "$CACHE/venv"
        "$CACHE/venv/bin/pip" install -q "virtme-ng==$VIRTME" 2>"$CACHE/pip.log" || die "virtme-ng: $(tail -n 3 "$CACHE/pip.log")"
    }
    export PATH="$CACHE/venv/bin:$PATH"
}

# What runs in there: vxgate as it is shipped, and the tests as `cargo test` builds them.
build() {
    local name found
    # guest.sh looks for it there.
    CARGO_TARGET_DIR=$PWD/target cargo build --release --locked --quiet
    cargo test --locked --quiet --no-run --lib "${TESTS[@]/#/--test=}" --message-format=json >"$CACHE/build.json"
    for name in vxgate "${TESTS[@]}"; do
        found=$(jq -r "select(.profile.test and .target.name == \"$name\" and .target.kind[0] != \"bin\") | .executable" "$CACHE/build.json" | tail -n 1)
        [ -x "$found" ] || die "cargo built no tests '$name'"
        ln -sf "$found" "$CACHE/tests/$name"
    done
}

# run VERSION: plays, and tells each line as it comes: those of guest.sh's that begin with "=".
run() {
    local version=$1 log=$CACHE/$1.log start=$SECONDS code=0
    echo "$version"
    : >"$log"
    # The cache by itself: virtme-ng covers /var/tmp, and the log is written from in there.
    timeout -k 10 "$BOUND" vng -v --disable-kvm --disable-microvm --force-9p --user root --cpus $CPUS --memory $MEMORY \
        --rwdir "$CACHE" --cwd "$PWD" --run "$(image "$version")" --qemu-opts="$NICS" \
        --exec "$(printf '%q ' bash "$PWD/scripts/kernels/guest.sh" "$CACHE/$version" "$CACHE/tests")" \
        </dev/null > >(cat >"$CACHE/$version.console") 2>&1 &
    # Not in the foreground, where a signal would have to wait for its end.
    tail -n +1 -f --pid=$! "$log" | sed -un 's/^=/  /p' &
    wait $! || true
    grep -q '^=all done' "$log" || { echo "  FAIL  it did not come to its end in $((SECONDS - start)) s: $log"; code=1; }
    ! grep -q '^=FAIL' "$log" || code=1
    return $code
}

scripts/setup.sh
lists
emulator
build
FAILED=0
for name in "${NAMES[@]}"; do
    version=$(version_of "$name")
    [ -n "$version" ] || die "Debian has no kernel $name"
    kernel "$version"
    run "$version" || FAILED=$((FAILED + 1))
done
[ $FAILED = 0 ] || die "not as it should be on $FAILED of ${#NAMES[@]} kernels; logs in $CACHE"
echo "kernels.sh: all well on ${#NAMES[@]} kernels"
