//! What every fabric must do, written once: each scenario is run by all ranks of a group at the same time. Knows the
//! `Fabric` trait only; `fabric_threads.rs` and `fabric_mpi.rs` bring the ranks.

use myriarch::fabric::{Fabric, FabricError, Listen, Received, Woken};
use myriarch::task::Rank;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// A scenario that is not over by then hangs.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// All ranks are one family at this level.
const ALL: u8 = 0;
/// Pairs of neighbours; the last of an odd number is alone.
const PAIR: u8 = 1;
/// Every rank by itself.
const SELF: u8 = 2;
/// Even ranks only, the parent is rank 0.
const EVEN: u8 = 3;

/// One thing that a fabric must do.
pub type Scenario = fn(&mut dyn Fabric);

/// All of them, in an order in which one group of ranks can run them one after the other.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("messages_of_a_pair_keep_their_order", messages_of_a_pair_keep_their_order),
    ("large_messages_arrive_whole_and_in_their_place", large_messages_arrive_whole_and_in_their_place),
    ("floods_in_both_directions_do_not_block_each_other", floods_in_both_directions_do_not_block_each_other),
    ("levels_do_not_mix", levels_do_not_mix),
    ("a_busy_level_does_not_starve_another", a_busy_level_does_not_starve_another),
    ("empty_messages_are_messages", empty_messages_are_messages),
    ("a_wait_ends_with_a_message", a_wait_ends_with_a_message),
    ("a_wait_ends_with_a_descriptor_or_in_time", a_wait_ends_with_a_descriptor_or_in_time),
    (
        "a_wait_that_does_not_listen_leaves_messages_where_they_are",
        a_wait_that_does_not_listen_leaves_messages_where_they_are,
    ),
    ("what_was_taken_up_is_no_longer_unsent", what_was_taken_up_is_no_longer_unsent),
    ("an_abandoned_peer_costs_nothing_and_may_come_back", an_abandoned_peer_costs_nothing_and_may_come_back),
    ("collective_calls_work_between_messages_too", gather_and_broadcast_move_parts_of_any_length),
];

/// Runs before the families are joined, and joins them.
pub fn connect(fabric: &mut dyn Fabric) {
    gather_and_broadcast_move_parts_of_any_length(fabric);
    let me = fabric.rank().0;
    let levels =
        [Some(Rank(0)), Some(Rank(me & !1)), Some(Rank(me)), me.is_multiple_of(2).then_some(Rank(0)), None, None];
    // Ranks may name fewer levels than others, where they are in none of the rest.
    let named = if me == 1 { 3 } else { levels.len() };
    fabric.connect(&levels[..named]).unwrap();
    assert!(matches!(fabric.connect(&levels), Err(FabricError::Misuse(_))), "families are joined once");
}

/// The last scenario: what was sent just before the end still arrives. Returns what `finish` says.
pub fn finish(mut fabric: Box<dyn Fabric>) -> bool {
    const LAST_WORDS: u32 = 200;
    if fabric.rank() == Rank::MANAGER {
        std::thread::sleep(Duration::from_millis(100));
        let expected = LAST_WORDS * (fabric.size() - 1);
        for _ in 0..expected {
            next(fabric.as_mut());
        }
    } else {
        for word in 0..LAST_WORDS {
            fabric.send(ALL, Rank::MANAGER, vec![word as u8; if word % 20 == 0 { 300_000 } else { 8 }]);
        }
    }
    fabric.finish(false)
}

/// The next message, whatever it takes.
fn next(fabric: &mut dyn Fabric) -> Received {
    let start = Instant::now();
    loop {
        if let Some(message) = fabric.receive().unwrap() {
            return message;
        }
        assert!(start.elapsed() < DEADLINE, "rank {} waits for a message in vain", fabric.rank());
        fabric.wait(&mut Vec::new(), Duration::from_secs(1), Listen::Eagerly).unwrap();
    }
}

/// All ranks go on together.
fn together(fabric: &mut dyn Fabric) {
    // Nobody sends anything of the next scenario before all are here.
    assert!(fabric.receive().unwrap().is_none(), "a message came that was not expected");
    let all_here = fabric.gather(Vec::new()).unwrap();
    fabric.broadcast(all_here.map(|_| Vec::new())).unwrap();
}

/// A message that can be checked: who sent it, its number, and a pattern that depends on both and on the place.
fn numbered(from: Rank, number: u32, bytes: usize) -> Vec<u8> {
    const CHUNK: usize = 4096;
    let mut message = [from.0.to_le_bytes(), number.to_le_bytes()].concat();
    message.resize(8 + bytes, from.0.wrapping_mul(31).wrapping_add(number) as u8);
    for (place, chunk) in message[8..].chunks_mut(CHUNK).enumerate() {
        let mark = (place as u32).to_le_bytes();
        let length = chunk.len().min(mark.len());
        chunk[..length].copy_from_slice(&mark[..length]);
    }
    message
}

fn number_of(from: Rank, message: &[u8]) -> u32 {
    let number = u32::from_le_bytes(message[4..8].try_into().unwrap());
    assert!(message == numbered(from, number, message.len() - 8), "message {number} of rank {from} was damaged");
    number
}

/// Receives `each` messages from each of `senders` ranks and checks that they come in order.
fn receive_in_order(fabric: &mut dyn Fabric, level: u8, senders: u32, each: u32) {
    let mut expected = HashMap::new();
    for _ in 0..senders * each {
        let (at, from, message) = next(fabric);
        assert_eq!(at, level);
        let due: &mut u32 = expected.entry(from).or_default();
        assert_eq!(number_of(from, &message), *due, "from rank {from}");
        *due += 1;
    }
    assert!(expected.len() as u32 == senders && expected.values().all(|count| *count == each));
}

fn messages_of_a_pair_keep_their_order(fabric: &mut dyn Fabric) {
    const EACH: u32 = 200;
    let (me, size) = (fabric.rank(), fabric.size());
    for number in 0..EACH {
        // Short ones that travel at once between long ones that have to be fetched.
        let bytes = if number % 16 == 3 { 150_000 } else { (number * 7919 % 6000) as usize };
        for peer in 0..size {
            fabric.send(ALL, Rank(peer), numbered(me, number, bytes));
        }
    }
    receive_in_order(fabric, ALL, size, EACH);
    together(fabric);
}

fn large_messages_arrive_whole_and_in_their_place(fabric: &mut dyn Fabric) {
    const LARGE: usize = 100 << 20;
    const EACH: u32 = 12;
    let (me, last) = (fabric.rank(), Rank(fabric.size() - 1));
    // The last rank starts with the large one; what it sends afterwards must not overtake it.
    for number in 0..EACH {
        let bytes = if me == last && number == 0 { LARGE } else { 1 << 20 };
        fabric.send(ALL, Rank::MANAGER, numbered(me, number, bytes));
    }
    if me == Rank::MANAGER {
        let size = fabric.size();
        receive_in_order(fabric, ALL, size, EACH);
    }
    together(fabric);
}

fn floods_in_both_directions_do_not_block_each_other(fabric: &mut dyn Fabric) {
    const EACH: u32 = 2000;
    let (me, size) = (fabric.rank(), fabric.size());
    // Everybody sends everything before anybody receives.
    for number in 0..EACH {
        for peer in 0..size {
            fabric.send(ALL, Rank(peer), numbered(me, number, 24));
        }
    }
    receive_in_order(fabric, ALL, size, EACH);
    together(fabric);
}

fn levels_do_not_mix(fabric: &mut dyn Fabric) {
    const EACH: u32 = 50;
    let (me, size) = (fabric.rank().0, fabric.size());
    let families = |rank: u32| {
        let mut families = vec![(ALL, (0..size).collect::<Vec<_>>()), (SELF, vec![rank])];
        families.push((PAIR, (0..size).filter(|other| other & !1 == rank & !1).collect()));
        if rank.is_multiple_of(2) {
            families.push((EVEN, (0..size).step_by(2).collect()));
        }
        families
    };
    let mut expected = HashMap::new();
    for (level, relatives) in families(me) {
        for relative in relatives {
            expected.insert((level, relative), EACH);
            for number in 0..EACH {
                fabric.send(level, Rank(relative), vec![level, number as u8]);
            }
        }
    }
    while !expected.is_empty() {
        let (level, from, message) = next(fabric);
        let left = expected.get_mut(&(level, from.0)).expect("no such relative at this level, or too many messages");
        assert_eq!(message, [level, (EACH - *left) as u8]);
        *left -= 1;
        if *left == 0 {
            expected.remove(&(level, from.0));
        }
    }
    together(fabric);
}

fn a_busy_level_does_not_starve_another(fabric: &mut dyn Fabric) {
    const FLOOD: u32 = 1000;
    let me = fabric.rank();
    for number in 0..FLOOD {
        fabric.send(ALL, me, numbered(me, number, 8));
    }
    fabric.send(SELF, me, b"me too".to_vec());
    let levels: Vec<_> = (0..=FLOOD).map(|_| next(fabric).0).collect();
    let turn = levels.iter().position(|level| *level == SELF).expect("it was received");
    assert!(turn < 64, "the quiet level came only after {turn} messages of the busy one");
    together(fabric);
}

fn empty_messages_are_messages(fabric: &mut dyn Fabric) {
    let size = fabric.size();
    for peer in 0..size {
        fabric.send(ALL, Rank(peer), Vec::new());
    }
    let mut from: Vec<_> = (0..size)
        .map(|_| {
            let (level, from, message) = next(fabric);
            assert_eq!((level, message.len()), (ALL, 0));
            from.0
        })
        .collect();
    from.sort_unstable();
    assert_eq!(from, (0..size).collect::<Vec<_>>());
    together(fabric);
}

fn gather_and_broadcast_move_parts_of_any_length(fabric: &mut dyn Fabric) {
    let size = fabric.size();
    let bytes = |rank: u32| if rank % 3 == 1 { 0 } else { 700_000 / (rank as usize + 1) };
    for round in 0..3 {
        let me = fabric.rank();
        let gathered = fabric.gather(numbered(me, round, bytes(me.0))).unwrap();
        assert_eq!(gathered.is_some(), me == Rank::MANAGER);
        if let Some(parts) = gathered {
            assert_eq!(parts.len() as u32, size);
            for (rank, part) in (0..).zip(parts) {
                assert!(part == numbered(Rank(rank), round, bytes(rank)), "part of rank {rank}");
            }
        }
        for length in [0, 1, 3_000_000] {
            let told = numbered(Rank::MANAGER, round, length);
            let heard = fabric.broadcast((me == Rank::MANAGER).then(|| told.clone())).unwrap();
            assert!(heard == told, "a broadcast of {length} bytes");
        }
        assert!(fabric.broadcast((me == Rank::MANAGER).then(Vec::new)).unwrap().is_empty());
    }
}

fn a_wait_ends_with_a_message(fabric: &mut dyn Fabric) {
    let (me, size) = (fabric.rank().0, fabric.size());
    // A ring, so that each sleeps until the one before it wakes it.
    let pass_on = |fabric: &mut dyn Fabric| fabric.send(ALL, Rank((me + 1) % size), vec![7]);
    for _ in 0..3 {
        if me == 0 {
            std::thread::sleep(Duration::from_millis(30));
            pass_on(fabric);
        }
        let woken = fabric.wait(&mut Vec::new(), DEADLINE, Listen::Eagerly).unwrap();
        assert_eq!(woken, Woken::Message);
        assert_eq!(fabric.receive().unwrap(), Some((ALL, Rank((me + size - 1) % size), vec![7])));
        if me != 0 {
            pass_on(fabric);
        }
    }
    together(fabric);
}

fn a_wait_ends_with_a_descriptor_or_in_time(fabric: &mut dyn Fabric) {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let mut descriptors = vec![libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: libc::POLLERR }];
    assert_eq!(fabric.wait(&mut descriptors, Duration::from_millis(20), Listen::Eagerly).unwrap(), Woken::TimeUp);
    assert_eq!((descriptors.len(), descriptors[0].revents), (1, 0));
    assert_eq!(fabric.wait(&mut descriptors, Duration::ZERO, Listen::Eagerly).unwrap(), Woken::TimeUp);
    let writing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        writer.write_all(b"x").unwrap();
        writer
    });
    assert_eq!(fabric.wait(&mut descriptors, DEADLINE, Listen::Eagerly).unwrap(), Woken::Descriptor);
    assert_eq!(descriptors[0].revents & libc::POLLIN, libc::POLLIN);
    let _writer = writing.join().unwrap();
    // What is there already ends a wait that has no time, too.
    assert_eq!(fabric.wait(&mut descriptors, Duration::ZERO, Listen::Eagerly).unwrap(), Woken::Descriptor);
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(fabric.wait(&mut descriptors, Duration::ZERO, Listen::Eagerly).unwrap(), Woken::TimeUp);
    together(fabric);
}

fn a_wait_that_does_not_listen_leaves_messages_where_they_are(fabric: &mut dyn Fabric) {
    let (me, size) = (fabric.rank().0, fabric.size());
    fabric.send(ALL, Rank((me + 1) % size), vec![9]);
    // Everybody has sent before anybody listens.
    fabric.gather(Vec::new()).unwrap();
    fabric.broadcast((me == 0).then(Vec::new)).unwrap();
    assert_eq!(fabric.wait(&mut Vec::new(), Duration::from_millis(20), Listen::No).unwrap(), Woken::TimeUp);
    assert_eq!(fabric.wait(&mut Vec::new(), DEADLINE, Listen::Eagerly).unwrap(), Woken::Message);
    assert_eq!(fabric.wait(&mut Vec::new(), Duration::from_millis(1), Listen::No).unwrap(), Woken::TimeUp);
    assert_eq!(fabric.receive().unwrap(), Some((ALL, Rank((me + size - 1) % size), vec![9])));
    together(fabric);
}

fn what_was_taken_up_is_no_longer_unsent(fabric: &mut dyn Fabric) {
    let (me, size) = (fabric.rank(), fabric.size());
    let peer = Rank((me.0 + 1) % size);
    for number in 0..40 {
        fabric.send(ALL, peer, numbered(me, number, 500_000));
    }
    receive_in_order(fabric, ALL, 1, 40);
    let start = Instant::now();
    while fabric.unsent_to(peer) > 0 {
        assert!(start.elapsed() < DEADLINE, "{} bytes stay unsent", fabric.unsent_to(peer));
        assert_eq!(fabric.wait(&mut Vec::new(), Duration::from_millis(1), Listen::Eagerly).unwrap(), Woken::TimeUp);
    }
    together(fabric);
}

fn an_abandoned_peer_costs_nothing_and_may_come_back(fabric: &mut dyn Fabric) {
    const FLOOD: u32 = 60;
    let (me, size) = (fabric.rank(), fabric.size());
    let silent = Rank(size - 1);
    if me == Rank::MANAGER && size > 1 {
        for number in 0..FLOOD {
            fabric.send(ALL, silent, numbered(me, number, 1 << 20));
        }
        fabric.abandon(silent);
        assert_eq!(fabric.unsent_to(silent), 0);
        fabric.send(ALL, silent, numbered(me, FLOOD, 8));
        assert_eq!(next(fabric).2, b"back");
    } else if me == silent && size > 1 {
        std::thread::sleep(Duration::from_millis(150));
        let mut due = 0;
        // What of the flood was on its way already may still come; nothing comes out of order.
        loop {
            let (_, from, message) = next(fabric);
            let number = number_of(from, &message);
            if number == FLOOD {
                break;
            }
            assert_eq!(number, due);
            due += 1;
        }
        fabric.send(ALL, Rank::MANAGER, b"back".to_vec());
    }
    together(fabric);
}
