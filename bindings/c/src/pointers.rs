//! Pointers of callers: NULL and text that is not UTF-8 are told, the rest is theirs to keep to.

use crate::error::{Answer, Failure, myriarch_code::*};
use myriarch::embed::MAX_ENTRY_BYTES;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

/// Something to write to, perhaps not yet initialised, or to take back.
pub(crate) fn place<T>(pointer: *mut T, what: &str) -> Answer<NonNull<T>> {
    NonNull::new(pointer).ok_or_else(|| is_null(what))
}

/// A handle that this library gave.
pub(crate) unsafe fn handle<'a, T>(pointer: *mut T, what: &str) -> Answer<&'a mut T> {
    // SAFETY: the caller says that it is NULL, or a live handle that no other thread uses.
    unsafe { pointer.as_mut() }.ok_or_else(|| is_null(what))
}

/// Bytes that end with a NUL, without it.
pub(crate) unsafe fn line<'a>(pointer: *const c_char, what: &str) -> Answer<&'a [u8]> {
    if pointer.is_null() {
        return Err(is_null(what));
    }
    // SAFETY: the caller says that a NUL ends it.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A name.
pub(crate) unsafe fn name<'a>(pointer: *const c_char, what: &str) -> Answer<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { line(pointer, what) }?;
    std::str::from_utf8(bytes).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// So many bytes; NULL will do for none.
pub(crate) unsafe fn bytes<'a>(pointer: *const c_void, length: usize, what: &str) -> Answer<&'a [u8]> {
    match NonNull::new(pointer.cast_mut()) {
        _ if length == 0 => Ok(&[]),
        _ if length > MAX_ENTRY_BYTES => {
            let text = format!("{what} has {length} bytes: {MAX_ENTRY_BYTES} is the most");
            Err(Failure::new(MYRIARCH_ERROR_TOO_LARGE, text))
        }
        // SAFETY: the caller says that there are so many.
        Some(first) => Ok(unsafe { std::slice::from_raw_parts(first.cast().as_ptr(), length) }),
        None => Err(is_null(what)),
    }
}

fn is_null(what: &str) -> Failure {
    Failure::argument(format!("{what} is NULL"))
}
