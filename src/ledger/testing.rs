//! Makers of outcomes for the tests of this folder.

use crate::task::{Captured, Outcome, Status};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A task that ended well and printed nothing.
pub(crate) fn ok(index: u64) -> Outcome {
    Outcome {
        index,
        status: Status::Ok,
        attempts: 1,
        started_unix_us: 1_700_000_000_000_000 + index,
        duration_us: 1000,
        rank: 1,
        node: 0,
        stdout: Captured::default(),
        stderr: Captured::default(),
    }
}

/// A task that printed its own number and ended with this status.
pub(crate) fn printed(index: u64, status: Status) -> Outcome {
    Outcome {
        status,
        stdout: Captured::whole(format!("out {index}\n").into_bytes()),
        stderr: Captured::whole(format!("starting {index}\nerr {}\n", index % 3).into_bytes()),
        ..ok(index)
    }
}

/// Any outcome, odd values included.
pub(crate) fn any_outcome() -> impl Strategy<Value = Outcome> {
    let number = || prop_oneof![0..2000u64, any::<u64>()];
    let small = || prop_oneof![0..3u32, any::<u32>()];
    let captured = || {
        (prop::collection::vec(any::<u8>(), 0..60), any::<prop::sample::Index>(), prop_oneof![Just(0u64), any::<u64>()])
            .prop_map(|(bytes, at, dropped)| {
                let head = if dropped == 0 { bytes.len() } else { at.index(bytes.len() + 1) } as u64;
                Captured { bytes, head, dropped }
            })
    };
    let status = prop_oneof![
        4 => Just(Status::Ok),
        1 => any::<i32>().prop_map(Status::Exit),
        1 => any::<i32>().prop_map(Status::Signal),
        1 => Just(Status::Timeout),
        1 => ".{0,20}".prop_map(Status::NotStarted),
        1 => ".{0,20}".prop_map(Status::Panic),
        1 => Just(Status::Lost),
        1 => Just(Status::Cancelled),
    ];
    (number(), status, small(), number(), number(), (small(), small()), captured(), captured()).prop_map(
        |(index, status, attempts, started_unix_us, duration_us, (rank, node), stdout, stderr)| Outcome {
            index,
            status,
            attempts,
            started_unix_us,
            duration_us,
            rank,
            node,
            stdout,
            stderr,
        },
    )
}

/// Waits until it holds; a hang is a failure.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
