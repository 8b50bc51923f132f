//! What a handler or a task sends to immortals with the version that it makes.

use bytes::Bytes;
use protocol::{Code, InstanceMessage, Problem, is_instance_name};
use serde::Serialize;

/// How many messages may go with one version.
pub const MESSAGES_MAX: usize = 256;

/// How many bytes all messages of one version may have.
pub const MESSAGES_BYTES_MAX: usize = 1 << 20;

/// The messages that go with one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    messages: Vec<InstanceMessage>,
    bytes: usize,
}

impl Sending {
    /// # Errors
    /// When there can be no such instance, or there are too many messages, or too long ones.
    pub(crate) fn push(&mut self, message: InstanceMessage) -> Result<(), Problem> {
        let InstanceMessage { to, method, payload } = &message;
        if !is_instance_name(to) {
            let text = format!("'{to}' is no name of an instance, so nothing can be sent to it");
            return Err(Problem::bad_request(text));
        }
        if *method < 0 {
            let text = format!("the method of a message is a number from 0, not {method}");
            return Err(Problem::bad_request(text));
        }
        if self.messages.len() >= MESSAGES_MAX {
            let text = format!("a version has more than {MESSAGES_MAX} messages to immortals");
            return Err(Problem::bad_request(text));
        }
        let bytes = self.bytes + payload.len();
        if bytes > MESSAGES_BYTES_MAX {
            let text = format!(
                "the messages of a version to immortals have {bytes} bytes; the limit is \
                 {MESSAGES_BYTES_MAX}"
            );
            return Err(Problem::new(Code::TooLarge, text));
        }
        self.bytes = bytes;
        self.messages.push(message);
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Vec<InstanceMessage> {
        std::mem::take(self).messages
    }
}

/// A message with arguments for a program in Rust, Python or TypeScript: a tuple, or a list.
///
/// # Errors
/// When the arguments cannot be JSON.
pub fn message(
    to: &str,
    method: i64,
    arguments: &impl Serialize,
) -> Result<InstanceMessage, Problem> {
    let json = serde_json::to_vec(arguments).map_err(|error| {
        Problem::bad_request(format!("the arguments of a message to '{to}' are no JSON: {error}"))
    })?;
    // No arguments are `()`, which JSON has as null.
    let json = if json == b"null" { b"[]".to_vec() } else { json };
    Ok(InstanceMessage { to: to.to_owned(), method, payload: Bytes::from(json) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_list() {
        let payload = |message: Result<InstanceMessage, Problem>| message.unwrap().payload;
        assert_eq!(payload(message("ledger", 1, &("a", 2))), r#"["a",2]"#);
        assert_eq!(payload(message("ledger", 1, &())), "[]");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        let mut sending = Sending::default();
        let long = "x".repeat(MESSAGES_BYTES_MAX / 2);
        let refused = |sending: &mut Sending, to: &str, method, text: &str| {
            let payload = Bytes::from(text.to_owned());
            sending.push(InstanceMessage { to: to.into(), method, payload }).unwrap_err().message
        };
        let why = refused(&mut sending, "/app/orders/1", 1, "[]");
        assert!(why.contains("no name of an instance"), "{why}");
        let why = refused(&mut sending, "ledger", -1, "[]");
        assert!(why.contains("not -1"), "{why}");
        sending.push(message("ledger", 1, &(&long,)).unwrap()).unwrap();
        let why = refused(&mut sending, "ledger", 1, &long);
        assert!(why.contains("the limit is 1048576"), "{why}");
        for number in 1..MESSAGES_MAX {
            sending.push(message("ledger", 1, &(number,)).unwrap()).unwrap();
        }
        let why = refused(&mut sending, "ledger", 1, "[]");
        assert!(why.contains("more than 256"), "{why}");
        assert_eq!(sending.take().len(), MESSAGES_MAX);
        assert_eq!(sending, Sending::default());
    }
}
