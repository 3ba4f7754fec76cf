//! What a placeholder becomes in a shell line is what a real `sh` reads back, byte for byte.

use crate::task::placeholder::{Names, Pattern, SlotText, Values};
use proptest::prelude::*;
use std::os::unix::ffi::OsStrExt;
use std::process::Command as Process;

fn filled(line: &str, value: &[u8]) -> Vec<u8> {
    let pattern = Pattern::shell(line.as_bytes(), Names { whole: b"{}", columns: &[] }).expect(line);
    pattern.fill(&Values { whole: value.into(), columns: Vec::new(), slot: SlotText::Number(0) })
}

/// What the line prints; bash, which is sh on many clusters, must agree where there is one.
fn printed(line: &[u8]) -> Vec<u8> {
    let by_sh = printed_by("sh", line).expect("sh runs");
    if let Some(by_bash) = printed_by("bash", line) {
        assert_eq!(by_sh, by_bash, "{}", String::from_utf8_lossy(line));
    }
    by_sh
}

fn printed_by(shell: &str, line: &[u8]) -> Option<Vec<u8>> {
    let output = Process::new(shell).arg("-c").arg(std::ffi::OsStr::from_bytes(line)).env("LC_ALL", "C").output();
    let output = output.ok()?;
    assert!(
        output.stderr.is_empty(),
        "{:?}: {}",
        String::from_utf8_lossy(line),
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output.stdout)
}

/// Lines in which the value must come out as it is, followed by a full stop.
const PLACES: [&str; 18] = [
    "printf '%s.' {}",
    "printf '%s.' \"{}\"",
    "printf '%s.' '{}'",
    "printf '%s' {}'.'",
    "printf '%s.' ''{}\"\"",
    "printf '%s.' \"$(printf '%s' {}; echo x | tr -d 'x\\n')\"",
    "printf '%s.' \"$(printf '%s' \"{}\"; printf '')\"",
    "(printf '%s.' {})",
    "x={}; printf '%s.' \"$x\"",
    "# don't\nprintf '%s.' {}",
    "printf '%s' \\' >/dev/null; printf '%s.' {}",
    "printf '%s.' \"\\\"{}\" | tail -c +2",
    "y=\"${x:-a}\"'}'${x:-\"}\"'}'}; printf '%s.' {}",
    ": \\\n# don't\nprintf '%s.' {}",
    "printf '%s.' \"$\\\n(printf '%s' {}; printf '')\"",
    "printf \\\n'%s.' \\\n {}",
    ": $$; printf '%s.' {}",
    "case a in a) printf '%s.' {};; esac",
];

#[test]
fn hostile_values_reach_the_program_unchanged_in_every_place() {
    let values = [
        "",
        "a b",
        "'",
        "\"",
        "\\",
        "\\'",
        "$(echo no)",
        "`echo no`",
        "${HOME}",
        "a;b|c&d",
        "*",
        "~",
        "-n",
        "#x",
        "!!",
        "é ü",
        "{}",
        "%s",
        "a'b\"c\\d$e",
    ];
    for place in PLACES {
        for value in values {
            let line = filled(place, value.as_bytes());
            assert_eq!(
                printed(&line),
                [value.as_bytes(), b"."].concat(),
                "{place}: {}",
                String::from_utf8_lossy(&line)
            );
        }
    }
}

/// Shell lines in which quotes nest well, so that a shell reads them to their end; none starts a program by itself.
fn nested_lines() -> impl Strategy<Value = String> {
    let leaves = [
        "{}",
        "{}",
        "a",
        " ",
        "$$",
        "$",
        "\\\n",
        "\\\\",
        "\\\"",
        "'{}'",
        "$(( {} + 1 ))",
        "'a'",
        "`: `",
        " # {}\n",
        "$(case x in x) : {};; esac)",
    ];
    let wraps = [
        ("\"", "\""),
        ("$(: ", ")"),
        ("\"$(: ", ")\""),
        ("\"$\\\n(: ", ")\""),
        ("\"$$(", ")\""),
        ("${x:-", "}"),
        ("\"${x:-", "}\""),
        ("; (: ", "); : "),
        ("$(( 1 + ", " ))"),
        ("'", "'"),
    ];
    let leaf = proptest::sample::select(leaves.to_vec()).prop_map(str::to_owned);
    let nested = leaf.prop_recursive(3, 16, 4, move |inner| {
        let parts = proptest::collection::vec(inner, 1..4);
        (proptest::sample::select(wraps.to_vec()), parts)
            .prop_map(|((open, close), parts)| open.to_owned() + &parts.concat() + close)
    });
    proptest::collection::vec(nested, 1..4).prop_map(|parts| format!(": {}", parts.concat()))
}

/// Values that run `>m` wherever one kind of quoting is missing.
const ATTACKS: [&str; 7] = ["$(>m)", "`>m`", "\n>m\n", ";>m;", "'\n>m\n'", "\"\n>m\n\"", ")\n>m\n("];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn any_value_reaches_the_program_unchanged(
        value in proptest::collection::vec(prop_oneof![1u8..=255, proptest::sample::select(b"'\"\\$`(){} \n;#".to_vec())], 0..24),
        place in proptest::sample::select(PLACES.to_vec()),
    ) {
        // Command substitution drops newlines at its end: no fault of the quoting.
        let substitutes = place.contains("$(") || place.contains("$\\\n(");
        prop_assume!(!(substitutes && value.ends_with(b"\n")));
        prop_assert_eq!(printed(&filled(place, &value)), [&value[..], b"."].concat());
    }

    #[test]
    fn no_value_breaks_out_of_any_line_that_is_taken(
        line in nested_lines(),
        value in proptest::sample::select(ATTACKS.to_vec()),
    ) {
        if let Ok(pattern) = Pattern::shell(line.as_bytes(), Names { whole: b"{}", columns: &[] }) {
            let folder = tempfile::tempdir().unwrap();
            let values = Values { whole: value.as_bytes().into(), columns: Vec::new(), slot: SlotText::Number(0) };
            let filled = pattern.fill(&values);
            for shell in ["sh", "bash"] {
                let mut process = Process::new(shell);
                process.arg("-c").arg(std::ffi::OsStr::from_bytes(&filled)).current_dir(folder.path());
                let _ = process.stdin(std::process::Stdio::null()).output();
            }
            prop_assert!(!folder.path().join("m").exists(), "{}", String::from_utf8_lossy(&filled));
        }
    }

    #[test]
    fn any_line_is_taken_or_refused_without_a_panic(line in "[ a{}'\"\\\\$`()#<\n;]{0,30}") {
        let _ = Pattern::shell(line.as_bytes(), Names { whole: b"{}", columns: &[] });
    }
}

#[test]
fn numbers_work_in_arithmetic_and_nothing_breaks_out_of_it() {
    assert_eq!(printed(&filled("printf %s $(( ({} + 1) * 2 ))", b"20")), b"42");
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    for value in ["$(touch MARK)", "`touch MARK`", "1)); touch MARK; : $((1", "1\n touch MARK\n"] {
        let line = filled("echo $(( {} + 1 ))", value.replace("MARK", &mark.to_string_lossy()).as_bytes());
        let _ = Process::new("sh").arg("-c").arg(std::ffi::OsStr::from_bytes(&line)).output().unwrap();
        assert!(!mark.exists(), "{}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn the_shells_own_braces_stay_its_own() {
    for line in ["echo ${x} \\{} {a,b} { }", "awk '{print $1}'", "find . -exec rm \\{} \\;"] {
        assert_eq!(filled(line, b"no"), line.as_bytes());
    }
    let columns = ["x".to_owned()];
    let pattern = Pattern::shell(b"echo ${x} {x} \"${x}\"", Names { whole: b"{}", columns: &columns }).unwrap();
    let values = Values { whole: b"".into(), columns: vec![b"1".into()], slot: SlotText::Number(0) };
    assert_eq!(pattern.fill(&values), b"echo ${x} 1 \"${x}\"");
}

#[test]
fn places_where_no_quoting_is_safe_are_refused() {
    for line in [
        "echo `basename {}`",
        "echo ${x:-{}}",
        "cat <<E\n{}\nE",
        "echo # {}",
        "echo \"$$({})\"",
        "echo \"$$('\"{}\"')\"",
        "echo $(( 'a' )) {}",
        "echo \"${x:-${y:-'}'}}\" {}",
        "echo \"${x:-\"}\"'}\" {}",
        "echo $'a {}'",
        "echo $'it\\'s' {}",
        "echo \"$(case x in x) echo {};; esac)\"",
        "echo '{}",
        "echo \"$(echo {}",
    ] {
        assert!(Pattern::shell(line.as_bytes(), Names { whole: b"{}", columns: &[] }).is_err(), "{line}");
    }
    // Without a placeholder, any line is the shell's business.
    assert!(Pattern::shell(b"echo 'open", Names { whole: b"{}", columns: &[] }).is_ok());
}

#[test]
fn paths_are_cut_as_gnu_parallel_cuts_them() {
    let names = Names { whole: b"{}", columns: &[] };
    let pattern = Pattern::verbatim(b"{.}|{/}|{//}|{/.}", names);
    for (value, parts) in [
        ("a/b.tar.gz", "a/b.tar|b.tar.gz|a|b.tar"),
        ("d.x/f", "d.x/f|f|d.x|f"),
        ("f", "f|f|.|f"),
        ("/f.c", "/f|f.c|/|f"),
        ("//a//b", "//a//b|b|//a|b"),
        ("a/b/", "a/b/||a|"),
        ("/", "/||/|"),
    ] {
        let values = Values { whole: value.as_bytes().into(), columns: Vec::new(), slot: SlotText::Number(0) };
        assert_eq!(String::from_utf8_lossy(&pattern.fill(&values)), parts, "{value}");
    }
    let pattern = Pattern::verbatim(b"{:05}|{:5}|{:0}|{:0x}|{:0999}", names);
    for (value, parts) in
        [("7", "00007"), ("-7", "-0007"), ("2.5", "002.5"), ("abc", "abc"), ("123456", "123456"), ("", "")]
    {
        let values = Values { whole: value.as_bytes().into(), columns: Vec::new(), slot: SlotText::Number(0) };
        assert_eq!(String::from_utf8_lossy(&pattern.fill(&values)), format!("{parts}|{{:5}}|{{:0}}|{{:0x}}|{{:0999}}"));
    }
}
