//! What each kind of list makes of its text.

use super::*;
use std::time::Duration;

#[test]
fn a_plain_list_skips_blanks_and_comments_and_keeps_line_numbers() {
    let text = b"\n# first\necho a  {}\n\t \n  # indented\n  echo 'b # c'\necho last";
    let (written, _) = with_file("tasks.txt", text, Source::Lines);
    let bundle = written.unwrap().bundle;
    assert_eq!(bundle.len(), 3);
    assert_eq!(shell(&bundle, 0), "echo a  {}", "lines are never substituted");
    assert_eq!(shell(&bundle, 1), "  echo 'b # c'");
    assert_eq!(shell(&bundle, 2), "echo last");
    assert_eq!([0, 1, 2].map(|index| bundle.line(index)), [Some(3), Some(6), Some(7)]);
    assert_eq!(bundle.command(2, 0).entry.as_deref(), Some(&b"echo last"[..]));
    assert!(bundle.source().ends_with("tasks.txt"));
}

#[test]
fn windows_line_ends_are_dropped_with_one_warning() {
    let (written, _) = with_file("tasks.txt", b"\xEF\xBB\xBFecho a\r\necho b\r\n\r\necho c\r", Source::Lines);
    let Written { bundle, warnings } = written.unwrap();
    assert_eq!([0, 1, 2].map(|index| shell(&bundle, index)), ["echo a", "echo b", "echo c\r"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("line 1") && warning.contains("CR")));
    assert!(warnings.iter().any(|warning| warning.contains("byte order mark")));
}

#[test]
fn each_line_takes_every_line_and_zero_separated_entries_keep_newlines() {
    let each = |nul_separated| {
        move |input| Source::EachLine {
            input,
            nul_separated,
            command: words(&["p", "{}", "{.}", "{/}", "{//}", "{/.}"]),
        }
    };
    let bundle = with_file("names", b"a/b.c\n\n# x\n", each(false)).0.unwrap().bundle;
    assert_eq!(bundle.len(), 3);
    assert_eq!(argv(&bundle, 0), ["p", "a/b.c", "a/b", "b.c", "a", "b"]);
    assert_eq!(argv(&bundle, 1), ["p", "", "", "", ".", ""]);
    assert_eq!(argv(&bundle, 2)[1], "# x");
    assert_eq!(bundle.line(2), Some(3));
    let bundle = with_file("names", b"a\nb\r\0\0c", each(true)).0.unwrap().bundle;
    assert_eq!([0, 1, 2].map(|index| argv(&bundle, index)[1].clone()), ["a\nb\r", "", "c"]);
    assert_eq!(bundle.line(1), None);
}

#[test]
fn an_array_is_called_by_its_own_numbers() {
    let source =
        Source::Array { first: 5, last: 20, step: 5, command: words(&["p", "{}", "{:05}", "{%}", "{x}", "{"]) };
    let bundle = write(&source, &TemplateOptions::default()).unwrap().bundle;
    assert_eq!((bundle.len(), bundle.label(0), bundle.label(3)), (4, 5, 20));
    assert_eq!((bundle.position_of_label(15), bundle.position_of_label(16)), (Some(2), None));
    assert_eq!((bundle.position_of_label(25), bundle.position_of_label(0)), (None, None));
    let command = bundle.command(1, 7);
    assert_eq!(command.program, Program::Argv(words(&["p", "10", "00010", "7", "{x}", "{"])));
    assert_eq!((command.label, command.entry, bundle.line(1)), (10, None, None));
}

#[test]
fn an_endless_array_stays_symbolic() {
    let bundle = write(&array(0, MAX_TASKS - 1, &["p", "{}"]), &TemplateOptions::default()).unwrap().bundle;
    assert_eq!(argv(&bundle, MAX_TASKS - 1)[1], (MAX_TASKS - 1).to_string());
    assert_eq!(bundle.shape_runs(IndexRange::new(0, MAX_TASKS)).count(), 1);
    assert!(bundle.extract(IndexRange::new(7, 9)).len() < 1000);
}

#[test]
fn the_last_grid_runs_fastest_and_decimal_steps_are_exact() {
    let axes = words(&["a=x,y z", "b=0:1:0.25", "c=3:1:-2"]);
    let source = Source::Grid { axes, command: words(&["p", "{a}", "{b}", "{c:03}", "{}", "{d}"]) };
    let bundle = write(&source, &TemplateOptions::default()).unwrap().bundle;
    assert_eq!(bundle.len(), 2 * 5 * 2);
    assert_eq!(argv(&bundle, 0), ["p", "x", "0.00", "003", "0", "{d}"]);
    assert_eq!(argv(&bundle, 1), ["p", "x", "0.00", "001", "1", "{d}"]);
    assert_eq!(argv(&bundle, 2), ["p", "x", "0.25", "003", "2", "{d}"]);
    assert_eq!(argv(&bundle, 19), ["p", "y z", "1.00", "001", "19", "{d}"]);
}

#[test]
fn a_grid_of_hosts_with_ports_is_a_list() {
    let source = Source::Grid { axes: words(&["h=a:1,b:2", "i=-1:1"]), command: words(&["p", "{h}", "{i}"]) };
    let bundle = write(&source, &TemplateOptions::default()).unwrap().bundle;
    assert_eq!((argv(&bundle, 0), argv(&bundle, 5)), (words_of("p a:1 -1"), words_of("p b:2 1")));
}

fn words_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_table_gives_columns_by_name_and_counts_lines_over_quoted_newlines() {
    let text = b"name, size,sample id\r\nx,1,\"a, \"\"b\"\"\nc\"\r\n\r\n\"\",2,s\n";
    let table =
        |input| Source::Table { input, command: words(&["p", "{name}", "{size:03}", "{sample id}", "{}", "{nam}"]) };
    let Written { bundle, warnings } = with_file("t.csv", text, table).0.unwrap();
    assert_eq!(bundle.len(), 2);
    assert_eq!(argv(&bundle, 0), ["p", "x", "001", "a, \"b\"\nc", "0", "{nam}"]);
    assert_eq!(argv(&bundle, 1), ["p", "", "002", "s", "1", "{nam}"]);
    assert_eq!((bundle.line(0), bundle.line(1)), (Some(2), Some(5)));
    assert_eq!(bundle.command(1, 0).entry.as_deref(), Some(&b"\"\",2,s"[..]));
    assert!(warnings.len() == 1 && warnings[0].contains("did you mean \"name\"?"), "{warnings:?}");
}

#[test]
fn a_json_line_wins_over_the_options() {
    let text = br#"{"argv":["p","{}"],"env":{"A":"1"},"cwd":"d","timeout":"1m","cores":4,"retries":2,"index":9,"status":"exit:3"}
{"shell":"echo $A","timeout":0.5}
"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.jsonl");
    std::fs::write(&path, text).unwrap();
    let defaults = TemplateOptions {
        env: vec![(b"A".to_vec(), b"0".to_vec()), (b"B".to_vec(), b"b{:03}".to_vec())],
        cwd: Some(b"run-{}".to_vec()),
        timeout: Some(Duration::from_secs(9)),
        gpus: Some(1),
        ..TemplateOptions::default()
    };
    let bundle = write(&Source::Json(Input::new(&path)), &defaults).unwrap().bundle;
    let first = bundle.command(0, 0);
    assert_eq!(first.program, Program::Argv(words(&["p", "{}"])));
    let env = [("A", "1"), ("B", "b000"), ("OMP_NUM_THREADS", "4")];
    assert_eq!(first.env, env.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    assert_eq!((first.cwd.as_deref(), first.timeout), (Some(&b"d"[..]), Some(Duration::from_secs(60))));
    assert_eq!(bundle.shape(0), Shape { resources: Resources { cores: 4, gpus: 1 }, retries: 2, calls: false });
    let second = bundle.command(1, 0);
    assert_eq!((second.cwd.as_deref(), second.timeout), (Some(&b"run-1"[..]), Some(Duration::from_millis(500))));
    assert_eq!(bundle.shape(1), Shape { resources: Resources { cores: 1, gpus: 1 }, retries: 0, calls: false });
    assert_eq!(bundle.max_resources(), Resources { cores: 4, gpus: 1 });
    let runs: Vec<_> = bundle.shape_runs(IndexRange::new(0, 2)).map(|(range, _)| range).collect();
    assert_eq!(runs, [IndexRange::one(0), IndexRange::one(1)]);
}

#[test]
fn placeholders_work_in_every_option() {
    let defaults = TemplateOptions {
        cwd: Some(b"d{:02}".to_vec()),
        stdin: Some(b"in-@.txt".to_vec()),
        env: vec![(b"X".to_vec(), b"@,{}".to_vec())],
        replace: Some(b"@".to_vec()),
        cores: Some(2),
        ..TemplateOptions::default()
    };
    let bundle = write(&array(3, 4, &["p", "@", "{}"]), &defaults).unwrap().bundle;
    let command = bundle.command(1, 0);
    assert_eq!(command.program, Program::Argv(words(&["p", "4", "{}"])));
    assert_eq!((command.cwd.as_deref(), command.stdin.as_deref()), (Some(&b"d04"[..]), Some(&b"in-4.txt"[..])));
    assert_eq!(command.env[0].1, b"4,{}");
    assert_eq!(command.env[1], (b"OMP_NUM_THREADS".to_vec(), b"2".to_vec()));
    assert_eq!(command.to_text(), "cd d04 && X='4,{}' OMP_NUM_THREADS=2 p 4 '{}' < in-4.txt");
}

#[test]
fn a_list_longer_than_a_chunk_is_cut_nowhere_but_at_line_ends() {
    // 20 MB, so more than one chunk and many pieces, with comments in between.
    let mut text = String::new();
    let mut lines = Vec::new();
    let mut line = 0;
    while text.len() < 20 << 20 {
        line += 1;
        if line % 1000 == 0 {
            text.push_str("# none\n");
            continue;
        }
        lines.push(line);
        text.push_str(&format!("echo {line} {}\n", "x".repeat(line % 977)));
    }
    let bundle = with_file("big.txt", text.as_bytes(), Source::Lines).0.unwrap().bundle;
    assert_eq!(bundle.len() as usize, lines.len());
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(bundle.line(index as u64), Some(*line as u64));
        assert_eq!(shell(&bundle, index as u64), format!("echo {line} {}", "x".repeat(line % 977)));
    }
}
#[test]
fn a_table_longer_than_a_chunk_keeps_its_rows_whole() {
    let mut text = String::from("a,b\n");
    let mut rows = 0u64;
    while text.len() < 18 << 20 {
        text.push_str(&format!("{rows},\"{}\nend\"\n", "y".repeat(rows as usize % 811)));
        rows += 1;
    }
    let table = |input| Source::Table { input, command: words(&["{a}", "{b}"]) };
    let bundle = with_file("big.csv", text.as_bytes(), table).0.unwrap().bundle;
    assert_eq!(bundle.len(), rows);
    for index in (0..rows).step_by(997).chain([rows - 1]) {
        assert_eq!(argv(&bundle, index), [index.to_string(), format!("{}\nend", "y".repeat(index as usize % 811))]);
        assert_eq!(bundle.line(index), Some(2 + 2 * index));
    }
}

#[test]
fn an_empty_list_is_a_bundle_of_no_tasks_with_a_warning() {
    for text in [&b""[..], b"# nothing\n\n"] {
        let Written { bundle, warnings } = with_file("tasks.txt", text, Source::Lines).0.unwrap();
        assert!(bundle.is_empty() && warnings.iter().any(|warning| warning.contains("holds no task")));
        assert_eq!(bundle.shape_runs(IndexRange::new(0, 0)).count(), 0);
    }
}

#[test]
fn a_function_is_given_its_line_its_row_its_grid_values_or_the_argument_of_all() {
    let call = |argument: &[u8]| Call { function: "builtin:noop".to_owned(), argument: argument.to_vec() };
    let options = TemplateOptions { call: Some(call(b"for all")), ..TemplateOptions::default() };
    let bundle_of = |source: &Source| write(source, &options).unwrap().bundle;
    let folder = tempfile::tempdir().unwrap();
    let input = |name: &str| {
        std::fs::write(folder.path().join(name), "a,b\n1,\"x, y\"\n").unwrap();
        Input::new(&folder.path().join(name))
    };
    let mut row = Vec::new();
    let table = bundle_of(&Source::Table { input: input("t.csv"), command: Vec::new() });
    assert_eq!(table.call_payload(0, &mut row), b"1,\"x, y\"");
    let lines = bundle_of(&Source::EachLine { input: input("lines"), nul_separated: false, command: Vec::new() });
    assert_eq!((lines.call_payload(0, &mut row), lines.call_payload(2, &mut Vec::new())), (&b"a,b"[..], &b""[..]));
    assert_eq!(bundle_of(&array(5, 9, &[])).call_payload(3, &mut row), b"for all");
    assert_eq!(row.capacity(), 0, "nothing is made of what is there");

    let axes = ["a=x,,z", "b=-1:1:0.25", "c=9223372036854775806:9223372036854775807", "d=3:1:-1"];
    let grid = |command: &[&str]| Source::Grid { axes: words(&axes), command: words(command) };
    let (called, started) =
        (bundle_of(&grid(&[])), write(&grid(&["{a}", "{b}", "{c}", "{d}"]), &TemplateOptions::default()));
    let started = started.unwrap().bundle;
    assert_eq!((called.len(), started.len()), (162, 162));
    for index in 0..162 {
        assert_eq!(called.call_payload(index, &mut row), argv(&started, index).join(",").as_bytes());
        let wanted = Program::Call { function: "builtin:noop".to_owned(), payload: row.clone() };
        assert_eq!(called.command(index, 0).program, wanted);
    }
}
