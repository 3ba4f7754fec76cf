//! From user input to commands: lists, tables, grids, quoting, and bundles that were damaged on the way.

mod bad_input;
mod bundles;
mod calls;
mod lists;
mod quoting;
mod slips;

use super::*;

/// Bytes of words.
fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Writes a bundle in a folder of its own; the map outlives the folder.
fn write(source: &Source, defaults: &TemplateOptions) -> Result<Written, InputError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = write_bundle(source, defaults, &folder.path().join("bundle"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("list").flatten().map(|file| file.file_name()).collect();
    match &written {
        Ok(_) => assert_eq!(left, ["bundle"], "only the bundle is left"),
        Err(_) => assert!(left.is_empty(), "an error leaves nothing behind: {left:?}"),
    }
    written
}

/// Calls `make` with a source whose file has this name and content.
fn with_file(name: &str, content: &[u8], make: impl Fn(Input) -> Source) -> (Result<Written, InputError>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("write the list");
    let source = make(Input::new(&path));
    let written = write(&source, &TemplateOptions::default());
    let message = match &written {
        Ok(_) => String::new(),
        Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
    };
    (written, message)
}

fn array(first: u64, last: u64, command: &[&str]) -> Source {
    Source::Array { first, last, step: 1, command: words(command) }
}

fn argv(bundle: &Bundle, index: u64) -> Vec<String> {
    match bundle.command(index, 0).program {
        Program::Argv(words) => words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        other => panic!("no argv: {other:?}"),
    }
}

fn shell(bundle: &Bundle, index: u64) -> String {
    match bundle.command(index, 0).program {
        Program::Shell(line) => String::from_utf8_lossy(&line).into_owned(),
        other => panic!("no shell line: {other:?}"),
    }
}
