//! What was measured, as a model with the sources of its figures. Measures nothing.

use super::links::LinkTimes;
use super::sheet::Sheet;
use crate::cli::dir::utc;
use crate::fabric::{EagerPauses, eager_pauses};
use crate::simulate::ModelError;
use std::time::{Duration, SystemTime};

/// What a rank's own work takes. Nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct RankTimes {
    /// One task, there and back.
    pub(super) latency: f64,
    /// Work of rank 0, and of the other rank, for each message that it received then.
    pub(super) manager_message: f64,
    pub(super) worker_message: f64,
    /// Each further run of tasks in a report.
    pub(super) range: f64,
    /// Each function that does nothing.
    pub(super) call: f64,
    /// Between two batches, and how many such gaps there were.
    pub(super) gap: Option<(f64, usize)>,
    /// A slot's time for each process, how many there were, and the rank's own part of each.
    pub(super) process: f64,
    pub(super) processes: u64,
    pub(super) starting: f64,
}

/// What files take. Nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) write: f64,
    pub(super) sync: f64,
    pub(super) create: f64,
    /// Files that so many ranks made in a second.
    pub(super) per_second: f64,
    pub(super) makers: u32,
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) date: String,
    pub(super) mpi: String,
    pub(super) ranks: u32,
    pub(super) nodes: u32,
    /// Between ranks of a node, and of two.
    pub(super) near: Option<LinkTimes>,
    pub(super) far: Option<LinkTimes>,
    pub(super) times: RankTimes,
    pub(super) files: Files,
}

/// The date, as in 2026-11-22.
pub(super) fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    utc(since.as_micros() as u64)[..10].to_owned()
}

/// The text of the model.
///
/// # Errors
/// It would not be read.
pub(super) fn text(found: &Found) -> Result<String, ModelError> {
    let Found { date, mpi, ranks, nodes, .. } = found;
    let mut sheet = Sheet::default();
    let of = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    sheet.comment(&format!(
        "Measured by myriarch bench calibrate on {date}, {mpi}, with {} on {}.",
        of(*ranks, "rank"),
        of(*nodes, "node")
    ));
    sheet.comment("Times are those that a tenth of the samples kept to, where nothing else is said. What an estimate is, is said.");
    links(&mut sheet, found);
    rank(&mut sheet, found);
    idle(&mut sheet);
    files(&mut sheet, found);
    sheet.finish()
}

fn links(sheet: &mut Sheet, found: &Found) {
    let (near, far) = (found.near, found.far);
    let alone = "estimate: as network.local, since all ranks share a node";
    let apart = "estimate: as network.remote, since no two ranks share a node";
    link(sheet, "network.local", found, near.or(far), near.is_none().then_some(apart));
    link(sheet, "network.remote", found, far.or(near), far.is_none().then_some(alone));
    let hops = match far {
        Some(_) => "estimate: one link was measured, with whatever is on its way; what is on others is not known",
        None => "estimate: all ranks share a node",
    };
    sheet.ns("hop_ns", 0.0, hops);
    sheet.real("hops", 0.0, hops);
}

/// A link, with its sources or with one that holds for all of it.
fn link(sheet: &mut Sheet, section: &str, found: &Found, times: Option<LinkTimes>, instead: Option<&str>) {
    let LinkTimes { one_way, send, receive, byte } = times.unwrap_or_default();
    let measured = measured(found);
    let half = format!("{measured}: half a round trip of 8 bytes takes {one_way:.0} ns; the CPU parts are taken off");
    let sent = format!("{measured}: eight messages of 8 bytes sent at once, the sender's time for one");
    let received = format!("{measured}: the same taken up when all had come, the receiver's time for one");
    let bytes = format!("{measured}: half round trips of 64 KiB and of 1 MiB, the difference for one byte");
    sheet.section(section);
    sheet.ns("latency_ns", one_way - send - receive, instead.unwrap_or(&half));
    sheet.ns("send_ns", send, instead.unwrap_or(&sent));
    sheet.ns("receive_ns", receive, instead.unwrap_or(&received));
    sheet.real("byte_ns", byte, instead.unwrap_or(&bytes));
}

fn measured(found: &Found) -> String {
    format!("measured {}, {}", found.date, found.mpi)
}

fn rank(sheet: &mut Sheet, found: &Found) {
    let measured = measured(found);
    let RankTimes { latency, manager_message, worker_message, range, call, gap, process, processes, starting } =
        found.times.clone();
    let handle = (manager_message - range).max(0.0);
    sheet.section("rank");
    sheet.ns(
        "handle_ns",
        handle,
        &format!(
            "{measured}: one task at a time, {latency:.0} ns there and back; rank 0's time outside of MPI for each message \
             received, submitting a task and taking its outcome included, less range_ns (the worker's, the call included: \
             {worker_message:.0} ns)"
        ),
    );
    sheet.ns(
        "range_ns",
        range,
        &format!("{measured}: a manager by itself, reports of 1 and of 257 runs written, read and noted; the difference for one run"),
    );
    sheet.ns("call_ns", call, &format!("{measured}: builtin:noop on one slot, its time for one"));
    let gap_ns = gap.map_or(0.0, |(gap, _)| gap);
    let batch = match gap {
        Some((_, gaps)) => format!(
            "{measured}: builtin:spin of 1 ms on one slot, the median of {gaps} gaps of more than 3 µs between tasks"
        ),
        None => "estimate: there was no second batch in so short a time".to_owned(),
    };
    sheet.ns("batch_ns", gap_ns, &batch);
    let spawn = (starting - handle).max(0.0);
    sheet.ns(
        "spawn_ns",
        spawn,
        &format!(
            "{measured}: {processes} processes on one slot, the rank's own time outside of MPI for one, less handle_ns"
        ),
    );
    sheet.ns(
        "process_ns",
        process - spawn - handle - gap_ns,
        &format!(
            "{measured}: /bin/true on one slot, one every {:.0} µs, less spawn_ns and what the simulator adds between two of \
             them, handle_ns and batch_ns. The run of /bin/true, which is hardly more than being loaded, counts as overhead",
            process / 1e3
        ),
    );
}

fn idle(sheet: &mut Sheet) {
    let EagerPauses { awake, part, shortest, longest } = eager_pauses();
    let ns = |time: Duration| time.as_nanos() as f64;
    let source = |what: &str| format!("src/fabric/idle.rs: {what}");
    sheet.section("idle");
    sheet.ns("spin_ns", ns(awake), &source("spins, then yields, for so long"));
    sheet.real("part", part, &source("PART_OF_WAIT"));
    sheet.ns("least_ns", ns(shortest), &source("FIRST_PAUSE"));
    sheet.ns("most_ns", ns(longest), &source("LONGEST_PAUSE"));
}

fn files(sheet: &mut Sheet, found: &Found) {
    let measured = format!("measured {}", found.date);
    let Files { write, sync, create, per_second, makers } = found.files;
    let makers = if makers == 1 { "rank 0 alone".to_owned() } else { format!("{makers} ranks side by side") };
    sheet.section("files");
    sheet.ns("write_ns", write, &format!("{measured}: 4 KiB appended to a file"));
    sheet.ns("create_ns", create, &format!("{measured}: an empty file made in a folder by {makers}"));
    sheet.ns("sync_ns", sync, &format!("{measured}: fdatasync after 4 KiB were appended"));
    sheet.real(
        "operations_per_second",
        per_second,
        &format!("{measured}: so many are made in such a time by {makers}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Model;

    fn found() -> Found {
        let near = LinkTimes { one_way: 400.0, send: 60.4, receive: 120.0, byte: 0.071_24 };
        let times = RankTimes {
            latency: 4_300.0,
            manager_message: 2_400.0,
            worker_message: 3_000.0,
            range: 100.0,
            call: 40.0,
            gap: Some((27_000.0, 19)),
            process: 608_000.0,
            processes: 1_234,
            starting: 35_300.0,
        };
        let files = Files { write: 5_000.0, sync: 100_000.0, create: 20_000.0, per_second: 98_765.4, makers: 2 };
        let (date, mpi) = ("2026-11-22".to_owned(), "Open MPI v4.1.4".to_owned());
        Found { date, mpi, ranks: 2, nodes: 1, near: Some(near), far: None, times, files }
    }

    fn model(found: &Found) -> Model {
        Model::parse("m.toml", &text(found).expect("it is whole")).expect("it is read")
    }

    #[test]
    fn a_model_has_the_numbers_that_were_measured() {
        let numbers = model(&found()).numbers();
        assert_eq!((numbers.network.local.latency_ns, numbers.network.local.send_ns), (220, 60));
        assert_eq!((numbers.network.local.receive_ns, numbers.network.local.byte_ns), (120, 0.0712));
        assert_eq!(numbers.network.remote, numbers.network.local);
        let rank = numbers.rank;
        assert_eq!((rank.handle_ns, rank.range_ns, rank.call_ns, rank.batch_ns), (2_300, 100, 40, 27_000));
        // 608 µs are 33 of the rank's, 27 and 2.3 between two, and the rest.
        assert_eq!((rank.spawn_ns, rank.process_ns), (33_000, 545_700));
        assert_eq!(numbers.idle, Model::named("local").expect("a model").numbers().idle);
        assert_eq!((numbers.files.create_ns, numbers.files.operations_per_second), (20_000, 98_800.0));
    }

    #[test]
    fn what_was_not_measured_says_so() {
        let source = |model: &Model, wanted: &str| {
            model.figures().find(|(key, _)| *key == wanted).map(|(_, figure)| figure.source.clone()).expect(wanted)
        };
        let one_node = model(&found());
        assert!(source(&one_node, "network.local.latency_ns").starts_with("measured 2026-11-22, Open MPI v4.1.4: "));
        assert!(source(&one_node, "network.remote.latency_ns").starts_with("estimate: as network.local"));
        let apart = model(&Found { near: None, far: found().near, nodes: 2, ..found() });
        assert!(source(&apart, "network.local.byte_ns").starts_with("estimate: as network.remote"));
        assert!(source(&apart, "network.remote.byte_ns").starts_with("measured "));
        let short = model(&Found { times: RankTimes { gap: None, ..found().times }, ..found() });
        assert!(source(&short, "rank.batch_ns").starts_with("estimate: "));
    }

    #[test]
    fn what_is_taken_off_leaves_nothing_below_zero() {
        let slow_clock = LinkTimes { one_way: 100.0, send: 80.0, receive: 90.0, byte: 0.0 };
        let times = RankTimes { process: 1_000.0, starting: 10.0, ..found().times };
        let numbers = model(&Found { near: Some(slow_clock), times, ..found() }).numbers();
        assert_eq!((numbers.network.local.latency_ns, numbers.rank.spawn_ns, numbers.rank.process_ns), (0, 0, 0));
    }
}
