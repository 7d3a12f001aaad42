# shellcheck shell=bash
ovs_down() { :; }
ovs_version() { ovs-vswitchd --version | sed -n '1s/.* //p'; }
