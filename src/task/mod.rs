//! What a task is: its identity, its template, the bundle that holds it, and how it ended.
//!
//! Nothing here knows of ranks that talk, of files in a run directory, or of processes.
//!
//! From the command line to a worker: `source` (with `scan`, `table`, `grid`) reads and checks what the user gave and
//! finds its `placeholder`s, `write` puts it into a file with the `layout` that `bundle` maps, and `template` makes one
//! `command` of it at a time.

mod account;
mod base64;
mod bundle;
mod call_entry;
mod calls;
mod cause;
mod command;
mod compare;
mod duration;
mod function_name;
mod grid;
mod id;
mod input_error;
mod json;
mod layout;
mod outcome;
mod part;
mod placeholder;
mod quoting;
mod ranges;
mod scan;
mod slips;
mod source;
mod table;
mod template;
mod write;

pub use account::{EndedBy, EndedRun, Extent};
pub use base64::{base64_decode, base64_encode};
pub use bundle::{Bundle, BundleError, Shape};
pub use calls::{PackedCalls, UnpackedCall, take_call};
pub(crate) use calls::{put_number, take_number};
pub use cause::{io_cause, without_error_numbers};
pub use command::{Command, Program};
pub use compare::{first_difference, first_difference_outside};
pub use duration::{DurationParseError, parse_duration};
pub use function_name::whole_function_name;
pub use grid::GridError;
pub use id::{BundleId, IndexRange, NodeId, Rank, Resources};
pub use input_error::{InputError, LineFault};
pub use layout::Damage;
pub use outcome::{Captured, FailureDigest, FailureGroup, Outcome, OutcomeClass, Status, StatusParseError};
pub use part::{PartBuilder, array_of_calls, process_entry};
pub use placeholder::PlaceholderError;
pub use ranges::RangeSet;
pub use source::{Input, MAX_TASKS, Source, TemplateOptions, Written, write_bundle};
pub use template::Call;

#[cfg(test)]
mod tests;
