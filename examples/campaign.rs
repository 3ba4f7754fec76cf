//! A campaign inside of an MPI program: fits stiffness and damping of an oscillator to a measured curve. Which parameters are
//! tried next depends on what came out so far: around each point that is among the best, finer ones are tried, while others
//! still run.
//!
//!     mpiexec -n 4 target/release/examples/campaign
//!
//! Usage: `campaign [--points N]`. Every rank enters; rank 0 prints the best fit.

use mpi::Threading;
use mpi::traits::{AsRaw, Communicator};
use myriarch::embed::{Bundle, Program, Session, SessionError, Settings, TaskFunction};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// Parameters of the oscillator x″ + damping · x′ + stiffness · x = 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Per mass, 1/s².
    pub stiffness: f64,
    /// Per mass, 1/s.
    pub damping: f64,
    /// How far around it is looked next, relative to the first grid.
    pub width: f64,
}

/// What the curve was made with, which the campaign does not know.
pub const TRUTH: Point = Point { stiffness: 3.7, damping: 0.23, width: 0.0 };
/// The ranges that are searched.
const STIFFNESS: (f64, f64) = (1.0, 9.0);
const DAMPING: (f64, f64) = (0.0, 1.0);
/// Points of the first grid along each side.
const GRID: u32 = 9;
/// Points that are looked around.
const BEST: usize = 6;
/// Points that are tried when none are asked for.
const POINTS: u64 = 2_000;
/// Samples of the curve, and steps of integration from one to the next.
const SAMPLES: usize = 200;
const STEPS: usize = 20;
const SECONDS: f64 = 20.0;

/// The curve of an oscillator that begins at 1 at rest, by the classical Runge-Kutta method of fourth order.
pub fn curve(point: Point) -> Vec<f64> {
    let step = SECONDS / (SAMPLES * STEPS) as f64;
    let slope = |(x, v): (f64, f64)| (v, -point.stiffness * x - point.damping * v);
    let ahead = |(x, v): (f64, f64), (dx, dv): (f64, f64), by: f64| (x + by * dx, v + by * dv);
    let mut state = (1.0, 0.0);
    (0..SAMPLES)
        .map(|_| {
            for _ in 0..STEPS {
                let k1 = slope(state);
                let k2 = slope(ahead(state, k1, step / 2.0));
                let k3 = slope(ahead(state, k2, step / 2.0));
                let k4 = slope(ahead(state, k3, step));
                let mean = |a: f64, b: f64, c: f64, d: f64| (a + 2.0 * b + 2.0 * c + d) / 6.0;
                state = ahead(state, (mean(k1.0, k2.0, k3.0, k4.0), mean(k1.1, k2.1, k3.1, k4.1)), step);
            }
            state.0
        })
        .collect()
}

/// Mean square distance between two curves.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / one.len() as f64
}

/// Enters with the ranks of a communicator and tries so many points; rank 0 gets the best.
///
/// # Errors
/// The ranks cannot work together, or a task failed.
pub fn search(
    communicator: &impl AsRaw<Raw = mpi::ffi::MPI_Comm>,
    points: u64,
) -> Result<Option<(Point, f64)>, Box<dyn std::error::Error>> {
    let measured = curve(TRUTH);
    let mut program = Program::new();
    let misfit = program.function("misfit", move |_, point: Point| distance(&curve(point), &measured));
    // On all ranks but the first, this is where the tasks run.
    let Some(session) = program.enter(communicator, &Settings::default())? else { return Ok(None) };
    let best = refine(&session, &misfit, points)?;
    session.finish()?;
    Ok(Some(best))
}

fn refine(
    session: &Session,
    misfit: &TaskFunction<Point, f64>,
    points: u64,
) -> Result<(Point, f64), Box<dyn std::error::Error>> {
    let mut tried = Vec::new();
    let mut best: Vec<(f64, Point)> = Vec::new();
    let mut bundle = session.open(misfit)?;
    let at = |(from, to): (f64, f64), share: f64| from + (to - from) * share;
    for i in 0..GRID * GRID {
        let share = |n: u32| f64::from(n) / f64::from(GRID - 1);
        let width = 0.5 / f64::from(GRID - 1);
        let point = Point { stiffness: at(STIFFNESS, share(i % GRID)), damping: at(DAMPING, share(i / GRID)), width };
        try_out(point, points, &mut tried, &mut bundle)?;
    }
    while let Some(outcome) = bundle.next()? {
        let (misfit, point) = (outcome.value()?, tried[outcome.index() as usize]);
        let place = best.partition_point(|(known, _)| *known <= misfit);
        if place >= BEST {
            continue;
        }
        best.insert(place, (misfit, point));
        best.truncate(BEST);
        // Eight points around it, half as far away as those around the one that it came from.
        for (i, j) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
            let finer = Point {
                stiffness: point.stiffness + f64::from(i) * point.width * (STIFFNESS.1 - STIFFNESS.0),
                damping: point.damping + f64::from(j) * point.width * (DAMPING.1 - DAMPING.0),
                width: point.width / 2.0,
            };
            try_out(finer, points, &mut tried, &mut bundle)?;
        }
    }
    let (misfit, point) = best.first().copied().ok_or("no point was tried")?;
    Ok((point, misfit))
}

/// Submits a point, where it lies within the ranges and there are some left to try.
fn try_out(
    point: Point,
    points: u64,
    tried: &mut Vec<Point>,
    bundle: &mut Bundle<'_, Point, f64>,
) -> Result<(), SessionError> {
    let inside =
        (STIFFNESS.0..=STIFFNESS.1).contains(&point.stiffness) && (DAMPING.0..=DAMPING.1).contains(&point.damping);
    if inside && (tried.len() as u64) < points {
        bundle.submit(&point)?;
        tried.push(point);
    }
    Ok(())
}

#[allow(dead_code)]
fn main() -> ExitCode {
    match campaign() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn campaign() -> Result<(), Box<dyn std::error::Error>> {
    let points = match std::env::args().nth(1).as_deref() {
        Some("--points") => std::env::args().nth(2).ok_or("--points has no value")?.parse()?,
        _ => POINTS,
    };
    let (universe, _) = mpi::initialize_with_threading(Threading::Serialized).ok_or("MPI cannot be started")?;
    let world = universe.world();
    if let Some((point, misfit)) = search(&world, points)? {
        println!(
            "{} ranks, {points} points: stiffness {:.6}, damping {:.6}, mean square misfit {misfit:.3e}",
            world.size(),
            point.stiffness,
            point.damping
        );
    }
    Ok(())
}
