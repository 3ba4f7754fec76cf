#!/bin/bash
r=${OMPI_COMM_WORLD_RANK}
if [ "$r" = "$CGR" ]; then exec valgrind -q --tool=callgrind --callgrind-out-file=/work/scratch/cg.$r.out --collect-atstart=no $TOG "$@"; else exec "$@"; fi
