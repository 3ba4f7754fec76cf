//! Functions of a shared object, by the C interface of `bindings/c/myriarch_task.h`.

use super::function::{Call, Function, FunctionError, MAX_VALUE_BYTES, refuse_value};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

/// The version of the interface; the shared object says which it was built for.
const VERSION: u32 = 1;
const VERSION_SYMBOL: &str = "myriarch_task_version";

/// `struct myriarch_task` of the header, which says what its fields are.
#[allow(missing_docs)]
#[repr(C)]
pub struct RawTask {
    pub index: u64,
    pub payload: *const c_void,
    pub payload_bytes: usize,
    pub value: *mut c_void,
    pub value_capacity: usize,
    pub value_bytes: usize,
    pub attempt: u32,
    pub slot: u32,
    pub cores: u32,
}

/// `myriarch_task_function` of the header. A C++ exception that leaves it ends the process instead of being undefined.
pub type RawFunction = unsafe extern "C-unwind" fn(*mut RawTask) -> c_int;

const NO_HEADER: &str = ": it does not include myriarch_task.h with MYRIARCH_TASK_PLUGIN, or hides it";
const NOT_EXPORTED: &str = " of its own: is it exported, and extern \"C\" in C++?";

/// Where the library lies that holds the address.
fn base_of(address: *const c_void) -> *mut c_void {
    // SAFETY: Dl_info is plain data for which zero is a valid value; dladdr takes any address and fills it in.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 { std::ptr::null_mut() } else { info.dli_fbase }
    }
}

pub(super) fn load(path: &Path, symbol: &str) -> Result<Function, FunctionError> {
    // A name without a slash would be looked for among the system's libraries: a file is meant.
    let file = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_owned() };
    // What the loader said is the source of the error: which library is missing, for one.
    let failed = |error: libloading::Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        FunctionError::Load { path: path.to_owned(), why }
    };
    // SAFETY: loading runs the initialisers of a library that the user named to be run.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
    // It stays loaded until the process ends: threads and exit handlers of its own may outlive the tasks.
    let library = ManuallyDrop::new(library);
    let missing =
        |symbol: &str, hint| FunctionError::NoSymbol { path: path.to_owned(), symbol: symbol.to_owned(), hint };
    // SAFETY: the header declares the symbol as a constant of this type.
    let version = unsafe { library.get::<*const u32>(VERSION_SYMBOL.as_bytes()) };
    let version = version.ok().map(|symbol| *symbol).filter(|address| !address.is_null());
    let version = version.ok_or_else(|| missing(VERSION_SYMBOL, NO_HEADER))?;
    // SAFETY: the address is that of the constant, which lives as long as the library.
    let found = unsafe { *version };
    if found != VERSION {
        return Err(FunctionError::Version { path: path.to_owned(), found, wanted: VERSION });
    }
    // SAFETY: the user says that the symbol is a function of the header's type.
    let function = unsafe { library.get::<Option<RawFunction>>(symbol.as_bytes()) };
    let function = function.ok().and_then(|symbol| *symbol);
    // The look goes on in the libraries that this one needs: a name may be that of a function of the C library.
    let own = function.filter(|function| base_of(*function as *const c_void) == base_of(version.cast()));
    let function = own.ok_or_else(|| missing(symbol, NOT_EXPORTED))?;
    // SAFETY: the user says so, as above.
    Ok(unsafe { raw_function(function) })
}

/// A function of the header's type.
///
/// # Safety
/// It keeps to what the header says of such functions.
pub unsafe fn raw_function(function: RawFunction) -> Function {
    Arc::new(move |call: &mut Call<'_>| invoke(function, call))
}

thread_local! {
    /// Room for a value. It is zeroed when it is made, and so much of it after each call as the function said to have
    /// written: what it did not write reads as zeros, not as what lay in memory there, nor as an earlier task's value.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_VALUE_BYTES]);
}

fn invoke(function: RawFunction, call: &mut Call<'_>) -> i32 {
    ROOM.with_borrow_mut(|room| invoke_with(function, call, room))
}

fn invoke_with(function: RawFunction, call: &mut Call<'_>, room: &mut [u8]) -> i32 {
    let mut task = RawTask {
        index: call.index,
        payload: call.payload.as_ptr().cast(),
        payload_bytes: call.payload.len(),
        value: room.as_mut_ptr().cast(),
        value_capacity: room.len(),
        value_bytes: 0,
        attempt: call.attempt,
        slot: call.slot,
        cores: call.cores,
    };
    // SAFETY: the function has the header's type; payload and value are live, and as large as the task says.
    let status = unsafe { function(&mut task) };
    let Some(value) = room.get_mut(..task.value_bytes) else {
        room.fill(0);
        return refuse_value(call.value);
    };
    call.value.extend_from_slice(value);
    value.fill(0);
    status
}
