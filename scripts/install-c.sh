#!/usr/bin/env bash
# Puts the C library, its headers, Fortran's module and what pkg-config says of them into a folder.
# Usage: install-c.sh PREFIX [FOLDER]     FOLDER is where the libraries were built
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

prefix=${1:?install-c.sh PREFIX [FOLDER]}
folder=${2:-$target_dir/release}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)

# What `rustc --print native-static-libs` says on Linux, and hwloc. MPI is left to its compiler wrapper, which knows best.
libs_private="-lhwloc -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' bindings/c/Cargo.toml)

install -D -m 644 -t "$prefix/include" bindings/c/myriarch.h bindings/c/myriarch_task.h bindings/c/myriarch.f90
install -D -m 644 -t "$prefix/lib" "$folder/libmyriarch_c.a"
install -D -m 755 -t "$prefix/lib" "$folder/libmyriarch_c.so"
mkdir -p "$prefix/lib/pkgconfig"
sed -e "s|@prefix@|$prefix|; s|@libs_private@|$libs_private|; s|@version@|$version|; s|@mpi@|$MPI|" \
    bindings/c/myriarch.pc.in >"$prefix/lib/pkgconfig/myriarch.pc"
echo "Installed the C library to $prefix ($MPI); pkg-config finds it with PKG_CONFIG_PATH=$prefix/lib/pkgconfig"
