//! The conformance suite on ranks that are threads of this process.

use crate::fabric_support::{DEADLINE, SCENARIOS, Scenario, connect, finish};
use myriarch::fabric::{Fabric, FabricError, Listen, ThreadFabric};
use myriarch::task::Rank;
use std::sync::mpsc;
use std::time::Duration;

/// Runs on every rank of groups of several sizes; a hang or a panic of any rank fails.
fn on_each_rank(sizes: &[u32], body: impl Fn(ThreadFabric) + Clone + Send + 'static) {
    for size in sizes {
        let (done, ended) = mpsc::channel();
        for fabric in ThreadFabric::group(*size).unwrap() {
            let (body, done) = (body.clone(), done.clone());
            std::thread::spawn(move || {
                let rank = fabric.rank();
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(fabric)));
                let _ = done.send((rank, ended.is_ok()));
            });
        }
        for _ in 0..*size {
            let (rank, well) = ended.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("a rank of {size} hangs"));
            assert!(well, "rank {rank} of {size} panicked");
        }
    }
}

fn conforms(name: &str) {
    let scenario: Scenario = SCENARIOS.iter().find(|(known, _)| *known == name).expect("a scenario").1;
    on_each_rank(&[1, 2, 3, 5, 8], move |mut fabric| {
        connect(&mut fabric);
        scenario(&mut fabric);
        assert!(finish(Box::new(fabric)));
    });
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { conforms(stringify!($name)); })*

        #[test]
        fn no_scenario_is_left_out() {
            assert_eq!(SCENARIOS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

scenarios!(
    messages_of_a_pair_keep_their_order,
    large_messages_arrive_whole_and_in_their_place,
    floods_in_both_directions_do_not_block_each_other,
    levels_do_not_mix,
    a_busy_level_does_not_starve_another,
    empty_messages_are_messages,
    a_wait_ends_with_a_message,
    a_wait_ends_with_a_descriptor_or_in_time,
    a_wait_that_does_not_listen_leaves_messages_where_they_are,
    what_was_taken_up_is_no_longer_unsent,
    an_abandoned_peer_costs_nothing_and_may_come_back,
    collective_calls_work_between_messages_too,
);

#[test]
fn a_rank_that_ends_during_the_start_is_an_error_for_the_others_not_a_hang() {
    on_each_rank(&[3], |mut fabric| {
        if fabric.rank() == Rank(2) {
            return;
        }
        assert!(matches!(fabric.connect(&[Some(Rank(0))]), Err(FabricError::Gone(Rank(2)))));
    });
}

#[test]
fn a_wait_that_nobody_ends_takes_its_time_and_leaves_no_stale_wake_up() {
    on_each_rank(&[2], |mut fabric| {
        fabric.connect(&[Some(Rank(0))]).unwrap();
        let peer = Rank(1 - fabric.rank().0);
        for round in 0..2000u32 {
            // Waits that end just when a message comes: each wake-up byte must be read exactly once.
            fabric.send(0, peer, round.to_le_bytes().to_vec());
            loop {
                if let Some((_, _, message)) = fabric.receive().unwrap() {
                    assert_eq!(message, round.to_le_bytes());
                    break;
                }
                fabric.wait(&mut Vec::new(), Duration::from_micros(u64::from(round % 70)), Listen::Eagerly).unwrap();
            }
        }
        fabric.gather(Vec::new()).unwrap();
        fabric.broadcast(Some(Vec::new())).unwrap();
        assert!(fabric.receive().unwrap().is_none());
    });
}
