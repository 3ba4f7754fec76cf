//! Looks for the minimum of Rosenbrock's function: each round evaluates a grid on all ranks, and the next grid lies closer
//! around the best point. Then enters a second time. `examples/c/search.c` and `examples/fortran/search.f90` are the same
//! program and print the same lines.
//!
//!     cargo build --release --example search
//!     mpiexec -n 4 target/release/examples/search

#[cfg(not(feature = "mpi"))]
fn main() {
    eprintln!("search: this build has no MPI");
    std::process::exit(2);
}

#[cfg(feature = "mpi")]
fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("search: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "mpi")]
fn run() -> Result<(), Box<dyn std::error::Error>> {
    use mpi::Threading;
    use mpi::traits::Communicator;
    use myriarch::embed::{Program, Settings};

    let (universe, _) = mpi::initialize_with_threading(Threading::Serialized).ok_or("MPI is running already")?;
    let world = universe.world();
    // What goes wrong on one rank ends all of them.
    let checked = |result: Result<(), Box<dyn std::error::Error>>| {
        result.unwrap_or_else(|error| {
            eprintln!("search: {error}");
            world.abort(1)
        });
    };
    let mut program = Program::new();
    program.raw("rosenbrock", search::rosenbrock);
    program.raw("index_sum", search::index_sum);

    let settings = Settings::default();
    if let Some(session) = program.enter(&world, &settings)? {
        checked(search::search(&session));
        session.finish()?;
    }
    // All ranks are the program's again, and may enter again.
    if let Some(session) = program.enter(&world, &settings)? {
        checked(search::add_indexes(&session));
        session.finish()?;
    }
    Ok(())
}

#[cfg(feature = "mpi")]
mod search {
    use myriarch::embed::{Call, RawOutcome, Session, Status, TaskOptions};
    use std::error::Error;

    const ROUNDS: usize = 12;
    const SIDE: usize = 11;
    const REPEATS: u32 = 1000;
    const INDEXES: u64 = 1000;

    pub fn rosenbrock(call: &mut Call<'_>) -> i32 {
        let Ok(payload) = <&[u8; 16]>::try_from(call.payload) else { return 2 };
        let [x, y] = [0, 8].map(|at| f64::from_ne_bytes(payload[at..at + 8].try_into().expect("eight bytes")));
        let f = (1.0 - x) * (1.0 - x) + 100.0 * ((y - x * x) * (y - x * x));
        // A task that takes a while, as a true one would.
        let mut sum = 0.0;
        for _ in 0..REPEATS {
            sum += f / f64::from(REPEATS);
        }
        call.value.extend_from_slice(&sum.to_ne_bytes());
        0
    }

    pub fn index_sum(call: &mut Call<'_>) -> i32 {
        call.value.extend_from_slice(&call.index.to_ne_bytes());
        0
    }

    fn value(outcome: &RawOutcome) -> Result<[u8; 8], Box<dyn Error>> {
        match <[u8; 8]>::try_from(&outcome.stdout.bytes[..]) {
            Ok(bytes) if outcome.status == Status::Ok => Ok(bytes),
            _ => Err(format!("task {}: {}", outcome.index, outcome.status).into()),
        }
    }

    pub fn search(session: &Session) -> Result<(), Box<dyn Error>> {
        let (mut cx, mut cy, mut h) = (0.0, 0.0, 2.0);
        for round in 0..ROUNDS {
            let mut bundle = session.open_raw("rosenbrock", TaskOptions::default())?;
            let mut points = Vec::new();
            for i in 0..SIDE {
                for j in 0..SIDE {
                    let [x, y] = [(cx, i), (cy, j)].map(|(c, step)| c - h + 2.0 * h * step as f64 / 10.0);
                    bundle.submit(&[x.to_ne_bytes(), y.to_ne_bytes()].concat())?;
                    points.push([x, y]);
                }
            }
            bundle.close();
            let mut values = vec![f64::NAN; points.len()];
            while let Some(outcome) = bundle.next()? {
                values[outcome.index as usize] = f64::from_ne_bytes(value(&outcome)?);
            }
            let mut best = 0;
            for (index, value) in values.iter().enumerate() {
                if *value < values[best] {
                    best = index;
                }
            }
            [cx, cy] = points[best];
            h *= 0.4;
            println!("round {round}: x={cx:.12} y={cy:.12} f={}", exponential(values[best]));
        }
        Ok(())
    }

    /// As `%.6e` of C: the exponent has a sign and two digits.
    fn exponential(number: f64) -> String {
        let text = format!("{number:.6e}");
        let (digits, exponent) = text.split_once('e').expect("there is an exponent");
        format!("{digits}e{:+03}", exponent.parse::<i32>().expect("it is a number"))
    }

    pub fn add_indexes(session: &Session) -> Result<(), Box<dyn Error>> {
        let mut array = session.array_raw("index_sum", 0..INDEXES, &[], TaskOptions::default())?;
        let mut sum = 0;
        while let Some(outcome) = array.next()? {
            sum += u64::from_ne_bytes(value(&outcome)?);
        }
        println!("sum of {INDEXES} indexes: {sum}");
        Ok(())
    }
}
