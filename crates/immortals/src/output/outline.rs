//! What two programs of one instance must send alike when they speak AMBROSIA's protocol: to each
//! destination the same kinds of messages with the same methods, in the same order. AMBROSIA lets
//! arguments differ, and its own programs put the present time into them.

use protocol::hash::scatter;
use protocol::immortal::{Garbled, Message, MessageView, View};

/// The sum of the outlines of all messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outline(u64);

impl Outline {
    /// Takes the next message from the front.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take(&mut self, from: &mut View<'_>) -> Result<(), Garbled> {
        let message = from.message()?.ok_or_else(|| Garbled::expected("one more message"))?;
        let (kind, method) = of_view(&message);
        self.0 = scatter(self.0 ^ u64::from(kind) ^ (method.cast_unsigned() << 4));
        Ok(())
    }

    /// As the log has it.
    pub(crate) fn sum(self) -> u32 {
        u32::try_from(self.0 >> 32).expect("32 bits are left")
    }
}

fn of_view(message: &MessageView<'_>) -> (u8, i64) {
    match *message {
        MessageView::Fork { method, .. } => (0, method),
        MessageView::Call { method, .. } => (1, method),
        MessageView::Answer { .. } => (2, 0),
        MessageView::Impulse { method, .. } => (3, method),
        MessageView::Start { .. } => (4, 0),
        MessageView::Timer { .. } => (5, 0),
        MessageView::Result { .. } => (6, 0),
        MessageView::Upgrade { .. } => (7, 0),
        MessageView::Skipped => (8, 0),
    }
}

/// Whether two messages are alike in that sense.
pub(crate) fn are_alike(one: &Message, other: &Message) -> bool {
    match (one, other) {
        (Message::Fork { method: one, .. }, Message::Fork { method: other, .. })
        | (Message::Call { method: one, .. }, Message::Call { method: other, .. })
        | (Message::Impulse { method: one, .. }, Message::Impulse { method: other, .. }) => {
            one == other
        }
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}
