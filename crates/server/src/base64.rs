//! Base64 as `Authorization: Basic` has it (RFC 4648, section 4, with padding).

use protocol::base64url;

/// `None` when the text is not base64.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.contains(['-', '_']) {
        return None;
    }
    base64url::decode(&text.replace('+', "-").replace('/', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_sends_is_read() {
        assert_eq!(decode_base64("amFuZTpzZWNyZXQ=").unwrap(), b"jane:secret");
        assert_eq!(decode_base64("Pz8/fn5+").unwrap(), b"???~~~");
        assert!(decode_base64("Pz8_fn5-").is_none());
        assert!(decode_base64("é").is_none());
    }
}
