//! The one form of a number of variable length: LEB128, seven bits a byte, the lowest first.

/// A number takes at most this many bytes.
const NUMBER_BYTES_MAX: usize = 10;

/// Why there is no number at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNumber {
    /// The bytes end before it does.
    CutShort,
    /// It is longer than 64 bits.
    TooLong,
}

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes a number off the front. After an error the bytes are as they were.
///
/// # Errors
/// When it is cut short or longer than 64 bits.
pub fn take(from: &mut &[u8]) -> Result<u64, NoNumber> {
    let (number, length) = read(from)?;
    *from = &from[length..];
    Ok(number)
}

/// The number at the front, and how many bytes it takes.
///
/// # Errors
/// As [`take`].
pub fn read(bytes: &[u8]) -> Result<(u64, usize), NoNumber> {
    // Nearly all are short.
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((u64::from(first), 1));
    }
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(NUMBER_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if place == NUMBER_BYTES_MAX - 1 && bits > 1 {
            return Err(NoNumber::TooLong);
        }
        number |= bits << (7 * place);
        if byte & 0x80 == 0 {
            return Ok((number, place + 1));
        }
    }
    Err(if bytes.len() < NUMBER_BYTES_MAX { NoNumber::CutShort } else { NoNumber::TooLong })
}

/// How many bytes [`put`] writes.
pub fn length(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_and_takes_as_many_bytes_as_were_told() {
        for shift in 0..64 {
            for number in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(&mut bytes, number);
                assert_eq!(bytes.len(), length(number), "{number}");
                bytes.push(0x55);
                let mut rest = bytes.as_slice();
                assert_eq!(take(&mut rest), Ok(number));
                assert_eq!(rest, [0x55]);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_told_and_left_alone() {
        let look = |bytes: &[u8]| {
            let mut rest = bytes;
            let outcome = take(&mut rest);
            assert!(outcome.is_ok() || rest == bytes);
            outcome
        };
        assert_eq!(look(&[]), Err(NoNumber::CutShort));
        assert_eq!(look(&[0x80; 9]), Err(NoNumber::CutShort));
        assert_eq!(look(&[0x80; 10]), Err(NoNumber::TooLong));
        let mut longest = [0xff; 10];
        longest[9] = 1;
        assert_eq!(look(&longest), Ok(u64::MAX));
        longest[9] = 2;
        assert_eq!(look(&longest), Err(NoNumber::TooLong));
        longest[9] = 0x81;
        assert_eq!(look(&longest), Err(NoNumber::TooLong));
    }
}
