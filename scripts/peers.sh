#!/usr/bin/env bash
# Installs systems to compare with, from package registries: Python packages into a folder of their own, GNU parallel with
# apt-get where that takes no password. Writes FOLDER/peers.tsv: name, version, and a reason where there is no version.
# What cannot be installed is no error.
#   peers.sh [FOLDER]      (default target/peers)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/peers}
mkdir -p "$folder"
list=$folder/peers.tsv.part
log=$folder/install.log
: >"$list"
: >"$log"

has() { command -v "$1" >/dev/null 2>&1; }
# name, version, reason
tell() {
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$list"
    printf '%-12s %s\n' "$1" "${2:-left out: $3}"
}

python=$folder/venv/bin/python
if has python3 && { [ -x "$python" ] || python3 -m venv "$folder/venv" >>"$log" 2>&1; }; then
    for package in mpi4py parsl distributed hyperqueue; do
        if "$python" -m pip install --quiet "$package" >>"$log" 2>&1; then
            tell "$package" "$("$python" -c "import importlib.metadata as m; print(m.version('$package'))")" ""
        else
            tell "$package" "" "pip cannot install it: $(tail -n 1 "$log" | tr '\t' ' ')"
        fi
    done
else
    for package in mpi4py parsl distributed hyperqueue; do
        tell "$package" "" "no python3 with venv"
    done
fi

if ! has parallel && has apt-get; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq parallel >>"$log" 2>&1 || true
fi
if has parallel; then
    tell parallel "$(parallel --version 2>/dev/null | sed -n '1s/GNU parallel //p')" ""
else
    tell parallel "" "not there, and apt-get cannot install it without a password"
fi
if has xargs; then
    tell xargs "$(xargs --version 2>/dev/null | sed -n '1s/.*) //p')" ""
else
    tell xargs "" "not there"
fi
mv "$list" "$folder/peers.tsv"
