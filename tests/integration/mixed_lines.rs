//! Many lines of all kinds give what `sh -c` gives one by one: the same output, the same errors, the same status,
//! however many ranks run them.
//!
//! `MYRIARCH_TEST_LINES` lines on every launch (200), `MYRIARCH_TEST_LINES_LONG` on two of them (1,000);
//! `MYRIARCH_TEST_SEED` chooses others.

use crate::common::json::stream;
use crate::common::{Launch, MARK, Random, World, outputs, setting, summary};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

const WORDS: &[&str] =
    &["alpha", "b c", "Zürich", "漢字", "🦀", "$HOME", "a*b", "x\\y", "-n", "#7", "~", "{}", "{%}", "%s"];
const SIGNALS: &[&str] = &["TERM", "KILL", "HUP", "INT", "USR1", "USR2", "PIPE", "ALRM", "QUIT"];
/// Lines whose sense does not depend on their number. What some shell or another says of them, the shell here says.
const FIXED: &[&str] = &[
    "true",
    "false",
    ":",
    "exit",
    "cat",
    "wc -c",
    "read x; echo \"[$x] $?\"",
    "cd / && pwd",
    "type cd",
    "umask",
    "echo $0 $#",
    "set -- a b; echo $# $2",
    "echo /etc/pass*",
    "echo ~root",
    "echo no\\ split 'and'\" one\"",
    "   echo indented   text   ",
    "echo before # after",
    "echo '# not after'",
    "echo {} {.} {/} {%} {:05} {name}",
    "! true",
    "! false",
    "A=5 sh -c 'echo $A'",
    "A=5; echo $A",
    "{ echo grouped; echo too >&2; }",
    "(cd /; pwd; exit 3)",
    "if test 1 = 1; then echo yes; else echo no; fi",
    "case abc in a*) echo starts;; *) echo other;; esac",
    "for i in 1 2 3; do echo $i; done | paste -s -d,",
    "echo `echo back` $(echo $(echo nested))",
    "echo 'unterminated",
    "if",
    ")",
    "/etc/passwd",
    "/etc",
    "yes | head -n 2",
    "exec echo replaced",
    "exec 2>&1; ls /no/such",
    "trap 'echo trapped' EXIT; echo first",
    "trap 'echo caught; exit 4' TERM; kill -TERM $$; echo never",
    "sh -c 'kill -KILL $$'; echo $?",
    "printf '\\377\\376\\000\\001'",
    "printf '\\303' >&2",
    "printf no-newline",
    "printf '\\n\\n\\n'",
    "printf 'a\\r\\nb\\r\\n'",
    "sleep 300 &",
    "sleep 300 & echo started",
    "(sleep 300; echo late) & (sleep 300; echo later) & echo now; exit 5",
    "sleep 300 | sleep 300 & exec echo gone",
    "exit 255",
    "exit 256",
    "exec /no/such/program",
    "unset PATH; nothing-there",
    "seq 1 5000",
    "seq 1 3000 >&2; exit 9",
    "head -c 300000 /dev/zero | tr '\\0' y",
];

/// One line of the list.
fn line(random: &mut Random, number: u64) -> String {
    let word = *random.one_of(WORDS);
    match random.below(14) {
        0 => format!("echo plain words {number}"),
        1 => format!("printf '%s|' '{word}' \"{number}\" a\\ b"),
        2 => format!("seq {} | sort -rn | head -n 4", number % 40),
        3 => format!(
            "echo '{word}' > file-{number}; cat < file-{number} >> file-{number}.2; wc -c file-{number} file-{number}.2"
        ),
        4 => format!("echo out {number}; echo 'error {word}' >&2; exit {}", number % 3),
        5 => format!("exit {}", 1 + random.below(255)),
        6 => format!("kill -s {} $$", random.one_of(SIGNALS)),
        7 => format!("no-such-program-{number} '{word}'"),
        8 => format!("echo $(({number} * 7 % 13))"),
        9 => format!("x='{word}'; echo \"<$x>\" '<$x>' <<<{number}"),
        _ => (*random.one_of(FIXED)).to_owned(),
    }
}

/// All kinds of lines, each fixed one at least once where there is room, and one with 5 MB of output.
fn lines(count: u64, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut lines: Vec<_> = (0..count).map(|number| line(&mut random, number)).collect();
    for fixed in FIXED.iter().take(lines.len() / 2) {
        let at = random.below(count) as usize;
        lines[at] = (*fixed).to_owned();
    }
    let large = random.below(count) as usize;
    lines[large] = "head -c 5000000 /dev/zero | tr '\\0' x; echo the end".to_owned();
    lines
}

/// How a line ended: status, standard output, standard error.
type End = (String, Vec<u8>, Vec<u8>);

/// What `sh -c` makes of a line, in a folder of its own.
fn reference(world: &World, line: &str, folder: &Path) -> End {
    let file = |name: &str| world.path("launches").join(name);
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).stdin(Stdio::null()).process_group(0);
    command.env_remove(MARK).stdout(File::create(file("out")).unwrap()).stderr(File::create(file("err")).unwrap());
    let mut shell = command.spawn().unwrap();
    let ended = shell.wait().unwrap();
    // What it left in the background holds the files, and nobody waits for that.
    let group = format!("-{}", shell.id());
    let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
    let status = match (ended.code(), ended.signal()) {
        (Some(0), _) => "ok".to_owned(),
        (Some(code), _) => format!("exit:{code}"),
        (None, signal) => format!("signal:{}", signal.unwrap()),
    };
    (status, fs::read(file("out")).unwrap(), fs::read(file("err")).unwrap())
}

/// A list with comments and blank lines between, and the line number of each task.
fn list_of(lines: &[String]) -> (String, Vec<u64>) {
    let (mut text, mut numbers, mut next) = (String::from("# a list of tasks\n\n"), Vec::new(), 3);
    for (number, line) in lines.iter().enumerate() {
        if number % 10 == 9 {
            text += "\n# and more\n";
            next += 2;
        }
        text += line;
        text.push('\n');
        numbers.push(next);
        next += 1;
    }
    (text, numbers)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// Runs the lines on a launch and compares each with its reference.
fn compare(world: &World, launch: Launch, dir: &str, lines: &[String], numbers: &[u64], references: &[End]) {
    let failed = references.iter().filter(|end| end.0 != "ok").count();
    let ended = world.run(launch, &["run", "tasks.txt", "--out", dir, "-j", "4"]).with(1);
    assert_eq!(ended.stdout, b"", "{}: standard output carries only what was asked for", launch.name);
    let summary = summary(world, dir);
    assert_eq!((&summary["failed"], &summary["exit_status"]), (&failed.into(), &1.into()), "{}", launch.name);
    world.alone(&["status", dir]).with(1);
    let rows = outputs(world, dir);
    assert_eq!(rows.len(), lines.len());
    let mut differ = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!((&row["index"], &row["line"]), (&index.into(), &numbers[index].into()));
        let end = (row["status"].as_str().unwrap().to_owned(), stream(row, "stdout"), stream(row, "stderr"));
        if end != references[index] {
            let (expected, line) = (&references[index], &lines[index]);
            let text = |end: &End| format!("{} / {} / {}", end.0, shown(&end.1), shown(&end.2));
            differ.push(format!("{line}\n   sh: {}\n   is: {}", text(expected), text(&end)));
        }
    }
    assert!(differ.is_empty(), "{}: {} lines differ\n{}", launch.name, differ.len(), differ.join("\n"));
}

fn mixed_lines_on(launches: &[Launch], count: u64) {
    let seed = setting("MYRIARCH_TEST_SEED", 20_000);
    println!("MYRIARCH_TEST_SEED={seed}");
    let lines = lines(count, seed);
    let (list, numbers) = list_of(&lines);
    let world = World::new();
    fs::create_dir_all(world.path("launches")).unwrap();
    fs::create_dir(world.path("reference")).unwrap();
    let folder = world.path("reference");
    let references: Vec<_> = lines.iter().map(|line| reference(&world, line, &folder)).collect();
    world.write("tasks.txt", list);
    for (number, launch) in launches.iter().enumerate() {
        compare(&world, *launch, &format!("run-{number}"), &lines, &numbers, &references);
        // Lines that write files find none, as the reference did.
        for name in world.listing().iter().filter(|name| name.starts_with("file-")) {
            fs::remove_file(world.path(name)).unwrap();
        }
    }
}

#[test]
fn mixed_lines_give_what_sh_gives_on_every_launch() {
    mixed_lines_on(&Launch::all(), setting("MYRIARCH_TEST_LINES", 200));
}

#[test]
fn a_thousand_mixed_lines_give_what_sh_gives() {
    let launches = Launch::possible(&[Launch::DEEP_THREADS, Launch::MPI_8_NODES]);
    mixed_lines_on(&launches, setting("MYRIARCH_TEST_LINES_LONG", 1000));
}
