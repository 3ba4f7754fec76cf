//! The header is the one that cbindgen writes.

use std::path::Path;

/// Set, the test writes the header instead.
const WRITE: &str = "MYRIARCH_WRITE_HEADER";

#[test]
fn the_header_says_what_the_library_has() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in ["error", "program", "session"] {
        builder = builder.with_src(here.join(format!("src/{file}.rs")));
    }
    let mut wanted = Vec::new();
    builder.generate().unwrap().write(&mut wanted);
    let wanted = String::from_utf8(wanted).unwrap();
    let path = here.join("myriarch.h");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "bindings/c/myriarch.h is not up to date: {WRITE}=1 cargo test -p myriarch-c writes it");
}
