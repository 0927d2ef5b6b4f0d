#!/usr/bin/env bash
# Makes a Debian package of the agent and its client, for the hosts: installs what the build needs,
# builds, and prints where the package is. A host then needs nothing else: apt install ./vnet_*.deb
# Usage: scripts/package.sh
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh build
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh
exec cargo run --quiet --locked --package xtask -- package
