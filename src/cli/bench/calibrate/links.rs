//! What a message between two ranks takes: rank 0 measures, the other one answers.

use super::{sampled, undisturbed};
use crate::fabric::{Fabric, FabricError, Listen};
use crate::task::Rank;
use std::time::{Duration, Instant};

/// A small message.
const SMALL_BYTES: usize = 8;
/// Two sizes of large ones: what the one takes more than the other is the price of bytes.
const LARGE_BYTES: [usize; 2] = [64 << 10, 1 << 20];
/// Round trips that make one sample, of small messages and of large ones: some tens of microseconds, and some milliseconds.
const ROUNDS: u32 = 50;
const LARGE_ROUNDS: u32 = 4;
/// Messages that are sent at once, each of them without waiting for those before.
const BURST: u32 = 8;
/// For so long the receiver of a burst leaves it where it is, so that all of it has come.
const LET_COME: Duration = Duration::from_micros(30);

/// What a link takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkTimes {
    /// From sending a small message to having received it.
    pub(super) one_way: f64,
    /// What sending takes of the sender's time.
    pub(super) send: f64,
    /// What receiving one that is there takes of the receiver's.
    pub(super) receive: f64,
    /// Each byte of large ones.
    pub(super) byte: f64,
}

/// The first byte of a message: what is to be done with it.
const ECHO: u8 = 0;
const TAKE_UP: u8 = 1;
const END: u8 = 2;

/// Measures a fabric of two ranks for about so long; rank 0 gets the times. Ends the fabric.
pub(super) fn measure(mut fabric: Box<dyn Fabric>, length: Duration) -> Result<Option<LinkTimes>, FabricError> {
    fabric.connect(&[Some(Rank::MANAGER)])?;
    let times = if fabric.rank() == Rank::MANAGER {
        Some(ask(&mut *fabric, length / 4)?)
    } else {
        answer(&mut *fabric)?;
        None
    };
    fabric.finish(false);
    Ok(times)
}

fn ask(fabric: &mut dyn Fabric, length: Duration) -> Result<LinkTimes, FabricError> {
    let one_way = round_trips(fabric, SMALL_BYTES, ROUNDS, length)? / 2.0;
    let [less, more] = LARGE_BYTES.map(|bytes| round_trips(fabric, bytes, LARGE_ROUNDS, length));
    let large = [less?, more?];
    let byte = (large[1] - large[0]).max(0.0) / 2.0 / (LARGE_BYTES[1] - LARGE_BYTES[0]) as f64;
    let send = bursts(fabric, length)?;
    say(fabric, END, 1);
    let receive = f64::from_le_bytes(next(fabric)?.try_into().unwrap_or_default());
    Ok(LinkTimes { one_way, send, receive, byte })
}

/// Nanoseconds of a round trip.
fn round_trips(fabric: &mut dyn Fabric, bytes: usize, rounds: u32, length: Duration) -> Result<f64, FabricError> {
    sampled(length, || {
        let start = Instant::now();
        for _ in 0..rounds {
            say(fabric, ECHO, bytes);
            next(fabric)?;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(rounds))
    })
}

/// Nanoseconds of sending one message.
fn bursts(fabric: &mut dyn Fabric, length: Duration) -> Result<f64, FabricError> {
    sampled(length, || {
        let messages: Vec<Vec<u8>> = (0..BURST).map(|_| message(TAKE_UP, SMALL_BYTES)).collect();
        let start = Instant::now();
        for message in messages {
            fabric.send(0, Rank(1), message);
        }
        let took = start.elapsed();
        next(fabric)?;
        Ok(took.as_nanos() as f64 / f64::from(BURST))
    })
}

/// Does what rank 0 asks for, until it has asked enough.
fn answer(fabric: &mut dyn Fabric) -> Result<(), FabricError> {
    let mut samples = Vec::new();
    loop {
        let message = next(fabric)?;
        match message.first() {
            Some(&ECHO) => fabric.send(0, Rank::MANAGER, message),
            Some(&TAKE_UP) => {
                let start = Instant::now();
                while start.elapsed() < LET_COME {
                    std::hint::spin_loop();
                }
                let (start, mut more) = (Instant::now(), 1);
                while more < BURST {
                    more += u32::from(fabric.receive()?.is_some());
                }
                samples.push(start.elapsed().as_nanos() as f64 / f64::from(BURST - 1));
                fabric.send(0, Rank::MANAGER, message);
            }
            _ => {
                fabric.send(0, Rank::MANAGER, undisturbed(samples).to_le_bytes().to_vec());
                return Ok(());
            }
        }
    }
}

fn message(what: u8, bytes: usize) -> Vec<u8> {
    vec![what; bytes]
}

fn say(fabric: &mut dyn Fabric, what: u8, bytes: usize) {
    fabric.send(0, Rank(1), message(what, bytes));
}

/// Waits for the next message as a rank does.
fn next(fabric: &mut dyn Fabric) -> Result<Vec<u8>, FabricError> {
    loop {
        if let Some((_, _, message)) = fabric.receive()? {
            return Ok(message);
        }
        fabric.wait(&mut Vec::new(), Duration::from_secs(1), Listen::Eagerly)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::ThreadFabric;

    #[test]
    fn rank_0_gets_times_above_zero_and_the_other_rank_ends_with_it() {
        let mut fabrics = ThreadFabric::group(2).expect("two ranks");
        let (other, first) = (fabrics.remove(1), fabrics.remove(0));
        let length = Duration::from_millis(20);
        let times = std::thread::scope(|scope| {
            let other = scope.spawn(move || measure(Box::new(other), length).expect("it answers"));
            let times = measure(Box::new(first), length).expect("it asks");
            assert!(other.join().expect("it ends").is_none());
            times
        });
        let LinkTimes { one_way, send, receive, byte } = times.expect("rank 0 measures");
        assert!(one_way > 0.0 && send > 0.0 && receive > 0.0 && byte >= 0.0, "{times:?}");
    }
}
