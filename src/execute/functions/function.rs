//! A function that tasks call, by its name, and what one call sees.

use super::{builtin, plugin};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Largest value that a call may give. What is larger belongs into a file.
pub const MAX_VALUE_BYTES: usize = 64 << 10;

/// One call: what the function is given, and where its value goes.
#[derive(Debug)]
pub struct Call<'a> {
    /// The user's index of the task.
    pub index: u64,
    /// The task's own bytes.
    pub payload: &'a [u8],
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The slot, unique on the node.
    pub slot: u32,
    /// Cores that the task may use: the calling thread is bound to them, where slots are bound.
    pub cores: u32,
    /// The value, empty at the start; a call that makes it longer than [`MAX_VALUE_BYTES`] has failed.
    pub value: &'a mut Vec<u8>,
}

/// The status of a call that gave more than there is room for.
const VALUE_TOO_LARGE: i32 = -1;

/// Says in place of a value that it was too large, and gives the status of such a call.
pub(super) fn refuse_value(value: &mut Vec<u8>) -> i32 {
    value.clear();
    value.extend_from_slice(
        format!("the value is larger than the {MAX_VALUE_BYTES} bytes there is room for\n").as_bytes(),
    );
    VALUE_TOO_LARGE
}

/// A function of some name: gives 0 when the task ended well, and otherwise the status that it failed with.
pub type Function = Arc<dyn Fn(&mut Call<'_>) -> i32 + Send + Sync>;

/// Why a function cannot be called. Nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The name is of no form that is known.
    #[error("{0}: write builtin:NAME, or PATH.so:SYMBOL")]
    Form(String),
    /// There is no such builtin.
    #[error("builtin:{0}: there is no such function; there are noop, spin, sleep, echo")]
    NoBuiltin(String),
    /// The shared object cannot be loaded.
    #[error("{}: it cannot be loaded: {why}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// The shared object lacks a symbol.
    #[error("{} has no symbol {symbol}{hint}", path.display())]
    NoSymbol {
        /// The file.
        path: PathBuf,
        /// The name that was looked for.
        symbol: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The shared object was built for another version of the interface.
    #[error("{} was built for version {found} of myriarch_task.h, and this program calls version {wanted}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// This program's.
        wanted: u32,
    },
}

/// Finds a function by its name: `builtin:NAME`, or `PATH.so:SYMBOL`, whose shared object is loaded for good.
pub fn load_function(name: &str) -> Result<Function, FunctionError> {
    match name.rsplit_once(':') {
        Some(("builtin", name)) => builtin::find(name),
        Some((path, symbol)) if !path.is_empty() && !symbol.is_empty() => plugin::load(path.as_ref(), symbol),
        _ => Err(FunctionError::Form(name.to_owned())),
    }
}

/// A function that is always there, by its whole name: `builtin:NAME`.
pub fn find_builtin(name: &str) -> Option<Function> {
    builtin::find(name.strip_prefix("builtin:")?).ok()
}

/// Stands for a function that is not there: each call fails.
pub fn missing(name: &str) -> Function {
    let said = format!("there is no function {name} on this rank\n");
    Arc::new(move |call: &mut Call<'_>| {
        call.value.extend_from_slice(said.as_bytes());
        NO_FUNCTION
    })
}

/// The status of a call of a function that is not there: the one that a shell gives for a program that is not found.
const NO_FUNCTION: i32 = 127;

/// What a panic said, for a status.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text: &dyn fmt::Display = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => &"no message",
    };
    text.to_string()
}
