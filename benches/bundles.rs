//! Task lists: reading one into a bundle, opening that, and making each task's command.

mod common;

use common::Random;
use criterion::{BatchSize, Criterion, Throughput};
use myriarch::task::{Bundle, Input, Source, TemplateOptions, write_bundle};
use std::fs;
use std::hint::black_box;
use std::path::Path;

const TASKS: u64 = 50_000;

fn main() {
    common::measure(&[plain_lines, json_lines]);
}

fn plain_lines(criterion: &mut Criterion) {
    let mut random = Random::new(3);
    let line = |task| format!("./simulate --seed {} --steps 1000 > result-{task:06}.txt\n", random.next());
    measure(criterion, "plain lines", &(0..TASKS).map(line).collect::<String>(), Source::Lines);
}

fn json_lines(criterion: &mut Criterion) {
    let mut random = Random::new(4);
    let line = |task| {
        let seed = random.next();
        format!(
            "{{\"argv\": [\"./simulate\", \"--seed\", \"{seed}\"], \"cwd\": \"case-{task}\", \"env\": {{\"STEPS\": \"1000\"}}, \
             \"timeout\": 60}}\n"
        )
    };
    measure(criterion, "JSON lines", &(0..TASKS).map(line).collect::<String>(), Source::Json);
}

fn measure(criterion: &mut Criterion, name: &str, list: &str, source: fn(Input) -> Source) {
    let folder = common::folder_in_memory();
    let (tasks, bundle) = (folder.path().join("tasks"), folder.path().join("bundle"));
    fs::write(&tasks, list).expect("a list can be written");
    let source = source(Input::new(&tasks));
    let written = write(&source, &bundle);
    assert_eq!(written.len(), TASKS);
    let mut group = criterion.benchmark_group(format!("bundles/{name}"));
    // A list takes some tens of milliseconds.
    group.sample_size(20);
    group.throughput(Throughput::ElementsAndBytes { elements: TASKS, bytes: list.len() as u64 });
    group.bench_function("write", |bencher| {
        let again = folder.path().join("again");
        let remove = || {
            let _ = fs::remove_file(&again);
        };
        bencher.iter_batched(remove, |()| write(&source, &again), BatchSize::PerIteration);
    });
    group.bench_function("open", |bencher| bencher.iter(|| Bundle::open(&bundle).expect("it is whole")));
    group.bench_function("command", |bencher| {
        bencher.iter(|| (0..TASKS).for_each(|task| drop(black_box(written.command(task, 0)))));
    });
}

fn write(source: &Source, to: &Path) -> Bundle {
    write_bundle(source, &TemplateOptions::default(), to).expect("the list is sound").bundle
}
