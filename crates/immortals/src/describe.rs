//! A message in a few words, for people.

use bytes::Bytes;
use protocol::immortal::Message;

/// How much of a payload is shown, in bytes.
const SHOWN_BYTES: usize = 100;

pub(crate) fn describe(message: &Message) -> String {
    let text = |payload: &Bytes| {
        let shown = &payload[..payload.len().min(SHOWN_BYTES)];
        format!("{:?} ({} bytes)", String::from_utf8_lossy(shown), payload.len())
    };
    match message {
        Message::Fork { method, payload } => format!("fork of method {method}: {}", text(payload)),
        Message::Call { id, method, payload } => {
            format!("call {id} of method {method}: {}", text(payload))
        }
        Message::Answer { id, payload, .. } => format!("answer to call {id}: {}", text(payload)),
        Message::Impulse { method, payload } => {
            format!("impulse of method {method}: {}", text(payload))
        }
        Message::Start { payload } => format!("start: {}", text(payload)),
        Message::Timer { id } => format!("timer {id}"),
        Message::Result { id, payload, .. } => {
            format!("result of side effect {id}: {}", text(payload))
        }
        Message::Upgrade { version } => format!("upgrade to version {version}"),
        Message::Skipped => "an input that was taken out".into(),
    }
}
