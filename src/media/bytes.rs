//! Bytes from the front of a slice, a few at a time.
//!
//! The program is compiled to be small, and then the standard library's iterators over pieces of a slice are calls,
//! several for each sample. What every sample goes through takes its bytes with these instead, in plain loops.

/// Takes the first `N` bytes off, if there are as many.
#[inline(always)]
pub(crate) fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

/// The same, to be written to. Where there are not as many, nothing is left.
#[inline(always)]
pub(crate) fn take_mut<'a, const N: usize>(bytes: &mut &'a mut [u8]) -> Option<&'a mut [u8; N]> {
    let (first, rest) = std::mem::take(bytes).split_first_chunk_mut()?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_their_order_and_only_whole_pieces() {
        let mut bytes: &[u8] = &[1, 2, 3, 4, 5];
        assert_eq!(take(&mut bytes), Some(&[1, 2]));
        assert_eq!(take(&mut bytes), Some(&[3, 4]));
        assert_eq!(take::<2>(&mut bytes), None);
        assert_eq!(bytes, [5]);

        let mut out = [0; 5];
        let mut room = &mut out[..];
        *take_mut(&mut room).expect("there is room") = [1, 2];
        *take_mut(&mut room).expect("there is room") = [3, 4];
        assert_eq!(take_mut::<2>(&mut room), None);
        assert_eq!(out, [1, 2, 3, 4, 0]);
    }
}
