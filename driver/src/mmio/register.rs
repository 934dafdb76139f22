//! Any 32-bit register of a mapped BAR, for bring-up and for functions that are no A1.

use std::sync::atomic::{Ordering, fence};

use super::Window;

/// Why a register of a [`Window`] could not be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The register is not in the window. Nothing was accessed.
    #[error(
        "a register at {offset:#x} is not in a window of {length:#x} bytes: map more of the BAR"
    )]
    OutOfBounds {
        /// From the window's start.
        offset: usize,
        /// Of the window.
        length: usize,
    },
    /// A 32-bit register is at a multiple of 4. Nothing was accessed.
    #[error("a 32-bit register cannot be at {offset:#x}, which is no multiple of 4")]
    Misaligned {
        /// From the window's start.
        offset: usize,
    },
    /// The BAR is gone, as [`Window::is_lost`] says; the value read or written means nothing.
    #[error(
        "the BAR was gone when the register at {offset:#x} was accessed: open the function again when it is back"
    )]
    Lost {
        /// From the window's start.
        offset: usize,
    },
}

impl Window {
    /// Reads a 32-bit register, which is little-endian as all of PCI. What is read from memory afterwards is what the
    /// function wrote before it answered.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn read_u32(&self, offset: usize) -> Result<u32, RegisterError> {
        self.check(offset)?;
        // SAFETY: just checked.
        let value = unsafe { self.read(offset) };
        fence(Ordering::Acquire);
        self.found(offset)?;
        Ok(u32::from_le(value))
    }

    /// Writes a 32-bit register. What was written to memory before is visible first, so that it may be a doorbell.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn write_u32(&self, offset: usize, value: u32) -> Result<(), RegisterError> {
        self.check(offset)?;
        fence(Ordering::Release);
        // SAFETY: just checked.
        unsafe { self.write(offset, value.to_le()) };
        self.found(offset)
    }

    fn check(&self, offset: usize) -> Result<(), RegisterError> {
        if !offset.is_multiple_of(size_of::<u32>()) {
            return Err(RegisterError::Misaligned { offset });
        }
        // A window's length is a multiple of the page, so that an aligned register that begins in it ends in it.
        if offset >= self.length {
            return Err(RegisterError::OutOfBounds {
                offset,
                length: self.length,
            });
        }
        Ok(())
    }

    fn found(&self, offset: usize) -> Result<(), RegisterError> {
        if self.is_lost() {
            return Err(RegisterError::Lost { offset });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::region;
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn registers_are_little_endian_words_where_the_offset_says() {
        let (file, info) = region(8192, 8192, true);
        let window = Window::map(0, &info, 4096, 4096).unwrap();
        window.write_u32(0, 0x0403_0201).unwrap();
        window.write_u32(4092, 0x0807_0605).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
        file.read_exact_at(&mut bytes, 8188).unwrap();
        assert_eq!(bytes, [5, 6, 7, 8]);
        file.write_all_at(&[9, 0, 0, 0x80], 4096).unwrap();
        assert_eq!(window.read_u32(0), Ok(0x8000_0009));
    }

    #[test]
    fn registers_beyond_the_window_are_refused() {
        let (_file, info) = region(8192, 8192, true);
        let window = Window::map(0, &info, 0, 4096).unwrap();
        for offset in [4096, 8192, usize::MAX - 3] {
            let refused = RegisterError::OutOfBounds {
                offset,
                length: 4096,
            };
            assert_eq!(window.read_u32(offset), Err(refused));
            assert_eq!(window.write_u32(offset, 1), Err(refused));
        }
    }

    #[test]
    fn registers_across_words_are_refused() {
        let (_file, info) = region(4096, 4096, true);
        let window = Window::map(0, &info, 0, 4096).unwrap();
        for offset in [1, 2, 4095, usize::MAX] {
            let refused = RegisterError::Misaligned { offset };
            assert_eq!(window.read_u32(offset), Err(refused));
            assert_eq!(window.write_u32(offset, 1), Err(refused));
        }
    }
}
