//! The MPI calls that the fabric makes, each with its return code checked, and the ownership of buffers in transfer:
//! what MPI may still read or write is never freed. Knows nothing of levels, families or ranks of the run.

use crate::fabric::FabricError;
use mpi::ffi;
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Tag of all messages: levels have communicators of their own.
const TAG: c_int = 0;

/// A communicator. Which threads may use it is its owner's to say.
#[derive(Debug)]
pub(super) struct Comm {
    raw: ffi::MPI_Comm,
    _stays: PhantomData<*const ()>,
}

/// A message that was matched and not yet received.
pub(super) struct Arrived {
    raw: ffi::MPI_Message,
    /// Who sent it, a place in the communicator.
    pub(super) from: usize,
    /// How long it is.
    pub(super) bytes: usize,
}

/// A send, a receive or a collective that is under way, with the memory that it uses.
#[derive(Debug)]
pub(super) struct Transfer {
    raw: ffi::MPI_Request,
    /// Sent from, or received into.
    buffer: Vec<u8>,
    /// Bytes that the buffer has when the transfer is done.
    bytes: usize,
    /// Of a gather at its root.
    parts: Option<Box<Parts>>,
    done: bool,
}

/// Where a gather puts the parts.
#[derive(Debug)]
struct Parts {
    counts: Vec<c_int>,
    offsets: Vec<c_int>,
    all: Vec<u8>,
}

/// Turns a return code into an error in words.
fn checked(call: &'static str, code: c_int) -> Result<(), FabricError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize + 1];
    let mut length: c_int = 0;
    // SAFETY: the buffer is larger than MPI_MAX_ERROR_STRING, and both pointers are valid for writing.
    let told = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &raw mut length) };
    let known = told == ffi::MPI_SUCCESS as c_int;
    let length = if known { usize::try_from(length).unwrap_or(0).min(text.len()) } else { 0 };
    Err(FabricError::Mpi { call, code, text: String::from_utf8_lossy(&text[..length]).into_owned() })
}

fn count_of(bytes: usize) -> Result<c_int, FabricError> {
    let limit = super::MAX_MESSAGE_BYTES as u64;
    c_int::try_from(bytes).map_err(|_| FabricError::TooLarge { what: "a transfer", bytes: bytes as u64, limit })
}

/// The data type of a byte.
fn byte() -> ffi::MPI_Datatype {
    // SAFETY: a constant that rsmpi's C part initialises at load time.
    unsafe { ffi::RSMPI_UINT8_T }
}

impl Comm {
    pub(super) fn of(raw: ffi::MPI_Comm) -> Self {
        Self { raw, _stays: PhantomData }
    }

    /// The communicator of all ranks.
    pub(super) fn world() -> Comm {
        // SAFETY: constants that rsmpi's C part initialises at load time.
        Comm::of(unsafe { ffi::RSMPI_COMM_WORLD })
    }

    /// A copy of the communicator, with errors returned rather than fatal. Collective.
    pub(super) fn duplicate(&self) -> Result<Comm, FabricError> {
        let mut copy = MaybeUninit::uninit();
        // SAFETY: a valid communicator, `copy` may be written.
        checked("MPI_Comm_dup", unsafe { ffi::MPI_Comm_dup(self.raw, copy.as_mut_ptr()) })?;
        // SAFETY: MPI_Comm_dup succeeded, so it has written the handle.
        let copy = Comm::of(unsafe { copy.assume_init() });
        copy.return_errors()?;
        Ok(copy)
    }

    pub(super) fn return_errors(&self) -> Result<(), FabricError> {
        // SAFETY: a valid communicator, and a constant of the library.
        checked("MPI_Comm_set_errhandler", unsafe { ffi::MPI_Comm_set_errhandler(self.raw, ffi::RSMPI_ERRORS_RETURN) })
    }

    /// Splits by colour, in the order of `key`; without a colour this process joins none. Collective.
    pub(super) fn split(&self, colour: Option<u32>, key: u32) -> Result<Option<Comm>, FabricError> {
        // SAFETY: a constant that rsmpi's C part initialises at load time.
        let undefined = unsafe { ffi::RSMPI_UNDEFINED };
        let colour = colour.map_or(undefined, |colour| colour as c_int);
        let mut part = MaybeUninit::uninit();
        // SAFETY: a valid communicator, and `part` may be written.
        checked("MPI_Comm_split", unsafe { ffi::MPI_Comm_split(self.raw, colour, key as c_int, part.as_mut_ptr()) })?;
        if colour == undefined {
            return Ok(None);
        }
        // SAFETY: MPI_Comm_split succeeded with a colour, so it has written a valid handle.
        let part = Comm::of(unsafe { part.assume_init() });
        part.return_errors()?;
        Ok(Some(part))
    }

    /// Gives the communicator back. Collective, before MPI_Finalize.
    pub(super) fn free(mut self) -> Result<(), FabricError> {
        // SAFETY: a communicator that this type made, and that is not used again since `self` is consumed.
        checked("MPI_Comm_free", unsafe { ffi::MPI_Comm_free(&raw mut self.raw) })
    }

    /// The place of this process.
    pub(super) fn place(&self) -> Result<u32, FabricError> {
        let mut place: c_int = 0;
        // SAFETY: a valid communicator, and `place` may be written.
        checked("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(self.raw, &raw mut place) })?;
        Ok(place as u32)
    }

    /// How many processes it has.
    pub(super) fn size(&self) -> Result<u32, FabricError> {
        let mut size: c_int = 0;
        // SAFETY: a valid communicator, and `size` may be written.
        checked("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(self.raw, &raw mut size) })?;
        Ok(size as u32)
    }

    /// The number that each process gives, in the order of places. Collective, and blocking: for small groups whose
    /// processes are all here.
    pub(super) fn all_gather(&self, number: u32) -> Result<Vec<u32>, FabricError> {
        let mine = number.to_ne_bytes();
        let mut all = vec![0u8; self.size()? as usize * mine.len()];
        let each = mine.len() as c_int;
        // SAFETY: both buffers live until this blocking call returns, and `all` has room for every process's part.
        checked("MPI_Allgather", unsafe {
            let to = all.as_mut_ptr().cast::<c_void>();
            ffi::MPI_Allgather(mine.as_ptr().cast::<c_void>(), each, byte(), to, each, byte(), self.raw)
        })?;
        // Ranks of one job have one byte order.
        Ok(all.chunks_exact(4).map(|part| u32::from_ne_bytes([part[0], part[1], part[2], part[3]])).collect())
    }

    /// Matches a message that is there, from anybody or from one process, without receiving it.
    pub(super) fn look(&self, from: Option<usize>) -> Result<Option<Arrived>, FabricError> {
        // SAFETY: constants that rsmpi's C part initialises at load time.
        let (any, mut raw) = unsafe { (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_MESSAGE_NULL) };
        let source = from.map_or(any, |place| place as c_int);
        let mut flag: c_int = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::zeroed();
        // SAFETY: a valid communicator; flag, message and status may be written.
        checked("MPI_Improbe", unsafe {
            ffi::MPI_Improbe(source, TAG, self.raw, &raw mut flag, &raw mut raw, status.as_mut_ptr())
        })?;
        if flag == 0 {
            return Ok(None);
        }
        let mut count: c_int = 0;
        // SAFETY: MPI_Improbe found a message, so the status is set; a zeroed status is valid as plain integers anyway.
        let from = unsafe {
            checked("MPI_Get_count", ffi::MPI_Get_count(status.as_ptr(), byte(), &raw mut count))?;
            status.assume_init().MPI_SOURCE
        };
        match (usize::try_from(from), usize::try_from(count)) {
            (Ok(from), Ok(bytes)) => Ok(Some(Arrived { raw, from, bytes })),
            _ => Err(FabricError::Misuse("MPI matched a message without a sender or a length")),
        }
    }

    /// Starts to send.
    pub(super) fn send(&self, to: usize, message: Vec<u8>) -> Result<Transfer, FabricError> {
        let bytes = message.len();
        let mut transfer = Transfer::of(message, bytes);
        let count = count_of(bytes)?;
        // SAFETY: the buffer lives in `transfer`, which frees it only when MPI is done with it; the request may be
        // written.
        let code = unsafe {
            let from = transfer.buffer.as_ptr().cast::<c_void>();
            ffi::MPI_Isend(from, count, byte(), to as c_int, TAG, self.raw, &raw mut transfer.raw)
        };
        transfer.started("MPI_Isend", code)
    }

    /// Starts to wait for everybody. Collective.
    pub(super) fn barrier(&self) -> Result<Transfer, FabricError> {
        let mut transfer = Transfer::of(Vec::new(), 0);
        // SAFETY: a valid communicator, and the request may be written.
        let code = unsafe { ffi::MPI_Ibarrier(self.raw, &raw mut transfer.raw) };
        transfer.started("MPI_Ibarrier", code)
    }

    /// Starts to send the first process's buffer to all others, whose buffers are as long. Collective.
    pub(super) fn broadcast(&self, buffer: Vec<u8>) -> Result<Transfer, FabricError> {
        let bytes = buffer.len();
        let mut transfer = Transfer::of(buffer, bytes);
        let count = count_of(bytes)?;
        // SAFETY: the buffer lives in `transfer`, which frees it only when MPI is done with it.
        let code = unsafe {
            let at = transfer.buffer.as_mut_ptr().cast::<c_void>();
            ffi::MPI_Ibcast(at, count, byte(), 0, self.raw, &raw mut transfer.raw)
        };
        transfer.started("MPI_Ibcast", code)
    }

    /// Starts to bring every process's buffer to the first, which alone knows how long each is. Collective.
    pub(super) fn gather(&self, mine: Vec<u8>, lengths: &[usize]) -> Result<Transfer, FabricError> {
        let mut offsets = Vec::with_capacity(lengths.len());
        let mut total = 0;
        for length in lengths {
            offsets.push(count_of(total)?);
            total += length;
        }
        count_of(total)?;
        let counts = lengths.iter().map(|length| count_of(*length)).collect::<Result<_, _>>()?;
        let bytes = mine.len();
        let mut transfer = Transfer::of(mine, bytes);
        // One byte too many, so that the address is never that of an empty vector (see `Transfer::of`).
        let parts = transfer.parts.insert(Box::new(Parts { counts, offsets, all: vec![0; total + 1] }));
        // SAFETY: all memory lives in `transfer`, which frees it only when MPI is done with it; at the root `all` has
        // room for the parts at their offsets, elsewhere it is not looked at.
        let code = unsafe {
            let from = transfer.buffer.as_ptr().cast::<c_void>();
            let to = parts.all.as_mut_ptr().cast::<c_void>();
            let (counts, offsets) = (parts.counts.as_ptr(), parts.offsets.as_ptr());
            let count = count_of(bytes)?;
            ffi::MPI_Igatherv(from, count, byte(), to, counts, offsets, byte(), 0, self.raw, &raw mut transfer.raw)
        };
        transfer.started("MPI_Igatherv", code)
    }
}

impl Arrived {
    /// Starts to receive it. A large one takes time, in which other messages may pass.
    pub(super) fn receive(mut self) -> Result<Transfer, FabricError> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(self.bytes).map_err(|_| FabricError::Memory(self.bytes))?;
        let mut transfer = Transfer::of(buffer, self.bytes);
        let count = count_of(self.bytes)?;
        // SAFETY: the buffer has capacity for `bytes` and lives in `transfer`, which frees it only when MPI is done
        // with it; the message handle is valid and used once, since `self` is consumed.
        let code = unsafe {
            let to = transfer.buffer.as_mut_ptr().cast::<c_void>();
            ffi::MPI_Imrecv(to, count, byte(), &raw mut self.raw, &raw mut transfer.raw)
        };
        transfer.started("MPI_Imrecv", code)
    }
}

impl Transfer {
    fn of(mut buffer: Vec<u8>, bytes: usize) -> Self {
        // The address of an empty vector without memory is 1, which is MPI_IN_PLACE to Open MPI.
        buffer.reserve_exact(usize::from(buffer.capacity() == 0));
        // SAFETY: a constant that rsmpi's C part initialises at load time.
        let raw = unsafe { ffi::RSMPI_REQUEST_NULL };
        Self { raw, buffer, bytes, parts: None, done: false }
    }

    fn started(mut self, call: &'static str, code: c_int) -> Result<Transfer, FabricError> {
        // What MPI refused to start it does not use.
        self.done = code != ffi::MPI_SUCCESS as c_int;
        checked(call, code).map(|()| self)
    }

    /// Whether it is done. After an error it is over too, but what it should have moved is not to be trusted.
    pub(super) fn test(&mut self) -> Result<bool, FabricError> {
        if self.done {
            return Ok(true);
        }
        let mut flag: c_int = 0;
        // SAFETY: the request was started and is not over; the status is not asked for.
        let code = unsafe { ffi::MPI_Test(&raw mut self.raw, &raw mut flag, ffi::RSMPI_STATUS_IGNORE) };
        if let Err(error) = checked("MPI_Test", code) {
            // MPI has given up the request but may have left its memory in use: it is leaked.
            std::mem::forget(std::mem::take(&mut self.buffer));
            std::mem::forget(self.parts.take());
            self.done = true;
            return Err(error);
        }
        self.done = flag != 0;
        Ok(self.done)
    }

    /// The buffer, when it is done.
    pub(super) fn into_buffer(mut self) -> Vec<u8> {
        assert!(self.done, "the transfer is still under way");
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() >= self.bytes {
            // SAFETY: the capacity suffices, and the transfer is done: MPI has written (or was given) `bytes` bytes.
            unsafe { buffer.set_len(self.bytes) };
        }
        buffer
    }

    /// The parts that were gathered, in the order of places, when it is done.
    pub(super) fn into_parts(mut self) -> Vec<Vec<u8>> {
        assert!(self.done, "the transfer is still under way");
        let Some(parts) = self.parts.take() else { return Vec::new() };
        let place = |(offset, count): (&c_int, &c_int)| parts.all[*offset as usize..][..*count as usize].to_vec();
        parts.offsets.iter().zip(&parts.counts).map(place).collect()
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.done {
            // MPI may still read or write it, for as long as the process lives.
            std::mem::forget(std::mem::take(&mut self.buffer));
            std::mem::forget(self.parts.take());
        }
    }
}

/// What the library says of itself; may be asked before MPI_Init.
pub(super) fn library_version() -> String {
    let mut text = [0u8; ffi::MPI_MAX_LIBRARY_VERSION_STRING as usize + 1];
    let mut length: c_int = 0;
    // SAFETY: the buffer is larger than MPI_MAX_LIBRARY_VERSION_STRING, and both pointers are valid for writing.
    let code = unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr().cast::<c_char>(), &raw mut length) };
    if code != ffi::MPI_SUCCESS as c_int {
        return String::new();
    }
    String::from_utf8_lossy(&text[..usize::try_from(length).unwrap_or(0).min(text.len())]).trim().to_owned()
}

/// Ends MPI, where it runs: collective over all ranks.
pub fn finalize() {
    if ::mpi::environment::is_initialized() && !::mpi::environment::is_finalized() {
        // SAFETY: MPI runs.
        unsafe { ffi::MPI_Finalize() };
    }
}

/// Has `end` called as the first thing that MPI_Finalize does, while all calls of MPI still work; it should not return. That is
/// what MPI does with attributes of MPI_COMM_SELF (MPI 3.1, 8.7.1).
///
/// # Errors
/// MPI refuses.
pub fn instead_of_finalizing(end: fn()) -> Result<(), FabricError> {
    unsafe extern "C" fn none_copied(
        _: ffi::MPI_Comm,
        _: c_int,
        _: *mut c_void,
        _: *mut c_void,
        _: *mut c_void,
        is_copied: *mut c_int,
    ) -> c_int {
        // SAFETY: MPI's own variable.
        unsafe { is_copied.write(0) };
        ffi::MPI_SUCCESS as c_int
    }
    unsafe extern "C" fn ends(_: ffi::MPI_Comm, _: c_int, end: *mut c_void, _: *mut c_void) -> c_int {
        // SAFETY: the attribute below.
        let end: fn() = unsafe { std::mem::transmute(end) };
        end();
        ffi::MPI_SUCCESS as c_int
    }
    let mut key: c_int = 0;
    // SAFETY: functions that live for ever, and `key` may be written.
    let made =
        unsafe { ffi::MPI_Comm_create_keyval(Some(none_copied), Some(ends), &raw mut key, std::ptr::null_mut()) };
    checked("MPI_Comm_create_keyval", made)?;
    // SAFETY: a constant that rsmpi's C part initialises at load time; the attribute is a pointer to a function, which no caller
    // reads.
    checked("MPI_Comm_set_attr", unsafe { ffi::MPI_Comm_set_attr(ffi::RSMPI_COMM_SELF, key, end as *mut c_void) })
}

/// Has a signal ignored by this process, unless the program itself has said what it is for: neither what the system does upon it
/// nor what MPI does is wanted.
pub(super) fn ignore_but_for_the_program(signal: c_int) {
    let mut present = MaybeUninit::uninit();
    // SAFETY: asks only, and `present` may be written.
    if unsafe { libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: it is written where the call gave 0.
    let handler = unsafe { present.assume_init() }.sa_sigaction;
    if handler == libc::SIG_DFL
        || object_of(handler).is_some_and(|of| object_of(ffi::MPI_Init as *const () as usize) == Some(of))
    {
        ignore_signal(signal);
    }
}

/// Where the library or program begins that a function belongs to.
fn object_of(function: usize) -> Option<usize> {
    let mut about = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any address may be asked about, and `about` may be written; it is where the call does not give 0.
    let known = unsafe { libc::dladdr(function as *const c_void, about.as_mut_ptr()) != 0 };
    // SAFETY: as above.
    known.then(|| unsafe { about.assume_init() }.dli_fbase as usize)
}

/// Has a signal ignored by this process.
pub(super) fn ignore_signal(signal: c_int) {
    // SAFETY: SIG_IGN runs no code of ours. A signal number that does not exist changes nothing.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
