//! What is told of input that can be run and was likely not meant so.

use super::*;

fn warnings(source: &Source, options: &TemplateOptions) -> Vec<String> {
    write(source, options).unwrap().warnings
}

fn of_array(command: &[&str]) -> Vec<String> {
    warnings(&array(0, 3, command), &TemplateOptions::default())
}

fn of_grid(axes: &[&str], command: &[&str]) -> Vec<String> {
    warnings(&Source::Grid { axes: words(axes), command: words(command) }, &TemplateOptions::default())
}

#[test]
fn a_placeholder_that_is_no_column_is_told_once_with_those_that_are() {
    let table = |input| Source::Table { input, command: words(&["p", "{massq}", "{massq}", "{mass}", "{2}", "{}"]) };
    let warnings = with_file("t.csv", b"mass,seed\n1,2\n", table).0.unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "{massq} stays as it is: there is no such column (did you mean \"mass\"?); the columns are mass, seed",
            "{2} stays as it is: there is no such column; the columns are mass, seed",
        ]
    );
    assert_eq!(
        of_grid(&["alpha=1,2"], &["./sim {alpah} {alpha}"]),
        ["{alpah} stays as it is: there is no such --grid name (did you mean \"alpha\"?); the --grid name is alpha"]
    );
}

#[test]
fn placeholders_of_other_programs_are_told_where_there_are_no_columns() {
    let only = |name: &str| format!("{name} stays as it is: only {{}} and its forms are replaced");
    assert_eq!(of_array(&["p", "{}", "{1}", "{#}", "{name}"]), ["{1}", "{#}", "{name}"].map(only));
    let each = |input| Source::EachLine { input, nul_separated: false, command: words(&["p {} > {2}.txt"]) };
    assert_eq!(with_file("names", b"a\n", each).0.unwrap().warnings, [only("{2}")]);
}

#[test]
fn the_options_with_placeholders_are_looked_at_too() {
    let options = TemplateOptions {
        cwd: Some(b"run-{x}".to_vec()),
        env: vec![(b"A".to_vec(), b"{y}".to_vec())],
        stdin: Some(b"{z}/{.}".to_vec()),
        ..TemplateOptions::default()
    };
    let told = warnings(&array(0, 3, &["p"]), &options);
    let names: Vec<_> = told.iter().filter_map(|warning| warning.split(' ').next()).collect();
    assert_eq!(names, ["{y}", "{x}", "{z}"]);
}

#[test]
fn braces_of_shells_and_of_awk_are_left_alone() {
    let line = r#"f() { echo "${VAR} ${x}"; }; awk '{ print $1 }' {} x{a,b} \{x} | grep -E '[0-9]{4}|(a){2}' | sed 's/a\{3\}//'"#;
    assert_eq!(of_array(&[line]), [""; 0]);
    assert_eq!(of_array(&["awk", "{ print }", "{}", "{a-b}", "{", "}", "{é}"]), [""; 0]);
}

#[test]
fn tasks_that_are_all_the_same_are_told() {
    let same = |such: &str| [format!("every task runs the same command: no placeholder, such as {such}, stands in it")];
    assert_eq!(of_array(&["./sim", "--seed", "7"]), same("{}"));
    assert_eq!(of_grid(&["a=1,2"], &["./sim"]), same("{a}"));
    assert_eq!(of_array(&["./sim --seed $MYRIARCH_INDEX"]), [""; 0], "it differs in its variables");
    assert_eq!(warnings(&array(3, 3, &["./sim"]), &TemplateOptions::default()), [""; 0], "there is only one");
    let cwd = TemplateOptions { cwd: Some(b"run-{}".to_vec()), ..TemplateOptions::default() };
    assert_eq!(warnings(&array(0, 3, &["./sim"]), &cwd), [""; 0]);
    let at = TemplateOptions { replace: Some(b"@".to_vec()), ..TemplateOptions::default() };
    assert_eq!(warnings(&array(0, 3, &["./sim", "{}"]), &at), same("@"));
    assert_eq!(with_file("tasks.txt", b"date\ndate {x}\n", Source::Lines).0.unwrap().warnings, [""; 0]);
}

#[test]
fn a_grid_whose_only_value_looks_like_a_range_is_told() {
    let told = |axis: &str| of_grid(&[axis], &["p", "{a}"]);
    assert_eq!(told("a=1-3"), ["--grid a=1-3 is one value, the text \"1-3\": did you mean a=1:3?"]);
    assert!(told("a=-5--1")[0].ends_with("did you mean a=-5:-1?"));
    assert!(told("a=0-1:0.25")[0].ends_with("did you mean a=0:1:0.25?"));
    for plain in ["a=1-3,5-7", "a=1e-3", "a=-5", "a=2024-01-31", "a=9-3", "a=x-1", "a=-", "a=\u{e9}-1"] {
        assert_eq!(told(plain), [""; 0], "{plain}");
    }
}

#[test]
fn objects_in_a_plain_list_are_told() {
    let text = b"# list\necho a\n {\"shell\": \"echo b\"}\n{ echo c; }\n{\"argv\": []}\n";
    let told = with_file("tasks.txt", text, Source::Lines).0.unwrap().warnings;
    assert!(told.len() == 1 && told[0].contains("line 3") && told[0].contains("--format json"), "{told:?}");
    assert_eq!(with_file("tasks.txt", b"{ echo a; }\n", Source::Lines).0.unwrap().warnings, [""; 0]);
}
