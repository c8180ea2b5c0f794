#!/bin/sh
# Installs a release of orinplan into the folder of this user: fetches the archive for this machine, holds it to its
# checksum, and unpacks the program, its manual pages and its completions. Nothing is installed where a step fails.
#
#   install.sh [--from ADDRESS|FOLDER] [--version VERSION] [--prefix FOLDER]
#
# --from     where the archives and SHA256SUMS are: an address or a folder [default: the release that this script is of]
# --version  the version of the archives there [default: that of this script]
# --prefix   programs go to its bin, manual pages to its share/man [default: ~/.local]
set -eu

version=@VERSION@
from=@RELEASES@
prefix=${HOME:?no home folder}/.local

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --from | --version | --prefix) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    esac
    case $1 in
        --from) from=$2 ;;
        --version) version=$2 ;;
        --prefix) prefix=$2 ;;
        -h | --help)
            sed -n '2,9s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail "\`$1\` is unknown; --help names the flags" ;;
    esac
    shift 2
done
case $version in @*) fail "which version? name it with --version" ;; esac
case $from in @* | '') fail "where are the archives? name the address with --from" ;; esac

[ "$(uname -s)" = Linux ] || fail "releases are for Linux; elsewhere: cargo install orinplan"
case $(uname -m) in
    x86_64 | amd64) processor=x86_64 ;;
    aarch64 | arm64) processor=aarch64 ;;
    *) fail "there is no release for $(uname -m); build it: cargo install orinplan" ;;
esac

# glibc 2.31 or later, else the program that needs none.
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc 2\.\([0-9]*\).*/\1/p')
if [ "${glibc:-0}" -ge 31 ]; then libc=gnu; else libc=musl; fi

name=orinplan-$version-$processor-unknown-linux-$libc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch FILE: puts it into the working folder.
fetch() {
    case $from in
        http://* | https://*)
            if command -v curl >/dev/null; then
                curl -fsSL --retry 3 -o "$work/$1" "$from/$1"
            elif command -v wget >/dev/null; then
                wget -q -O "$work/$1" "$from/$1"
            else
                fail "neither curl nor wget is here"
            fi
            ;;
        *) cp "$from/$1" "$work/$1" ;;
    esac || fail "cannot get $from/$1"
}

fetch SHA256SUMS
fetch "$name.tar.gz"
grep "  $name.tar.gz\$" "$work/SHA256SUMS" >"$work/sum" || fail "SHA256SUMS has no $name.tar.gz"
(cd "$work" && sha256sum -c sum >/dev/null 2>&1) || fail "$name.tar.gz is not the file that SHA256SUMS names: nothing was installed"

tar -xzf "$work/$name.tar.gz" -C "$work"
"$work/$name/orinplan" --version >/dev/null || fail "the program does not run here: nothing was installed"
mkdir -p "$prefix/bin" "$prefix/share/man/man1" "$prefix/share/bash-completion/completions"
cp "$work/$name/man/"*.1 "$prefix/share/man/man1/"
cp "$work/$name/completions/orinplan" "$prefix/share/bash-completion/completions/"
# Under its name at once: a running one is not written to.
cp "$work/$name/orinplan" "$prefix/bin/.orinplan.new"
mv "$prefix/bin/.orinplan.new" "$prefix/bin/orinplan"
printf 'installed %s\n' "$("$prefix/bin/orinplan" --version | head -n 1) as $prefix/bin/orinplan"
case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) printf '%s is not in PATH\n' "$prefix/bin" ;;
esac
