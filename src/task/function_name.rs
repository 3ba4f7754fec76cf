//! Names of functions: `builtin:NAME`, or `PATH.so:SYMBOL`. Knows nothing of what they do, nor whether they are there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The name with the whole path of its shared object, so that a resume finds it from anywhere. The error is the whole
/// name, where it is not UTF-8.
pub fn whole_function_name(name: &OsStr) -> Result<String, OsString> {
    let colon = name.as_bytes().iter().rposition(|&byte| byte == b':').unwrap_or(0);
    let whole = match name.as_bytes().split_at(colon) {
        (b"" | b"builtin", _) => name.to_owned(),
        (path, symbol) => {
            let path = Path::new(OsStr::from_bytes(path));
            let mut whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
            whole.push(OsStr::from_bytes(symbol));
            whole
        }
    };
    whole.into_string()
}

/// Whether a name has one of the two forms.
pub(super) fn is_function_name(name: &str) -> bool {
    name.rsplit_once(':').is_some_and(|(path, symbol)| !path.is_empty() && !symbol.is_empty()) && !name.contains('\0')
}
