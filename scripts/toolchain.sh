# shellcheck shell=bash
# Which cargo builds the host side? Sourced by the other scripts; afterwards `cargo` in PATH is one
# that will do: what PATH says already, else rustup's, else Debian's. Returns 1 where there is none.

# The oldest compiler that will do, as the workspace says.
vnet_rust_floor() {
    sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml
}

# Whether the cargo at $1 runs, is not older than the floor, and has a compiler.
vnet_cargo_will_do() {
    local version
    version=$("$1" --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] || return 1
    [ "$(printf '%s\n' "$(vnet_rust_floor)" "$version" | sort -V | head -n1)" = "$(vnet_rust_floor)" ] &&
        "$(dirname "$1")/rustc" --version >/dev/null 2>&1
}

vnet_choose_cargo() {
    local rustup_bin="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" cargo
    for cargo in "$(command -v cargo || true)" "$rustup_bin/cargo" /usr/bin/cargo; do
        if [ -n "$cargo" ] && vnet_cargo_will_do "$cargo"; then
            # Last in PATH as well, because cargo looks for its subcommands there first of all
            # unless PATH names the place.
            PATH="$(dirname "$cargo"):$PATH:$rustup_bin"
            export PATH
            return 0
        fi
    done
    return 1
}

vnet_choose_cargo
