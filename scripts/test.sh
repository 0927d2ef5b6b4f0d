#!/usr/bin/env bash
# Checks and tests everything, from a clean clone: installs what is missing, then formatting,
# lints, layers, unit and property tests, and, as root, the tests that need a kernel, network
# namespaces and virtual machines. Without root it says what it left out.
# Usage: scripts/test.sh [--all]      --all: fail instead of leaving anything out
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -eq 0 ]; then
    scripts/setup.sh build check lab
else
    scripts/setup.sh build check
fi
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh
echo "test: host side with $(command -v cargo): $(cargo --version)"
cargo build --quiet --locked --package xtask
exec cargo run --quiet --locked --package xtask -- test "$@"
