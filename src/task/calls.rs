//! What a run of function calls leaves behind, packed: for each task how long it took and the value that it gave, if any.
//! One byte a task suffices where functions take less than 64 ns and give nothing.
//!
//! Layout, for each task in order: `duration in nanoseconds × 2 + (1 if a value follows)` as LEB128 (DWARF 5, 7.6); then
//! the value's length as LEB128, and the value.

/// Packs the calls of consecutive tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedCalls {
    bytes: Vec<u8>,
}

/// One call, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackedCall<'a> {
    /// Nanoseconds.
    pub duration_ns: u64,
    /// Empty where there was none.
    pub value: &'a [u8],
}

impl PackedCalls {
    /// Adds the next task's call. Durations above 292 years are cut.
    pub fn push(&mut self, duration_ns: u64, value: &[u8]) {
        let duration_ns = duration_ns.min(u64::MAX >> 1);
        put_number(&mut self.bytes, duration_ns << 1 | u64::from(!value.is_empty()));
        if !value.is_empty() {
            put_number(&mut self.bytes, value.len() as u64);
            self.bytes.extend_from_slice(value);
        }
    }

    /// The packed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Takes one call off the front; `None` where the bytes are cut off or no packed calls.
pub fn take_call<'a>(bytes: &mut &'a [u8]) -> Option<UnpackedCall<'a>> {
    let number = take_number(bytes)?;
    let mut value: &[u8] = &[];
    if number & 1 == 1 {
        let length = usize::try_from(take_number(bytes)?).ok()?;
        let (own, rest) = bytes.split_at_checked(length)?;
        (value, *bytes) = (own, rest);
    }
    Some(UnpackedCall { duration_ns: number >> 1, value })
}

/// Appends a number as LEB128.
pub(crate) fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Takes such a number off the front; `None` where it is cut off or too large.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn calls_are_read_back_as_they_were_packed(
            calls in prop::collection::vec((0..u64::MAX >> 1, prop::collection::vec(any::<u8>(), 0..300)), 0..40)
        ) {
            let mut packed = PackedCalls::default();
            calls.iter().for_each(|(duration_ns, value)| packed.push(*duration_ns, value));
            let mut bytes = packed.bytes();
            for (duration_ns, value) in &calls {
                prop_assert_eq!(take_call(&mut bytes), Some(UnpackedCall { duration_ns: *duration_ns, value }));
            }
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn any_bytes_are_calls_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while take_call(&mut rest).is_some() {}
        }
    }

    #[test]
    fn a_short_call_without_a_value_takes_one_byte() {
        let mut packed = PackedCalls::default();
        packed.push(63, b"");
        assert_eq!(packed.bytes().len(), 1);
    }
}
