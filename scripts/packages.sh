# shellcheck shell=bash
# packages.sh: installs Debian packages, for the scripts that source it.

# missing_packages PACKAGE...: those that are not installed, one a line.
missing_packages() {
    local have package
    # dpkg-query fails when it does not know one of them: that is an answer, too.
    have=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true)
    for package; do
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
    echo "${0##*/}: installing $*"
    # Package lists may be absent or stale: fetch them only when the first try fails.
    get "$@" && exit 0
    apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null 2>&1 || true
    get "$@" && exit 0
    tail -n 15 "$log" >&2
    echo "${0##*/}: apt-get could not install: $* (its last words stand above; is this Debian 12 with a network?)" >&2
    exit 1
)

# need_packages PACKAGE...: installs what is missing, or ends the script.
need_packages() {
    local missing
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "missing packages: ${missing//$'\n'/ }; run this with sudo, or install them and come back"
    # shellcheck disable=SC2086 # one word a package
    install_packages $missing || exit 1
    missing=$(missing_packages "$@")
    [ -z "$missing" ] || die "still missing after the installation: $missing"
}
