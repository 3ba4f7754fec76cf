//! Lists in JSON that call functions: what a worker is told of each call, and what is written of it.

use super::*;
use std::time::Duration;

/// A list of these lines under these options.
fn list(lines: &str, defaults: &TemplateOptions) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.jsonl");
    std::fs::write(&path, lines).unwrap();
    write(&Source::Json(Input::new(&path)), defaults).unwrap().bundle
}

fn plain(lines: &str) -> Bundle {
    list(lines, &TemplateOptions::default())
}

fn call(function: &str, payload: &[u8]) -> Program {
    Program::Call { function: function.to_owned(), payload: payload.to_vec() }
}

/// The function that a worker finds for a task, with its payload.
fn called(bundle: &Bundle, index: u64) -> Option<(&str, Vec<u8>)> {
    let number = bundle.function_of(index)?;
    Some((&bundle.functions()[number as usize], bundle.call_payload(index, &mut Vec::new()).to_vec()))
}

#[test]
fn calls_of_several_functions_and_processes_stand_in_one_list() {
    let bundle = plain(concat!(
        "{\"call\":\"builtin:spin\",\"payload\":\"2\\u00e9\"}\n",
        "\n",
        "{\"shell\":\"true\"}\n",
        "{\"call\":\"builtin:echo\",\"payload_base64\":\"AP8=\",\"cores\":2}\n",
        "  {\"payload\":null,\"call\":\"builtin:spin\",\"retries\":3,\"timeout\":null,\"env\":{}}\n",
    ));
    assert_eq!(bundle.functions(), ["builtin:spin", "builtin:echo"]);
    let found: Vec<_> = (0..4).map(|index| called(&bundle, index)).collect();
    let wanted = [
        Some(("builtin:spin", "2é".into())),
        None,
        Some(("builtin:echo", b"\0\xff".to_vec())),
        Some(("builtin:spin", Vec::new())),
    ];
    assert_eq!(found, wanted);
    assert_eq!(bundle.command(2, 0).program, call("builtin:echo", b"\0\xff"));
    assert_eq!(bundle.shape(1), Shape::PROCESS);
    assert_eq!(bundle.shape(2), Shape { resources: Resources { cores: 2, gpus: 0 }, ..Shape::CALL });
    assert_eq!(bundle.shape(3), Shape { retries: 3, ..Shape::CALL });
    assert_eq!((bundle.line(0), bundle.line(3)), (Some(1), Some(5)));
    assert!(bundle.starts_processes() && !bundle.called_by_all());
    assert!(!plain("{\"call\":\"builtin:noop\"}\n").starts_processes());
    assert!(plain("{\"shell\":\"true\"}\n").functions().is_empty());
}

#[test]
fn functions_are_no_reason_for_another_shape() {
    let lines: String = (0..100).map(|n| format!("{{\"call\":\"builtin:{}\"}}\n", ["noop", "echo"][n % 2])).collect();
    assert_eq!(plain(&lines).shape_runs(IndexRange::new(0, 100)).count(), 1);
}

#[test]
fn options_of_processes_leave_calls_alone() {
    let raw = |text: &str| Some(text.as_bytes().to_vec());
    let defaults = TemplateOptions {
        cores: Some(2),
        gpus: Some(1),
        timeout: Some(Duration::from_secs(9)),
        retries: 4,
        cwd: raw("d"),
        stdin: raw("f"),
        env: vec![(b"A".to_vec(), b"1".to_vec())],
        ..TemplateOptions::default()
    };
    let bundle = list("{\"call\":\"builtin:noop\"}\n{\"shell\":\"true\"}\n", &defaults);
    let (own, process) = (bundle.command(0, 0), bundle.command(1, 0));
    assert_eq!((own.env, own.cwd, own.stdin, own.timeout), (Vec::new(), None, None, None));
    assert_eq!(bundle.shape(0), Shape { resources: Resources { cores: 2, gpus: 0 }, retries: 4, calls: true });
    assert_eq!((process.env.len(), process.cwd, process.timeout), (2, raw("d"), Some(Duration::from_secs(9))));
    assert_eq!(bundle.shape(1), Shape { resources: Resources { cores: 2, gpus: 1 }, retries: 4, calls: false });
}

#[test]
fn functions_have_the_order_of_their_first_lines_however_the_list_is_cut() {
    // Every piece names its functions in another order, and some for the first time.
    let name = |n: u64| format!("builtin:f{}", (n / 1000) ^ (n % 7));
    let line = |n: u64| match n % 5 {
        0 => "{\"shell\":\"true\"}\n".to_owned(),
        _ => format!("{{\"call\":\"{}\",\"payload\":\"{n} {}\"}}\n", name(n), "x".repeat(40)),
    };
    let lines: String = (0..100_000).map(line).collect();
    let bundle = plain(&lines);
    let mut first: Vec<String> = Vec::new();
    for n in (0..100_000).filter(|n| n % 5 != 0) {
        if !first.contains(&name(n)) {
            first.push(name(n));
        }
    }
    assert_eq!(bundle.functions(), first);
    for n in 0..100_000 {
        match called(&bundle, n) {
            Some((function, payload)) => {
                assert_eq!(function, name(n));
                assert!(payload.starts_with(format!("{n} x").as_bytes()));
            }
            None => assert_eq!(shell(&bundle, n), "true"),
        }
    }
    assert_eq!(plain(&lines).id(), bundle.id());
    assert_eq!(first_difference(&plain(&lines), &bundle), None);
}

#[test]
fn the_same_calls_under_other_numbers_are_the_same_tasks() {
    let old = plain("{\"call\":\"a:f\"}\n{\"call\":\"b:f\",\"payload\":\"1\"}\n{\"shell\":\"true\"}\n");
    let same = plain("{\"call\":\"a:f\",\"retries\":2}\n{\"payload\":\"1\",\"call\":\"b:f\"}\n{\"shell\":\"true\"}\n");
    assert_eq!(first_difference(&old, &same), None);
    // The numbers are those of the functions before.
    let swapped = plain("{\"call\":\"b:f\"}\n{\"call\":\"a:f\",\"payload\":\"1\"}\n{\"shell\":\"true\"}\n");
    assert_eq!(first_difference(&old, &swapped), Some(0));
    let other = plain("{\"call\":\"a:f\"}\n{\"call\":\"b:f\",\"payload\":\"2\"}\n{\"shell\":\"true\"}\n");
    assert_eq!(first_difference(&old, &other), Some(1));
}

#[test]
fn a_shared_object_has_one_number_however_its_path_is_written() {
    let here = std::env::current_dir().unwrap();
    let whole = format!("{}/f.so:f", here.display());
    let bundle = plain(&format!("{{\"call\":\"f.so:f\"}}\n{{\"call\":\"./f.so:f\"}}\n{{\"call\":\"{whole}\"}}\n"));
    assert_eq!(bundle.functions(), std::slice::from_ref(&whole));
    assert_eq!([0, 1, 2].map(|index| bundle.function_of(index)), [Some(0); 3]);
    assert_eq!(bundle.task_json(1)["call"], whole.as_str());
}

#[test]
fn the_first_function_too_many_is_named_by_its_line() {
    let line = |n: usize| format!("{{\"call\":\"builtin:f{n}\"}}\n{{\"call\":\"builtin:f0\"}}\n");
    let lines: String = (0..scan::MAX_FUNCTIONS).map(line).collect();
    assert_eq!(plain(&lines).functions().len(), scan::MAX_FUNCTIONS);
    let wrong = format!("{lines}{}{{\n", line(scan::MAX_FUNCTIONS));
    let message = with_file("t.jsonl", wrong.as_bytes(), Source::Json).1;
    assert_eq!(message, "t.jsonl:2001: a list calls at most 1000 different functions, and this is one more");
}

#[test]
fn failed_calls_are_written_so_that_they_run_the_same_again() {
    let option = Call { function: "builtin:echo".to_owned(), argument: b"\xff\0".to_vec() };
    let defaults = TemplateOptions { call: Some(option), cores: Some(2), retries: 1, ..TemplateOptions::default() };
    let each = |input| Source::EachLine { input, nul_separated: false, command: Vec::new() };
    let lines = {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        std::fs::write(&path, "a b\n\"\\\n").unwrap();
        write(&each(Input::new(&path)), &defaults).unwrap().bundle
    };
    let array = write(&array(5, 6, &[]), &defaults).unwrap().bundle;
    let json = plain("{\"call\":\"a:f\",\"payload\":\"\\u0000\",\"retries\":2}\n{\"call\":\"b:f\",\"cores\":3}\n");
    for bundle in [lines, array, json] {
        for index in 0..2 {
            let mut map = bundle.task_json(index);
            for (key, value) in [("status", "exit:3".into()), ("index", 7.into()), ("stderr_tail", "".into())] {
                map.insert(key.to_owned(), value);
            }
            let again = plain(&serde_json::to_string(&map).unwrap());
            let (old, new) = (bundle.command(index, 0), again.command(0, 0));
            assert_eq!((&old.program, bundle.shape(index)), (&new.program, again.shape(0)));
            assert_eq!(called(&bundle, index), called(&again, 0));
        }
    }
}

#[test]
fn the_text_of_a_call_is_its_function_and_its_payload() {
    let bundle = plain("{\"call\":\"builtin:echo\",\"payload\":\"a b\"}\n");
    let mut text = Vec::new();
    bundle.put_command(0, &mut text);
    assert_eq!(String::from_utf8(text).unwrap(), "builtin:echo 'a b'");
}
