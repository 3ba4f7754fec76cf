# Sourced by the other scripts: what building and starting with the chosen MPI takes. Sets target_dir, mpiexec (an
# array, with the flags that this machine needs) and what rsmpi's build looks for. MPI is openmpi or mpich.

MPI=${MPI:-openmpi}

has() { command -v "$1" >/dev/null 2>&1; }

case $MPI in
openmpi)
    target_dir=target
    pkg_config_name=ompi
    ;;
mpich)
    target_dir=target-mpich
    pkg_config_name=mpich
    ;;
*)
    echo "MPI=$MPI is not known: openmpi or mpich" >&2
    exit 2
    ;;
esac

# An MPI named by hand wins; then pkg-config, which tells the two apart where both are installed; then a compiler
# wrapper with the MPI's name; then plain mpicc, which rsmpi tries by itself.
if [ -z "${MPICC:-}" ] && [ -z "${MPI_PKG_CONFIG:-}" ]; then
    if has pkg-config && pkg-config --exists "$pkg_config_name"; then
        export MPI_PKG_CONFIG=$pkg_config_name
    elif has "mpicc.$MPI"; then
        export MPICC=mpicc.$MPI
    fi
fi

if [ -n "${MPIEXEC:-}" ]; then
    read -r -a mpiexec <<<"$MPIEXEC"
elif has "mpiexec.$MPI"; then
    mpiexec=("mpiexec.$MPI")
else
    mpiexec=(mpiexec)
fi
if [ "$MPI" = openmpi ]; then
    # More ranks than cores are fine for Myriarch; Open MPI wants to be told.
    mpiexec+=(--oversubscribe)
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
fi
