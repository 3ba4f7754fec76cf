. /work/scratch/env.sh
cat > /work/scratch/lat1.sh <<'F'
#!/bin/bash
r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
exec perf record -q -e cpu-clock -F 9999 -g -o /work/scratch/lat.$r.data -- "$@"
F
chmod +x /work/scratch/lat1.sh
mpiexec.openmpi -q --oversubscribe -n 2 /work/scratch/lat1.sh $R bench latency --tasks 400000 | head -4
