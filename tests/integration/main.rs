//! All tests from outside in one program, by kind: linking each kind by itself would take longer than running it. What
//! starts ranks goes through `common`.

mod common;
mod fabric_support;

mod bad_input;
mod bench_null;
mod bindings;
mod calibrate;
mod embed;
mod end_to_end;
mod fabric_mpi;
mod fabric_threads;
mod failures;
mod full_disk;
mod functions;
mod isolate;
#[cfg(feature = "mpi")]
mod losses;
mod mixed_lines;
mod mpi_tasks;
mod pin;
mod print;
mod resume;
mod session_dir;
#[cfg(feature = "mpi")]
mod session_losses;
