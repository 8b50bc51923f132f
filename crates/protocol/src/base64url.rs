//! Bytes as letters, digits, `-` and `_`, for links (RFC 4648, section 5, without padding).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let wide = group.iter().fold(0_u32, |wide, byte| wide << 8 | u32::from(*byte));
        let wide = wide << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            let six = usize::try_from(wide >> (18 - 6 * place) & 63).expect("six bits fit");
            text.push(char::from(ALPHABET[six]));
        }
    }
    text
}

/// None when the text was not made by [`encode`].
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut wide = 0_u32;
        for letter in group {
            let six = ALPHABET.iter().position(|known| known == letter)?;
            wide = wide << 6 | u32::try_from(six).ok()?;
        }
        wide <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&wide.to_be_bytes()[1..group.len()]);
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_text() {
        assert_eq!(encode(b"Amrita"), "QW1yaXRh");
        for length in 0..50_u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["A", "QW1yaXR", "QW1$", "QW1yaXRh="] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
