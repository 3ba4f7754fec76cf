//! Every kind of bad input names file, line and cause.

use super::*;

fn json_message(text: &str) -> String {
    with_file("t.jsonl", text.as_bytes(), Source::Json).1
}

#[test]
fn a_wrong_json_line_is_named_with_its_cause() {
    for (line, message) in [
        (r#"{"argv":["a"],"timout":3}"#, "t.jsonl:2: unknown key \"timout\" (did you mean \"timeout\"?)"),
        (r#"{"cmd":"a"}"#, "t.jsonl:2: unknown key \"cmd\" (did you mean \"argv\"?)"),
        (r#"{"zzz":"a"}"#, "t.jsonl:2: unknown key \"zzz\""),
        (r#"{"argv":[]}"#, "t.jsonl:2: \"argv\": the command is empty"),
        (r#"{"argv":[""]}"#, "t.jsonl:2: \"argv\": the command is empty"),
        (r#"{"shell":" "}"#, "t.jsonl:2: \"shell\": the command is empty"),
        (r#"{}"#, "t.jsonl:2: it has none of argv, shell and call, so there is nothing to run"),
        (r#"{"argv":"a b"}"#, "t.jsonl:2: \"argv\": it is a list of words; for a shell line write \"shell\""),
        (r#"{"argv":["a"],"shell":"b"}"#, "t.jsonl:2: it has both argv and shell; a task runs one of them"),
        (r#"{"shell":"a","call":"builtin:noop"}"#, "t.jsonl:2: it has both shell and call; a task runs one of them"),
        (r#"{"argv":[],"call":"builtin:noop"}"#, "t.jsonl:2: it has both argv and call; a task runs one of them"),
        (r#"{"function":"builtin:noop"}"#, "t.jsonl:2: unknown key \"function\" (did you mean \"call\"?)"),
        (r#"{"call":"noop"}"#, "t.jsonl:2: \"call\": write builtin:NAME, or PATH.so:SYMBOL"),
        (r#"{"call":"a.so:"}"#, "t.jsonl:2: \"call\": write builtin:NAME, or PATH.so:SYMBOL"),
        (r#"{"call":"a\u0000.so:f"}"#, "t.jsonl:2: \"call\": write builtin:NAME, or PATH.so:SYMBOL"),
        (r#"{"shell":"a","payload":"b"}"#, "t.jsonl:2: \"payload\": it goes with \"call\", which is missing"),
        (r#"{"payload":"b"}"#, "t.jsonl:2: \"payload\": it goes with \"call\", which is missing"),
        (
            r#"{"call":"a:b","payload":"c","payload_base64":"YQ=="}"#,
            "t.jsonl:2: \"payload_base64\": given twice, as text and as base64",
        ),
        (r#"{"call":"a:b","payload_base64":"?"}"#, "t.jsonl:2: \"payload_base64\": not base64"),
        (r#"{"call":"a:b","env":{"A":"1"}}"#, "t.jsonl:2: \"env\": it is for processes, and \"call\" starts none"),
        (r#"{"call":"a:b","cwd":"d"}"#, "t.jsonl:2: \"cwd\": it is for processes, and \"call\" starts none"),
        (r#"{"call":"a:b","stdin":"f"}"#, "t.jsonl:2: \"stdin\": it is for processes, and \"call\" starts none"),
        (r#"{"call":"a:b","timeout":3}"#, "t.jsonl:2: \"timeout\": it is for processes, and \"call\" starts none"),
        (r#"{"call":"a:b","gpus":0}"#, "t.jsonl:2: \"gpus\": it is for processes, and \"call\" starts none"),
        (r#"{"argv":["a"],"argv":["b"]}"#, "t.jsonl:2: the key \"argv\" stands twice"),
        (r#"{"shell":"a","cores":0}"#, "t.jsonl:2: \"cores\": a task takes at least one"),
        (r#"{"shell":"a","timeout":0}"#, "t.jsonl:2: \"timeout\": a time limit must be longer than zero"),
        (r#"{"shell":"a","timeout":-1}"#, "t.jsonl:2: \"timeout\": a time limit must be longer than zero"),
        (r#"{"shell":"a\u0000"}"#, "t.jsonl:2: \"shell\": it holds a NUL byte, which no program can be given"),
        (r#"{"shell":"a","env":{"A=B":"c"}}"#, "t.jsonl:2: \"env\": \"A=B\" is no name for a variable"),
        (r#"{"shell_base64":"?"}"#, "t.jsonl:2: \"shell_base64\": not base64"),
    ] {
        assert_eq!(json_message(&format!("{{\"shell\":\"ok\"}}\n{line}\n{{\"bad\n")), message);
    }
    for (line, part) in [
        (r#"{"shell":"a""#, "t.jsonl:1: not valid JSON: EOF while parsing an object (column 12)"),
        (r#"{"shell":"a"} x"#, "t.jsonl:1: not valid JSON: trailing characters"),
        (r#"[1]"#, "t.jsonl:1: invalid type: sequence, expected an object with the key argv, shell or call"),
        (r#"{"argv":["a",5]}"#, "t.jsonl:1: \"argv\": invalid type: integer `5`, expected a string"),
        (r#"{"shell":"a","timeout":"5x"}"#, "t.jsonl:1: \"timeout\": \"5x\" is no length of time"),
        (r#"{"shell":"a","cores":-1}"#, "t.jsonl:1: \"cores\": invalid value: integer `-1`, expected u32"),
    ] {
        let message = json_message(line);
        assert!(message.starts_with(part), "{message}");
    }
    assert!(
        with_file("t.jsonl", b"{\"shell\":\"\xff\"}", Source::Json).1.starts_with("t.jsonl:1: not UTF-8 (column 11)")
    );
}

#[test]
fn the_first_wrong_line_of_many_wins() {
    let mut text = "{\"shell\":\"true\"}\n".repeat(200_000);
    for line in [199_000, 150_000, 70_001] {
        let at = (line - 1) * 17;
        text.replace_range(at..at + 2, "{,");
    }
    let message = json_message(&text);
    assert!(message.starts_with("t.jsonl:70001: not valid JSON"), "{message}");
}

#[test]
fn files_that_are_no_lists_are_refused() {
    let missing = Source::Lines(Input::File(b"no-such-folder/tasks.txt".to_vec()));
    let message = write(&missing, &TemplateOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "no-such-folder/tasks.txt: No such file or directory");
    let folder = tempfile::tempdir().unwrap();
    let error = write(&Source::Lines(Input::new(folder.path())), &TemplateOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with(": Is a directory"), "{error}");
    let message = with_file("a.out", b"echo\n\x7fELF\0\0\n", Source::Lines).1;
    assert_eq!(message, "a.out:2: the line holds a NUL byte; is this a text file?");
    let each = |input| Source::EachLine { input, nul_separated: false, command: words(&["p"]) };
    assert_eq!(with_file("names", b"a\0b\0", each).1, "names:1: the line holds a NUL byte (did you mean -0?)");
}

#[test]
fn endless_lines_are_refused_in_bounded_memory() {
    let long = vec![b'x'; 5 << 20];
    assert_eq!(with_file("l", &long, Source::Lines).1, "l:1: the line is longer than 4 MiB");
    let endless = [&b"a\n"[..], &vec![b'x'; 40 << 20]].concat();
    assert_eq!(with_file("l", &endless, Source::Lines).1, "l:2: the line is longer than 4 MiB");
    let table = |input| Source::Table { input, command: words(&["p"]) };
    let open_quote = [&b"a\nb\n\""[..], &b"x\n".repeat(20 << 20)].concat();
    assert_eq!(with_file("t.csv", &open_quote, table).1, "t.csv:3: the line is longer than 4 MiB");
}

#[test]
fn a_wrong_table_is_named_with_its_line() {
    let table = |input| Source::Table { input, command: words(&["p", "{a}"]) };
    for (text, message) in [
        ("", "t.csv:1: the table is empty; its first row names the columns"),
        ("a,b\n1,2\n\n1,2,3\n", "t.csv:4: 3 fields where the first row names 2 columns"),
        ("a,b\n\"1\n2\",2\n1\n", "t.csv:4: 1 fields where the first row names 2 columns"),
        ("a,a\n", "t.csv:1: two columns have the name \"a\""),
        ("a,\n", "t.csv:1: column 2 has no name in the first row"),
        ("a\n\0\n", "t.csv:2: the line holds a NUL byte; is this a text file?"),
    ] {
        assert_eq!(with_file("t.csv", text.as_bytes(), table).1, message);
    }
}

#[test]
fn wrong_options_are_named() {
    let message = |source: &Source, defaults: &TemplateOptions| write(source, defaults).unwrap_err().to_string();
    let none = TemplateOptions::default();
    assert_eq!(message(&array(9, 3, &["p"]), &none), "--array: the range 9-3 runs backwards (did you mean 3-9?)");
    assert!(message(&array(0, u64::MAX, &["p"]), &none).contains("more tasks than can be counted"));
    assert!(message(&array(0, 1, &[]), &none).starts_with("what shall each task run?"));
    assert_eq!(message(&array(0, 1, &[""]), &none), "the command after --: it is empty");
    assert!(message(&array(0, 1, &["echo `x {}`"]), &none).contains("between backquotes (use $(…) instead)"));
    assert!(message(&array(0, 1, &["echo '{}"]), &none).contains("not closed"));
    for (axes, part) in [
        ("a", "expected NAME=VALUES"),
        ("=1", "\"\" is no name"),
        ("a=", "\"a\" has no values"),
        ("a=0:10:0", "has a step of 0"),
        ("a=0:10:-1", "runs backwards"),
        ("a=10:0", "runs backwards"),
        ("a=0:x", "\"x\" in \"0:x\" is no number"),
        ("a=0:1:2:3", "\"3\" in \"0:1:2:3\" is no number"),
        ("a=0:9223372036854775807", "more tasks than can be counted"),
        ("a=-9223372036854775807:9223372036854775807:0.5", "more tasks than can be counted"),
    ] {
        let found = message(&Source::Grid { axes: words(&[axes]), command: words(&["p"]) }, &none);
        assert!(found.starts_with("--grid: ") && found.contains(part), "{axes}: {found}");
    }
    let twice = Source::Grid { axes: words(&["a=1", "a=2"]), command: words(&["p"]) };
    assert_eq!(message(&twice, &none), "--grid: the name \"a\" is used twice");
    let huge = Source::Grid { axes: words(&["a=1:9999999999", "b=1:9999999999"]), command: words(&["p"]) };
    assert!(message(&huge, &none).contains("more tasks than can be counted"));
    let env = TemplateOptions { env: vec![(b"A B=".to_vec(), b"".to_vec())], ..none.clone() };
    assert_eq!(message(&array(0, 1, &["p"]), &env), "--env: \"A B=\" is no name for a variable");
}
