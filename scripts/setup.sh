#!/usr/bin/env bash
# Makes sure that what the build needs is there. Usage: setup.sh [openmpi] [mpich] [fortran]; the tests want Fortran.
# On Debian and its kin it says what is missing and installs it; elsewhere it names what to install or load.
# When nothing is missing it says nothing and changes nothing.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

if ! has cargo; then
    echo "Rust is missing: install it from https://rustup.rs, or load your site's module (module load rust)." >&2
    exit 1
fi

# An MPI that was named by hand is not installed by us.
if [ -n "${MPICC:-}${MPI_PKG_CONFIG:-}" ]; then
    set --
fi

# ---- Debian and its kin: packages. ----
if has apt-get && has dpkg-query; then
    wanted=(build-essential pkg-config libhwloc-dev libudev-dev libclang-dev)
    for mpi in "$@"; do
        case $mpi in
        openmpi) wanted+=(libopenmpi-dev openmpi-bin) ;;
        mpich) wanted+=(libmpich-dev mpich) ;;
        fortran) wanted+=(gfortran) ;;
        *)
            echo "MPI $mpi is not known: openmpi or mpich" >&2
            exit 2
            ;;
        esac
    done
    missing=()
    for package in "${wanted[@]}"; do
        case $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) in
        ii*) ;;
        *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && exit 0

    if [ "$(id -u)" = 0 ]; then
        as_root=(env)
    elif has sudo && sudo -n true 2>/dev/null; then
        as_root=(sudo -n env)
    else
        echo "Missing: ${missing[*]}" >&2
        echo "Installing packages takes root, and sudo asks for a password here. Run this, then try again:" >&2
        echo "    sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing with apt-get: ${missing[*]}"
    install=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    "${install[@]}" update
    "${install[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
    echo "Installed."
    exit 0
fi

# ---- Elsewhere: look for what it takes. ----
missing=()
has cc || missing+=("a C compiler")
has pkg-config || missing+=("pkg-config")
if [ -z "${LIBCLANG_PATH:-}" ] && ! ldconfig -p 2>/dev/null | grep -q libclang && ! has llvm-config; then
    missing+=("libclang")
fi
if has pkg-config; then
    pkg-config --exists hwloc || missing+=("hwloc")
    pkg-config --exists libudev || missing+=("libudev")
fi
for mpi in "$@"; do
    # Tests of Fortran are left out where there is none.
    [ "$mpi" = fortran ] && continue
    has "mpicc.$mpi" || has mpicc || has cc && cc --version 2>/dev/null | grep -qi cray || missing+=("$mpi")
done
[ ${#missing[@]} -eq 0 ] && exit 0

{
    printf 'Missing:'
    printf ' %s;' "${missing[@]}"
    echo
    cat <<'TEXT'
Install them with what this machine has, then try again:
    Fedora, RHEL:   dnf install gcc pkgconf-pkg-config openmpi-devel hwloc-devel systemd-devel clang-devel
                    module load mpi/openmpi-x86_64        (MPICH: mpich-devel, module load mpi/mpich-x86_64)
    SUSE:           zypper install gcc pkg-config openmpi4-devel hwloc-devel libudev-devel clang-devel
    Arch:           pacman -S base-devel openmpi hwloc systemd-libs clang
    Cray:           module load PrgEnv-gnu cray-mpich; export MPICC=cc; then make MPI=mpich
    Spack:          spack load openmpi hwloc llvm         (MPICH: spack load mpich)
    other modules:  module load gcc openmpi hwloc llvm
Where libclang has no standard place, point LIBCLANG_PATH at its folder.
Without MPI and hwloc, `cargo build --release --no-default-features` gives a myriarch for one machine.
TEXT
} >&2
exit 1
