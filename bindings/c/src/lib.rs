//! The C binding of Myriarch's embedding interface: `myriarch.h`, which cbindgen writes from the comments here, and
//! `libmyriarch_c`. Knows `myriarch::embed` only.
//!
//! | file | what it holds |
//! |---|---|
//! | `error` | codes, messages, and the guard that no panic passes |
//! | `pointers` | what callers hand over, checked as far as it can be |
//! | `program` | registering functions, entering |
//! | `session` | rank 0's handle and its bundles |

// The names are those of the header.
#![allow(non_camel_case_types)]
// What callers in C have to keep to is said in C's words, which go into the header.
#![allow(clippy::missing_safety_doc)]

mod error;
mod pointers;
mod program;
mod session;

pub use error::{myriarch_code, myriarch_error};
pub use program::*;
pub use session::*;
