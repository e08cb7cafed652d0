# Functions for the other scripts, which source this file: they install missing packages of the distribution.
# shellcheck shell=bash

# The oldest Rust that builds wavecast, from Cargo.toml.
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# The scripts look for their builds here, whatever target folder this user has configured.
export CARGO_TARGET_DIR=target

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

as_root() {
    need_root "to run ${1##*/}"
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Ends the script with advice where as_root could do nothing.
need_root() { # need_root WHAT-FOR
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        { say "This needs root $1: run it as root, or install sudo and let $(id -un) use it" && exit 1; }
}

# Installs the named Debian packages that are missing.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    need_root "to install ${missing[*]}"
    say "Installing ${missing[*]}"
    # The lock serialises scripts that run at the same time. --no-remove keeps every installed package.
    as_root flock /var/cache/apt apt-get update -qq
    as_root flock /var/cache/apt env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null
}

at_least() { # at_least VERSION WANTED
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# Installs a Rust toolchain from the distribution, unless a new enough one is there. Debian 12 has a newer one (rustc-web) beside
# its rustc 1.63. With the argument "tools", installs clippy and rustfmt too.
need_rust() {
    local version
    version=$(rustc --version 2>/dev/null | cut -d' ' -f2) || version=
    if [ -z "$version" ] || ! at_least "$version" "$rust_needed" || ! command -v cargo >/dev/null; then
        need_root "to install Rust"
        as_root flock /var/cache/apt apt-get update -qq
        version=$(apt-cache policy rustc | sed -n 's/ *Candidate: //p')
        if at_least "${version:-0}" "$rust_needed"; then
            need_packages cargo rustc
        else
            need_packages cargo-web rustc-web
        fi
    fi
    [ "${1:-}" = tools ] || return 0
    if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
        if dpkg-query -W rustc-web >/dev/null 2>&1; then
            need_packages rust-web-clippy rustfmt-web
        else
            need_packages rust-clippy rustfmt
        fi
    fi
}

# Installs all that a build needs.
need_build() {
    need_packages ca-certificates gcc libc6-dev libasound2-dev pkgconf
    need_rust "$@"
}

# Prints the Debian mirror of this machine's apt, or nothing where apt has none (Ubuntu): then mmdebstrap uses its own default.
debian_mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' \
        "Created-By: Packages" "Origin: Debian" "Label: Debian" "Component: main" | sed -n 1p
}
