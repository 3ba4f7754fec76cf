# The commands of this project. `make help` lists them.
#
#   MPI=openmpi|mpich   which MPI to build with (default openmpi); MPICH builds in target-mpich/
#   MPICC, MPI_PKG_CONFIG, MPIEXEC   an MPI that is installed elsewhere; nothing of it is installed then
#   ARGS                what `make scaling` passes on, such as ARGS="--only weak --again", and `make bench` to Criterion
#   PREFIX              where `make install` and `make install-c` put things (default ~/.local)

MPI ?= openmpi
PREFIX ?= $(HOME)/.local
prefix := $(patsubst ~%,$(HOME)%,$(PREFIX))
destination := $(prefix)/bin
export MPI
SHELL := bash

.PHONY: help setup build run test soak faults bench scaling install install-c fmt check clean

help:
	@echo "make run       build, then estimate pi with 2,000 processes on real MPI"
	@echo "make build     the release binary"
	@echo "make test      every check and every test, on Open MPI, on MPICH, and without MPI"
	@echo "make soak      simulated runs with faults of fresh seeds, for as long as SOAK says (default 10m)"
	@echo "make faults    kills and stops ranks of real runs at random; FAULTS=100 under each launcher, SLURM=yes under srun too"
	@echo "make bench     measures single steps of range sets, messages, lists, roles, ledger and links; ARGS=manager: only such"
	@echo "make scaling   measures scaling, simulates it at large scale, compares with others: tables and plots; ARGS=--help"
	@echo "make install   the release binary to PREFIX/bin ($(destination))"
	@echo "make install-c the library for C and Fortran to PREFIX/lib and PREFIX/include"
	@echo "make setup     only what the build needs: says what is missing, and installs it where it can"
	@echo "make fmt       format;  make check: format and lints, no tests;  make clean"
	@echo "Add MPI=mpich for MPICH."

setup:
	@scripts/setup.sh $(MPI)

build: setup
	@scripts/build.sh

run: build
	@scripts/pi.sh

test:
	@scripts/setup.sh openmpi mpich fortran
	@scripts/test.sh

soak: build
	@scripts/soak.sh

faults:
	@scripts/setup.sh openmpi mpich
	@scripts/faults.sh

bench: setup
	@scripts/bench.sh $(ARGS)

scaling: setup
	@scripts/scaling.sh $(ARGS)

install: build
	@. scripts/environment.sh && install -D -m 755 "$$target_dir/release/myriarch" "$(destination)/myriarch"
	@echo "Installed $(destination)/myriarch"

install-c: setup
	@scripts/build-c.sh
	@scripts/install-c.sh "$(prefix)"

fmt:
	cargo fmt --all

check: setup
	@scripts/test.sh check

clean:
	rm -rf target target-mpich
