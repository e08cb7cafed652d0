# Sourced by the other scripts: installs what they need from the distribution, and only what is missing.
# shellcheck shell=bash

# The oldest Rust that builds this, as in Cargo.toml.
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Where the scripts look for what they build, wherever else this user has things built.
export CARGO_TARGET_DIR=target

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

as_root() {
    need_root "to run ${1##*/}"
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Ends with what to do where as_root could do nothing.
need_root() { # need_root WHAT-FOR
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        { say "This needs root $1: run it as root, or install sudo and let $(id -un) use it" && exit 1; }
}

# Installs those Debian packages that are not there yet.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    need_root "to install ${missing[*]}"
    say "Installing ${missing[*]}"
    # One at a time: scripts may do this side by side. And whatever was here before stays.
    as_root flock /var/cache/apt apt-get update -qq
    as_root flock /var/cache/apt env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null
}

at_least() { # at_least VERSION WANTED
    [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# A Rust toolchain: the one there is, if it is new enough, or else the distribution's. Debian 12 has a newer
# one beside its own 1.63, under other names. With "tools" also clippy and rustfmt.
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

# What a build needs beside Rust.
need_build() {
    need_packages ca-certificates gcc libc6-dev libasound2-dev pkgconf
    need_rust "$@"
}

# The mirror of Debian that this machine's apt uses. Nothing where it uses none (Ubuntu): mmdebstrap knows one then.
debian_mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' \
        "Created-By: Packages" "Origin: Debian" "Label: Debian" "Component: main" | sed -n 1p
}
