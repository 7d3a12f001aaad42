#!/bin/bash
# setup.sh: makes a bare Debian 12 ready to build, demonstrate and test vxgate. Run it as often as you like: it installs only
# what is missing and says nothing when nothing is. Installing packages needs root; nothing else here does.
set -euo pipefail
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"

PACKAGES=(
    ca-certificates curl                             # crates.io, rustup, and the scenes' client
    gcc libc6-dev make pkg-config                    # Rust's linker, and the bundled libbpf
    libelf-dev zlib1g-dev linux-libc-dev             # headers of the bundled libbpf and of the BPF programs
    clang                                            # compiles the BPF programs
    libclang-dev m4                                  # the bundled libxdp: reads its headers, writes its dispatcher
    iproute2 nftables ethtool kmod procps netbase    # the lab: nodes, services, sysctls, and the names of protocols
    iputils-ping dnsmasq-base python3 jq             # the lab: pods, DNS, web servers; the demo reads JSON
    tshark                                           # decodes what is on the wire
    chromium                                         # opens the benchmark's reports, as their readers do
)
RUST_MINIMUM=88                                      # rust-version in Cargo.toml: 1.88

die() { echo "setup.sh: $*" >&2; exit 1; }

missing_packages() {
    local have package
    # dpkg-query fails when it does not know one of them: that is an answer, too.
    have=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "${PACKAGES[@]}" 2>/dev/null || true)
    for package in "${PACKAGES[@]}"; do
        grep -qx "ii *$package" <<<"$have" || echo "$package"
    done
}

# Without letting a package start a daemon here: policy-rc.d forbids it and is taken away again. A subshell, for its trap.
install_packages() (
    policy=/usr/sbin/policy-rc.d log=$(mktemp)
    trap 'rm -f "$log"; [ -z "${own_policy:-}" ] || rm -f "$policy"' EXIT
    if [ ! -e $policy ]; then
        own_policy=1
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    get() { apt-get -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" </dev/null >"$log" 2>&1; }
    echo "setup.sh: installing $*"
    # Package lists may be absent or stale: fetch them only when the first try fails.
    get "$@" && exit 0
    apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null 2>&1 || true
    get "$@" && exit 0
    tail -n 15 "$log" >&2
    die "apt-get could not install: $* (its last words stand above; is this Debian 12 with a network?)"
)

rust_is_new_enough() {
    local version
    version=$(cargo --version 2>/dev/null) || return 1
    [[ $version =~ ^cargo\ 1\.([0-9]+)\. ]] && [ "${BASH_REMATCH[1]}" -ge $RUST_MINIMUM ]
}

install_rust() {
    if command -v rustup >/dev/null; then
        echo "setup.sh: $(cargo --version 2>/dev/null || echo 'no cargo'): updating through rustup, 1.$RUST_MINIMUM or newer is needed"
        rustup toolchain install stable --profile minimal --component clippy,rustfmt || die "rustup could not install Rust"
        rustup default stable
    else
        echo "setup.sh: installing Rust through rustup (https://sh.rustup.rs) into $HOME/.cargo"
        local installer
        installer=$(mktemp)
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" ||
            die "https://sh.rustup.rs cannot be reached: install Rust 1.$RUST_MINIMUM or newer by other means and run this again"
        sh "$installer" -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt ||
            die "rustup could not install Rust"
        rm -f "$installer"
    fi
    hash -r
    rust_is_new_enough || die "cargo is still older than 1.$RUST_MINIMUM: $(command -v cargo || echo none) comes first in PATH"
    echo "setup.sh: cargo is in $HOME/.cargo/bin; add it to PATH (. $HOME/.cargo/env)"
}

command -v dpkg-query >/dev/null || die "this is not Debian (no dpkg): install the counterparts of ${PACKAGES[*]} by hand"
MISSING=$(missing_packages)
if [ -n "$MISSING" ]; then
    [ "$(id -u)" = 0 ] || die "missing packages: ${MISSING//$'\n'/ }; run 'sudo scripts/setup.sh', or install them and come back"
    # shellcheck disable=SC2086 # one word a package
    install_packages $MISSING
    MISSING=$(missing_packages)
    [ -z "$MISSING" ] || die "still missing after the installation: $MISSING"
fi
rust_is_new_enough || install_rust
