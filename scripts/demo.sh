#!/usr/bin/env bash
# Shows that it works, from a clean clone: installs what is missing, builds, and lets virtual machines on
# hosts (network namespaces) talk to each other across the overlay: first two hosts with a settings file
# each, then a proxy on a LAN and three hosts that join it, one of them behind a firewall. Needs root,
# touches no network of this machine, and cleans up. The last line says whether it worked, and so
# does the exit status.
# Usage: scripts/demo.sh [--hold]      --hold: keep it up to look around, until Enter is pressed
set -euo pipefail
cd "$(dirname "$0")/.."

not_working() {
    printf '\ndemo: it did NOT work: %s\n' "$1"
    exit 1
}

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        not_working "it needs root (network namespaces, eBPF) and there is no sudo: become root and run scripts/demo.sh"
    echo "demo: it needs root (network namespaces, eBPF), and asks for it with sudo"
    exec sudo -- "$PWD/scripts/demo.sh" "$@"
fi

# What root builds in somebody's clone stays that somebody's.
give_back() { [ "$(stat -c %u .)" -eq 0 ] || [ ! -e target ] || chown -R --reference=. target; }
trap give_back EXIT

scripts/setup.sh build lab || not_working "scripts/setup.sh failed, see above"
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh || not_working "there is no cargo that will do, see scripts/setup.sh"
echo "demo: building vnet-agent (minutes the first time)"
cargo build --locked --release --package vnet-agent --package lab --bins ||
    not_working "the build failed, see above"
target=${CARGO_TARGET_DIR:-target}/release
# Ended by Control-C it cleans up as well: the kernel does that.
VNET_AGENT=$target/vnet-agent VNETCTL=$target/vnetctl "$target/demo" "$@"
