//! Checkpoints that the program here takes.

use protocol::immortal::Garbled;
use storage::StoreError;

use crate::base::record::BaseRecord;
use crate::context::Context;
use crate::io::Output;
use crate::machine::instance::Instance;
use crate::machine::program_input::Fault;
use crate::seat::states::Seat;
use crate::seat::taking::{CHECKPOINT_MICROS_MAX, Part, Taking};

impl Instance {
    /// What time brings to a checkpoint that is being taken.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn watch_checkpoint(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        self.transfers.forget_silent(now);
        let Seat::Running(running) = &mut self.seat else { return Ok(()) };
        running.checkpoint.end_rest(now);
        let taking = running.checkpoint.taking.as_ref();
        if taking.is_some_and(|it| now.saturating_sub(it.since) > CHECKPOINT_MICROS_MAX) {
            outputs.push(Output::Note(format!(
                "the program of '{}' has not answered a TAKE_CHECKPOINT for {} s",
                self.identity.name,
                CHECKPOINT_MICROS_MAX / 1_000_000
            )));
            self.close_seat("RELOAD", "a checkpoint was asked for and did not come", outputs);
            return Ok(());
        }
        match running.checkpoint.take_ended(now) {
            Some(taking) => self.ended_checkpoint(cx, taking, outputs),
            None => Ok(()),
        }
    }

    /// A checkpoint of a program that does not confirm inputs counts when nothing has followed it.
    /// What followed is not in the checkpoint, and a program that begins with this checkpoint would
    /// not send it again. So another checkpoint is asked for.
    fn ended_checkpoint(
        &mut self,
        cx: &mut Context<'_>,
        taking: Taking,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let crc = match &taking.part {
            Part::Ended(_, end) if !taking.is_spoilt => end.crc,
            _ => {
                self.checkpoint.is_wanted = true;
                self.spill.look_for_garbage();
                self.base.discard(taking.into_writer());
                return Ok(());
            }
        };
        match self.checkpoint_taken(cx, taking, crc, outputs) {
            Ok(()) => Ok(()),
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::Program(why)) => {
                self.close_seat("BAD_FRAME", &why.0, outputs);
                Ok(())
            }
        }
    }

    /// Asks the program here for a checkpoint, if one is wanted of it.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn ask_for_wanted_checkpoint(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Seat::Running(running) = &mut self.seat else { return Ok(()) };
        if !self.checkpoint.is_wanted {
            return Ok(());
        }
        if self.base.has_state() && running.is_live_at(self.base.position()) {
            // No input has come since the last checkpoint. Others may not have that one.
            running.checkpoint.is_pausing = false;
            self.checkpoint.is_wanted = false;
            return self.hand_on(cx, outputs);
        }
        let request = self.checkpoint.requests + 1;
        if running.ask_checkpoint(request, cx.now.steady_micros) {
            self.checkpoint.requests = request;
            self.checkpoint.is_wanted = false;
        }
        Ok(())
    }

    /// The program has given its state.
    ///
    /// # Errors
    /// When the store fails, or the checksum is wrong.
    pub(crate) fn checkpoint_taken(
        &mut self,
        cx: &mut Context<'_>,
        taking: Taking,
        crc: u32,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let (Part::Given(given) | Part::Ended(given, _)) = taking.part else {
            unreachable!("a checkpoint ends after it has begun")
        };
        let mut writer = given.writer;
        if writer.crc() != crc {
            self.base.discard(Some(writer));
            return Err(Garbled("a checkpoint whose checksum is right".into()).into());
        }
        if taking.position <= self.base.position() {
            self.spill.look_for_garbage();
            self.base.discard(Some(writer));
            return Ok(());
        }
        let (blob, log_bytes) = (writer.blob(), self.history.log_bytes);
        let output = writer.put_output(cx.store, &cx.space, &given.output)?;
        let record = BaseRecord {
            position: taking.position,
            term: taking.term,
            input_state: taking.input_state,
            blob: Some(blob),
            output,
            blocks: given.blocks,
        };
        outputs.push(Output::Note(format!(
            "checkpoint of '{}' at input {}: {} bytes, for {log_bytes} bytes of log",
            self.identity.name, record.input_state.inputs, blob.bytes
        )));
        self.adopt(cx, record)?;
        Ok(self.hand_on(cx, outputs)?)
    }
}
