//! The door as the node sees it: bytes in, frames out, and back.

use bytes::Bytes;
use protocol::immortal::{Garbled, ToNode, ToProgram};

use super::decoder::Decoder;
use super::options::AmbrosiaOptions;
use super::translator::Translator;

/// One connection with an LB, on two sockets: one brings what it says, the other takes what it is
/// told.
#[derive(Debug)]
pub struct AmbrosiaAdapter {
    decoder: Decoder,
    translator: Translator,
    /// What ended the connection. Nothing is said after it.
    trouble: Option<Garbled>,
}

impl AmbrosiaAdapter {
    /// Both sockets are connected.
    pub fn new(options: AmbrosiaOptions) -> Self {
        let translator = Translator::new(options);
        Self { decoder: Decoder::new(), translator, trouble: None }
    }

    /// Tests an upgrade: the state is upgraded as soon as it is loaded, and the whole log is
    /// replayed by the new code. An UPGRADE in the log is then passed over.
    #[must_use]
    pub fn test_upgrade(mut self) -> Self {
        self.translator.test_upgrade();
        self
    }

    /// Takes bytes that the LB has written, cut anywhere. The first call gives the HELLO that an LB
    /// does not have, also when there are no bytes yet; a call without bytes after a PRIMARY gives
    /// the impulses that came before it.
    ///
    /// # Errors
    /// What was expected instead. The connection has ended then, and every later call says the
    /// same.
    pub fn hear(&mut self, bytes: Bytes, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        self.translator.begin(said);
        let heard = self.decoder.hear(bytes, &mut |word| self.translator.word(word, said));
        self.translator.end(said);
        if let Err(trouble) = &heard {
            self.trouble = Some(trouble.clone());
        }
        heard
    }

    /// Gives the bytes that tell a frame to the LB: none, when AMBROSIA has no word for it. For an
    /// ERROR it has none either, but it is told as a message that makes every binding end its
    /// program; closing the sockets would not.
    ///
    /// A PING is not answered here. An LB cannot be asked whether it is alive, and an answer from
    /// the door would only say that the door is. So a program that hangs in a handler is noticed by
    /// what it leaves undone (a checkpoint that does not come, a socket that is not read), or not
    /// at all.
    pub fn tell(&mut self, frame: &ToProgram, out: &mut Vec<Bytes>) {
        if self.trouble.is_some() && !matches!(frame, ToProgram::Error { .. }) {
            return;
        }
        if let Err(trouble) = self.translator.frame(frame, out) {
            self.trouble = Some(trouble);
        }
    }

    /// Why the connection has to be closed: the LB or the core said something that makes no sense.
    pub fn trouble(&self) -> Option<&Garbled> {
        self.trouble.as_ref()
    }

    /// Whether a DONE follows each input. It does not: an LB never says what it has handled. Only
    /// when it sends a checkpoint that it was asked for, all inputs before the question are handled
    /// and what they caused was sent; there a DONE is said. Between two checkpoints, what the
    /// socket takes is the only measure of how fast a program is.
    ///
    /// One binding does not keep to this: the C# one may write a checkpoint past outputs that its
    /// sender thread has not taken yet. They follow the checkpoint at once, and are not in it. If
    /// no input is told between the request and a little after the checkpoint, a SEND that comes
    /// there gives it away, and the checkpoint can be asked for again.
    pub fn confirms(&self) -> bool {
        false
    }

    /// The program was the primary and is not any more, and cannot be told. AMBROSIA kills it, and
    /// a new start makes it a standby: an ERROR comes to the same. If it is left alone it goes on
    /// as a standby that believes to be more: its impulses are dropped, and it is not told again
    /// when it becomes the primary again.
    pub fn is_ousted(&self) -> bool {
        self.translator.is_ousted()
    }

    /// The LB was asked for a checkpoint, by whichever word, and has not given all of it. A
    /// coordinator tells an LB nothing more until then, and one binding depends on it: the
    /// JavaScript one goes on reading while it sends a checkpoint, and dies when it is asked for
    /// another one meanwhile.
    pub fn is_taking_checkpoint(&self) -> bool {
        self.translator.is_taking_checkpoint()
    }

    /// How many impulses were dropped, because the program was not the primary.
    pub fn impulses_lost(&self) -> u64 {
        self.translator.impulses_lost()
    }

    /// How many inputs were passed over, because their method number has more than AMBROSIA's 32
    /// bits.
    pub fn inputs_ignored(&self) -> u64 {
        self.translator.inputs_ignored()
    }
}
