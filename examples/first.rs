//! The program of the page "Embed it in a program": a search for the smallest value of a function of two numbers.
//!
//!     cargo build --release --example first
//!     mpiexec -n 2 target/release/examples/first

use myriarch::embed::{Program, Session, Settings, TaskFunction};
use std::error::Error;

fn main() {
    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Serialized).expect("MPI starts");
    let mut program = Program::new();
    let misfit = program.function("misfit", |_task, point: (f64, f64)| simulate(point));

    match program.enter(&universe.world(), &Settings::default()) {
        Ok(Some(session)) => {
            if let Err(error) = search(&session, &misfit).and_then(|()| Ok(session.finish()?)) {
                eprintln!("first: {error}");
            }
        }
        Ok(None) => {}
        Err(error) => eprintln!("first: {error}"),
    }
}

fn search(session: &Session, misfit: &TaskFunction<(f64, f64), f64>) -> Result<(), Box<dyn Error>> {
    let mut bundle = session.open(misfit)?;
    let mut points = first_guesses();
    for point in &points {
        bundle.submit(point)?;
    }
    while let Some(outcome) = bundle.next()? {
        let near = look_around(points[outcome.index() as usize], outcome.value()?);
        for point in near {
            bundle.submit(&point)?;
            points.push(point);
        }
    }
    Ok(())
}

/// Himmelblau's function: four minima, each of them 0.
fn simulate((x, y): (f64, f64)) -> f64 {
    (x * x + y - 11.0).powi(2) + (x + y * y - 7.0).powi(2)
}

fn first_guesses() -> Vec<(f64, f64)> {
    (-4..=4).flat_map(|x| (-4..=4).map(move |y| (f64::from(x), f64::from(y)))).collect()
}

/// Points nearer to a minimum, by how far above it this one lies; none where it is one.
fn look_around((x, y): (f64, f64), value: f64) -> Vec<(f64, f64)> {
    if value < 1e-6 {
        println!("a minimum at {x:.3}, {y:.3}");
        return Vec::new();
    }
    let slope = (
        4.0 * x * (x * x + y - 11.0) + 2.0 * (x + y * y - 7.0),
        2.0 * (x * x + y - 11.0) + 4.0 * y * (x + y * y - 7.0),
    );
    let step = 0.01;
    vec![(x - step * slope.0, y - step * slope.1)]
}
