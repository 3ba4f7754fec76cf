//! Bundles as files and slices: what goes in comes out, and damage is told, never believed.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// One bundle of each kind of layout: with and without payload, one and several shapes.
fn samples() -> Vec<Bundle> {
    let json =
        b"{\"argv\":[\"a\"]}\n{\"shell\":\"b\",\"cores\":2}\n\n{\"shell\":\"c\",\"cores\":2}\n{\"shell\":\"d\"}\n";
    let mixed =
        b"{\"call\":\"a:b\",\"payload\":\"1\",\"cores\":2}\n{\"argv\":[\"c\"]}\n{\"call\":\"c:d\",\"retries\":0}\n";
    let each = |input| Source::EachLine { input, nul_separated: false, command: words(&["p", "{}"]) };
    vec![
        with_file("t.txt", b"one\n#\n\ntwo\nthree", Source::Lines).0.unwrap().bundle,
        with_file("t.jsonl", json, Source::Json).0.unwrap().bundle,
        with_file("m.jsonl", mixed, Source::Json).0.unwrap().bundle,
        with_file("n", b"x\ny\n\nz\n", each).0.unwrap().bundle,
        write(&array(3, 9, &["p {}"]), &TemplateOptions::default()).unwrap().bundle,
    ]
}

fn whole(bundle: &Bundle) -> Vec<u8> {
    bundle.extract(IndexRange::new(0, bundle.len()))
}

/// All that can be asked of a task.
fn answers(bundle: &Bundle, index: u64) -> (Command, Shape, Option<u64>, u64, String, Option<u32>) {
    let json = serde_json::to_string(&bundle.task_json(index)).unwrap();
    let (line, function) = (bundle.line(index), bundle.function_of(index));
    (bundle.command(index, 3), bundle.shape(index), line, bundle.label(index), json, function)
}

#[test]
fn a_slice_gives_the_same_answers_as_the_whole() {
    for bundle in samples() {
        for start in 0..bundle.len() {
            for end in start..=bundle.len() {
                let range = IndexRange::new(start, end);
                let slice = Bundle::from_bytes(bundle.extract(range)).unwrap();
                assert_eq!((slice.id(), slice.len(), slice.source()), (bundle.id(), bundle.len(), bundle.source()));
                assert_eq!(slice.max_resources(), bundle.max_resources());
                for index in start..end {
                    assert!(slice.covers(index));
                    assert_eq!(answers(&slice, index), answers(&bundle, index));
                }
                let runs = |bundle: &Bundle| bundle.shape_runs(range).collect::<Vec<_>>();
                assert_eq!(runs(&slice), runs(&bundle));
                if !bundle.template().is_symbolic() {
                    assert!(!slice.covers(end) && (start == 0 || !slice.covers(start - 1)));
                }
                // A slice can be cut further.
                if end > start {
                    let inner = Bundle::from_bytes(slice.extract(IndexRange::one(end - 1))).unwrap();
                    assert_eq!(answers(&inner, end - 1), answers(&bundle, end - 1));
                }
            }
        }
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    for bundle in samples() {
        let bytes = whole(&bundle);
        assert!(Bundle::from_bytes(bytes.clone()).is_ok());
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let error = Bundle::from_bytes(damaged).expect_err("a flipped byte");
                assert!(error.to_string().starts_with("a slice of a bundle: "), "{error}");
            }
            assert!(Bundle::from_bytes(bytes[..at].to_vec()).is_err(), "cut to {at} bytes");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert!(Bundle::from_bytes(longer).is_err());
    }
}

#[test]
fn a_damaged_file_is_named_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let mut bytes = whole(&samples()[0]);
    bytes[layout::HEADER_BYTES + 2] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let message = Bundle::open(&path).unwrap_err().to_string();
    assert!(message.contains("the payload of the bundle is damaged (bytes "), "{message}");
    std::fs::write(&path, b"echo hello\n").unwrap();
    assert!(Bundle::open(&path).unwrap_err().to_string().ends_with("/bundle: this is no bundle file"));
    std::fs::write(&path, &bytes[..50]).unwrap();
    assert!(Bundle::open(&path).is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(Bundle::open(&path).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn the_identity_is_that_of_the_tasks() {
    let id = |name: &str, text: &[u8]| with_file(name, text, Source::Lines).0.unwrap().bundle.id();
    let one = id("a.txt", b"x\ny\n");
    assert_eq!(one, id("b.txt", b"# other name, other comments\nx\n\ny"));
    for other in [&b"y\nx\n"[..], b"x\n", b"x\ny\nz\n", b"xy\n", b"x\ny \n", b"x\nx\n"] {
        assert_ne!(one, id("a.txt", other));
    }
    let of = |source: &Source, retries| {
        write(source, &TemplateOptions { retries, ..TemplateOptions::default() }).unwrap().bundle.id()
    };
    assert_eq!(of(&array(0, 9, &["p"]), 1), of(&array(0, 9, &["p"]), 1));
    assert_ne!(of(&array(0, 9, &["p"]), 1), of(&array(0, 9, &["p"]), 2));
    assert_ne!(of(&array(0, 9, &["p"]), 1), of(&array(0, 8, &["p"]), 1));
}

#[test]
fn the_first_task_that_differs_is_named() {
    let lines = |text: &[u8]| with_file("a.txt", text, Source::Lines).0.unwrap().bundle;
    let old = lines(b"a\nb\nc\n");
    assert_eq!(first_difference(&old, &lines(b"a\n#\nb\nc")), None);
    assert_eq!(first_difference(&old, &lines(b"a\nB\nC")), Some(1));
    assert_eq!(first_difference(&old, &lines(b"a\nb")), Some(2));
    assert_eq!(first_difference(&old, &lines(b"a\nb\nc\nd")), Some(3));
    assert_eq!(first_difference_outside(&old, &lines(b"a\nB\nC"), |index| index == 1), Some(2));
    assert_eq!(first_difference_outside(&old, &lines(b"a\nB\nC"), |index| index >= 1), None);
    assert_eq!(first_difference_outside(&old, &lines(b"a\nb"), |_| true), Some(2), "the number may not differ");
    // The same tasks said in another way, and with other limits.
    let json =
        with_file("a.jsonl", b"{\"shell\":\"a\",\"cores\":3}\n{\"shell\":\"b\"}\n{\"shell\":\"c\"}", Source::Json);
    assert_eq!(first_difference(&old, &json.0.unwrap().bundle), None);
    let longer = TemplateOptions { timeout: Some(Duration::from_secs(9)), ..TemplateOptions::default() };
    let array_with =
        |defaults: &TemplateOptions, word| write(&array(0, MAX_TASKS - 1, &["p", word]), defaults).unwrap().bundle;
    let old = array_with(&TemplateOptions::default(), "{}");
    assert_eq!(first_difference(&old, &array_with(&longer, "{}")), None, "without looking at each of them");
    assert_eq!(first_difference(&old, &array_with(&longer, "{:02}")), Some(0));
}

#[test]
fn failed_tasks_are_written_so_that_they_run_the_same_again() {
    let raw = |text: &[u8]| text.to_vec();
    let defaults = TemplateOptions {
        cores: Some(2),
        gpus: Some(1),
        timeout: Some(Duration::from_millis(1500)),
        retries: 3,
        cwd: Some(raw(b"d\xff-{}")),
        stdin: Some(raw(b"in {}")),
        env: vec![(raw(b"A"), raw(b"{}")), (raw(b"B"), raw(b"\xfe"))],
        replace: None,
        call: None,
    };
    let sources = [
        array(5, 6, &["p", "a b", "{}"]),
        array(5, 6, &["echo \"{}\" | cat"]),
        Source::Array { first: 5, last: 6, step: 1, command: vec![raw(b"p"), raw(b"\xff{}")] },
    ];
    for source in sources {
        let bundle = write(&source, &defaults).unwrap().bundle;
        let mut map = bundle.task_json(1);
        map.insert("status".into(), "exit:3".into());
        let line = serde_json::to_vec(&map).unwrap();
        let again = with_file("failed.jsonl", &line, Source::Json).0.unwrap().bundle;
        let (old, new) = (bundle.command(1, 0), again.command(0, 0));
        let mut env = new.env.clone();
        env.sort();
        assert_eq!((&old.program, &old.cwd, &old.stdin), (&new.program, &new.cwd, &new.stdin));
        assert_eq!((old.timeout, old.env, bundle.shape(1)), (new.timeout, env, again.shape(0)));
    }
}

#[test]
fn the_text_of_a_command_has_all_values_and_nothing_but_the_program() {
    let text = |bundle: &Bundle, index: u64| {
        let mut text = b"> ".to_vec();
        bundle.put_command(index, &mut text);
        String::from_utf8(text).unwrap()
    };
    let of = |bundle: &Bundle| (0..bundle.len()).map(|index| text(bundle, index)).collect::<Vec<_>>();
    let lines = with_file("t.txt", b"echo 'a  b'\n\ntrue\n", Source::Lines).0.unwrap().bundle;
    assert_eq!(of(&lines), ["> echo 'a  b'", "> true"]);
    let json = b"{\"argv\":[\"p\",\"a b\",\"\"],\"cwd\":\"d\"}\n{\"shell\":\"b | c\",\"env\":{\"V\":\"1\"}}\n";
    let json = with_file("t.jsonl", json, Source::Json).0.unwrap().bundle;
    assert_eq!(of(&json), ["> p 'a b' ''", "> b | c"]);
    let each = |input| Source::EachLine { input, nul_separated: false, command: words(&["p {} | q"]) };
    assert_eq!(of(&with_file("n", b"x\na b\n", each).0.unwrap().bundle), ["> p x | q", "> p 'a b' | q"]);
    let table = |input| Source::Table { input, command: words(&["p", "{b}-{a}"]) };
    assert_eq!(of(&with_file("t.csv", b"a,b\n1,x y\n2,\n", table).0.unwrap().bundle), ["> p 'x y-1'", "> p -2"]);
    let grid = Source::Grid { axes: vec![b"a=x,y".to_vec(), b"b=0:5:5".to_vec()], command: words(&["p", "{a}{b}"]) };
    let grid = write(&grid, &TemplateOptions::default()).unwrap().bundle;
    assert_eq!(of(&grid), ["> p x0", "> p x5", "> p y0", "> p y5"]);
    let defaults = TemplateOptions { cores: Some(2), cwd: Some(b"d-{}".to_vec()), ..TemplateOptions::default() };
    let array = write(&array(5, 6, &["p", "{:03}", "{%}"]), &defaults).unwrap().bundle;
    assert_eq!(of(&array), ["> p 005 \"${MYRIARCH_SLOT}\"", "> p 006 \"${MYRIARCH_SLOT}\""]);
}

#[test]
fn a_slot_in_a_written_task_is_the_slot_that_runs_it_again() {
    for (command, line) in [
        (&["p", "--gpu={%}", "{}"][..], "p --gpu'='\"${MYRIARCH_SLOT}\" 5"),
        (&["p {%} \"{%}\" '{%}' {}"], "p \"${MYRIARCH_SLOT}\" \"${MYRIARCH_SLOT}\" ''\"${MYRIARCH_SLOT}\"'' 5"),
    ] {
        let bundle = write(&array(5, 5, command), &TemplateOptions::default()).unwrap().bundle;
        let written = bundle.task_json(0)["shell"].as_str().unwrap().to_owned();
        assert_eq!(written.replace("'--gpu='", "--gpu'='"), line);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_entries_come_back_from_file_and_slice(
        entries in proptest::collection::vec(proptest::collection::vec(1u8..=255, 0..40), 0..40),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let text: Vec<u8> = entries.iter().flat_map(|entry| [entry.as_slice(), b"\0"].concat()).collect();
        let each = |input| Source::EachLine { input, nul_separated: true, command: words(&["p", "{}"]) };
        let bundle = with_file("n", &text, each).0.unwrap().bundle;
        prop_assert_eq!(bundle.len() as usize, entries.len());
        let mut ends = [cut.0.index(entries.len() + 1) as u64, cut.1.index(entries.len() + 1) as u64];
        ends.sort();
        let slice = Bundle::from_bytes(bundle.extract(IndexRange::new(ends[0], ends[1]))).unwrap();
        for (index, entry) in entries.iter().enumerate() {
            let wanted = Program::Argv(vec![b"p".to_vec(), entry.clone()]);
            prop_assert_eq!(&bundle.command(index as u64, 0).program, &wanted);
            if slice.covers(index as u64) {
                prop_assert_eq!(&slice.command(index as u64, 0).program, &wanted);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_bundle_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(Bundle::from_bytes(bytes).is_err());
    }
}
