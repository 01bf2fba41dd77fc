//! A buffer as the storage of a tensor of Burn's.

use std::mem::MaybeUninit;

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

use super::Buffer;

impl Buffer {
    /// As the storage of a tensor; it comes back when the tensor is gone.
    pub fn into_bytes(self) -> Bytes {
        let bytes = size_of_val(&self[..]);
        // SAFETY: all numbers of a buffer are initialised, so all its bytes are.
        unsafe { Bytes::from_controller(Box::new(Lent(self)), bytes) }
    }
}

/// A buffer as the storage of a tensor.
struct Lent(Buffer);

impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        // What users of the bytes may rely on, and copies are made with.
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        // SAFETY: the same bytes; the caller promises to write initialised ones only.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.0);
        // SAFETY: the same bytes, to read.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;

    #[test]
    fn what_a_tensor_gives_back_is_lent_again() {
        // A length that no other test uses.
        let length = 5003;
        let mut buffer = Buffer::new(length);
        buffer[17] = 4.0;
        let place = buffer.as_ptr();
        assert_eq!(place.addr() % size_of::<Line>(), 0);
        let bytes = buffer.into_bytes();
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&bytes)[17], 4.0);
        drop(bytes);
        let again = Buffer::new(length);
        assert_eq!(again.as_ptr(), place);
        assert_ne!(Buffer::new(length).as_ptr(), place);
        drop(again);
        assert!(Buffer::zeros(length).iter().all(|number| *number == 0.0));
    }
}
