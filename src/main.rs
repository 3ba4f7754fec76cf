//! The `myriarch` command: hands over to the library.

fn main() {
    std::process::exit(myriarch::cli::main());
}
