#!/usr/bin/env bash
# Installs what this repository needs on a Debian machine: what is there already is left alone.
# Usage: scripts/setup.sh [build] [check] [lab]      none of them: all
# (compilers and bpf-linker; formatter and linter; tools and QEMU for the tests and the demo)
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp -t vnet-setup.XXXXXX)
trap 'rm -f "$log"' EXIT
began=$EPOCHREALTIME

say() { printf 'setup: %s\n' "$*" >&2; }
seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", to - from }'; }
fail() {
    say "FAILED: $1"
    printf 'setup:   %s\n' "${@:2}" >&2
    exit 1
}

# step WHAT CURE COMMAND...: one line with the time it took; on failure the command's last words.
step() {
    local what=$1 cure=$2 from=$EPOCHREALTIME
    shift 2
    printf 'setup: %s ... ' "$what" >&2
    if ! "$@" >"$log" 2>&1 </dev/null; then
        printf 'failed after %s\n' "$(seconds_since "$from")" >&2
        tail -n 20 "$log" >&2
        fail "$what" "$cure"
    fi
    printf '%s\n' "$(seconds_since "$from")" >&2
}

# Networks drop and mirrors hiccup.
retry() {
    local pause
    for pause in 5 15; do
        "$@" && return 0
        sleep "$pause"
    done
    "$@"
}

# Package lists are fetched only where the ones on the machine will not do.
apt_install() {
    local apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    local install=("${apt[@]}" install -y --no-install-recommends "$@")
    export DEBIAN_FRONTEND=noninteractive
    "${install[@]}" || { "${apt[@]}" update && "${install[@]}"; }
}

packages() {
    local what=$1 missing=() package
    shift
    command -v dpkg-query >/dev/null || fail "this script knows Debian only" "elsewhere:" \
        "rustup's nightly with rust-src, bpf-linker in PATH, what this script names; cargo xtask test"
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "$what: packages are missing, only root may install them" \
        "run: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    step "$what: installing ${missing[*]}" \
        "see to the package sources (bookworm-security has rustc-web 1.95 or later), run me again" \
        retry apt_install "${missing[@]}"
}

choose_cargo() {
    # shellcheck source=scripts/toolchain.sh
    . scripts/toolchain.sh || fail "no cargo $(vnet_rust_floor) or later on this machine" \
        "with rustup: rustup update stable; else enable bookworm-security and run scripts/setup.sh"
}

# What a first build leaves, with the tests of all crates.
must_have_room() {
    local needed=8 target=${CARGO_TARGET_DIR:-target} free
    [ ! -d "$target" ] || return 0
    free=$(df -P -BG "$(dirname "$target")" | awk 'NR == 2 { print $4 + 0 }')
    [ "${free:-$needed}" -ge "$needed" ] ||
        fail "$free GB of disk are free for $target, and the build and its tests take about $needed" \
            "make room, or have CARGO_TARGET_DIR lead to another disk, and run me again"
}

set_up_build() {
    must_have_room
    packages "compilers" ca-certificates git gcc libc6-dev make pkg-config \
        rustc-web cargo-web libstd-rust-web-dev-bpf
    choose_cargo

    # The linker must be built against the LLVM of the compiler whose bitcode it reads.
    local llvm version feature directory
    llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    read -r version feature < <(awk -v llvm="$llvm" '$1 == llvm { print $2, $3 }' xtask/bpf-linker.txt) ||
        fail "no bpf-linker is pinned for LLVM ${llvm:-?}, which /usr/bin/rustc has" \
            "find the version that supports it and add a line to xtask/bpf-linker.txt"
    packages "LLVM $llvm, for bpf-linker" "llvm-$llvm-dev"

    # Outside the clone, for the next one to find; by version, for two with different pins to share.
    directory=${VNET_TOOLS:-${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/vnet/tools}/bpf-linker-$version-$feature
    [ "$("$directory/bin/bpf-linker" --version 2>/dev/null)" = "bpf-linker $version" ] ||
        LLVM_PREFIX=/usr/lib/llvm-$llvm step "bpf-linker $version: building (about a minute)" \
            "look at what cargo said; it needs the network, llvm-$llvm-dev and 500 MB in /tmp" \
            retry env -u RUSTFLAGS -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET cargo install --locked \
            --force --root "$directory" --no-default-features --features "$feature" "bpf-linker@$version"
}

set_up_check() {
    choose_cargo
    local wanted=(rust-web-clippy) # beside the eBPF compiler: the linter of the kernel side
    cargo fmt --version >/dev/null 2>&1 || wanted+=(rustfmt-web)
    packages "formatter and linter" "${wanted[@]}"
    { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 ||
        fail "$(command -v cargo) has no formatter or linter" "rustup component add rustfmt clippy"
}

set_up_lab() {
    packages "tools for the lab" iproute2 nftables ethtool tcpdump iputils-ping iperf3 kmod cpio \
        busybox-static qemu-system-x86
    # The lab fetches the guests' kernel itself, as a package that it only unpacks.
    apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ] ||
        step "package lists, for the guests' kernel" "see to the package sources" retry apt-get -q update
}

[ $# -gt 0 ] || set -- build check lab
for part in "$@"; do
    case $part in
    build | check | lab) "set_up_$part" ;;
    *) fail "unknown part '$part'" "usage: scripts/setup.sh [build] [check] [lab]" ;;
    esac
done
say "$* ready ($(seconds_since "$began"))"
