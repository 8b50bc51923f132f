//! The adapter as the node sees it: bytes of the program in, frames out, and back.

use bytes::Bytes;
use protocol::immortal::{Garbled, ToNode, ToProgram};

use super::decoder::Decoder;
use super::options::AmbrosiaOptions;
use super::translator::Translator;

/// One connection with an LB, on two sockets: one brings what the LB writes, the other takes what
/// it is told.
#[derive(Debug)]
pub struct AmbrosiaAdapter {
    decoder: Decoder,
    translator: Translator,
    /// What ended the connection. Nothing is told after it.
    trouble: Option<Garbled>,
}

impl AmbrosiaAdapter {
    /// Both sockets are connected.
    pub fn new(options: AmbrosiaOptions) -> Self {
        let translator = Translator::new(options);
        Self { decoder: Decoder::new(), translator, trouble: None }
    }

    /// Tests an upgrade: the state is upgraded as soon as it is loaded, and the new code replays
    /// the whole log. An UPGRADE in the log is passed over then.
    #[must_use]
    pub fn test_upgrade(mut self) -> Self {
        self.translator.test_upgrade();
        self
    }

    /// Takes bytes that the LB has written, cut anywhere. The first call gives the HELLO that an LB
    /// does not have, even when there are no bytes. A call without bytes after a PRIMARY gives the
    /// impulses that came before it.
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

    /// Gives the bytes that tell a frame to the LB: none when AMBROSIA has no message for it.
    /// AMBROSIA has none for an ERROR either. An ERROR is told as a message that makes every
    /// binding end its program; closing the sockets would not.
    ///
    /// A PING is not answered here. An LB cannot be asked whether it is alive, and an answer of the
    /// adapter would say only that the adapter is. So a program that hangs in a handler is noticed
    /// by what it leaves undone (a checkpoint that does not come, a socket that is not read), or
    /// not at all.
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

    /// Whether a DONE follows each input. It does not, because an LB never says what it has
    /// handled. The LB shows it once: when it sends a checkpoint that it was asked for, it has
    /// handled all inputs before the request and has sent what they caused. The adapter says DONE
    /// there. Between two checkpoints, how fast the socket is read is the only measure of how fast
    /// a program is.
    ///
    /// The C# binding does not keep to this: it may write a checkpoint past outputs that its sender
    /// thread has not taken. Those follow the checkpoint at once, and are not in it. If the program
    /// is told no input between the request and a little after the checkpoint, a SEND that comes
    /// there gives it away, and the checkpoint can be asked for again.
    pub fn confirms(&self) -> bool {
        false
    }

    /// Whether the program was the primary, is not any more, and cannot be told. AMBROSIA kills
    /// such a program, and a new start makes it a standby. An ERROR comes to the same. A program
    /// that is left alone goes on as a standby that takes itself for the primary: its impulses are
    /// dropped, and it is not told when it becomes the primary again.
    pub fn is_ousted(&self) -> bool {
        self.translator.is_ousted()
    }

    /// Whether the LB was asked for a checkpoint, by any of the messages for it, and has not given
    /// all of it. A coordinator tells an LB nothing more until then, and the JavaScript binding
    /// depends on that: it goes on reading while it sends a checkpoint, and dies when it is asked
    /// for another one meanwhile.
    pub fn is_taking_checkpoint(&self) -> bool {
        self.translator.is_taking_checkpoint()
    }

    /// How many impulses were dropped because the program was not the primary.
    pub fn impulses_lost(&self) -> u64 {
        self.translator.impulses_lost()
    }

    /// How many inputs were passed over because their method number has more than AMBROSIA's 32
    /// bits.
    pub fn inputs_ignored(&self) -> u64 {
        self.translator.inputs_ignored()
    }
}
