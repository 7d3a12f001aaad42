#!/bin/bash
# setup.sh: makes a bare Debian 12 ready to build, demonstrate and test vxgate. Run it as often as you like: it installs only
# what is missing and says nothing when nothing is. Installing packages needs root; nothing else here does.
set -euo pipefail
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"

PACKAGES=(
    ca-certificates curl                             # crates.io, rustup, and the scenes' client
    gcc libc6-dev make pkg-config                    # Rust's linker, and the bundled libbpf
    libpcap-dev                                      # compiles and runs the filters of captures
    libelf-dev zlib1g-dev linux-libc-dev             # headers of the bundled libbpf and of the BPF programs
    clang                                            # compiles the BPF programs
    binutils                                         # a test reads the release binary
    groff-base                                       # a test renders the manual pages
    libclang-dev m4                                  # the bundled libxdp: reads its headers, writes its dispatcher
    iproute2 nftables ethtool kmod procps netbase    # the lab: nodes, services, sysctls, and the names of protocols
    iputils-ping dnsmasq-base python3 jq             # the lab: pods, DNS, web servers; the demo reads JSON
    tshark                                           # decodes what is on the wire
    tcpdump                                          # a capture has what it has
    prometheus                                       # checks the metrics and alert rules (promtool), and scrapes in a test
    tmux                                             # the terminal of a test that looks at `vxgate top`
    chromium                                         # opens the benchmark's reports, as their readers do
)
RUST_MINIMUM=88                                      # rust-version in Cargo.toml: 1.88

die() { echo "setup.sh: $*" >&2; exit 1; }
. "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

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
        # shellcheck disable=SC2064 # its name as it is now
        trap "rm -f '$installer'" EXIT
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" ||
            die "https://sh.rustup.rs cannot be reached: install Rust 1.$RUST_MINIMUM or newer by other means and run this again"
        sh "$installer" -y --quiet --no-modify-path --profile minimal --component clippy --component rustfmt ||
            die "rustup could not install Rust"
    fi
    hash -r
    rust_is_new_enough || die "cargo is still older than 1.$RUST_MINIMUM: $(command -v cargo || echo none) comes first in PATH"
    echo "setup.sh: cargo is in $HOME/.cargo/bin; add it to PATH (. $HOME/.cargo/env)"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ $here != *[[:space:]]* ]] || die "'$here' has a space in it, and the bundled libbpf cannot be built there: move vxgate elsewhere"
command -v dpkg-query >/dev/null || die "this is not Debian (no dpkg): install the counterparts of ${PACKAGES[*]} by hand"
need_packages "${PACKAGES[@]}"
rust_is_new_enough || install_rust
