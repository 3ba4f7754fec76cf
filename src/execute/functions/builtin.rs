//! Functions that are always there: for measurements and first tries.

use super::function::{Call, Function, FunctionError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The status of a call whose payload it cannot use.
const BAD_PAYLOAD: i32 = 2;

pub(super) fn find(name: &str) -> Result<Function, FunctionError> {
    Ok(match name {
        "noop" => Arc::new(|_: &mut Call<'_>| 0),
        "spin" => Arc::new(|call: &mut Call<'_>| timed(call, spin)),
        "sleep" => Arc::new(|call: &mut Call<'_>| timed(call, std::thread::sleep)),
        "echo" => Arc::new(echo),
        unknown => return Err(FunctionError::NoBuiltin(unknown.to_owned())),
    })
}

/// Takes the time that the payload says, in microseconds.
fn timed(call: &mut Call<'_>, pass: impl Fn(Duration)) -> i32 {
    let text = std::str::from_utf8(call.payload).unwrap_or_default().trim();
    match text.parse::<f64>().ok().and_then(|us| Duration::try_from_secs_f64(us / 1e6).ok()) {
        Some(time) => {
            pass(time);
            0
        }
        None => {
            call.value.extend_from_slice(format!("\"{text}\" is no number of microseconds\n").as_bytes());
            BAD_PAYLOAD
        }
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Gives back what it was given.
fn echo(call: &mut Call<'_>) -> i32 {
    call.value.extend_from_slice(call.payload);
    0
}
