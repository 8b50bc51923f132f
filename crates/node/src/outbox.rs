//! What a step wants to send to other nodes, gathered so that each link gets few frames in a step.

use std::collections::BTreeMap;

use protocol::ReplicaId;

use crate::frame::{self, Frame, LinkFrame, TooLong};
use crate::io::{Level, Output};

/// A frame on a link that has this many bytes is closed, and another one is begun. So the receiver
/// works on the first while the next is on its way, and no step makes a frame that is over the
/// limit.
const GATHERED_BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Outbox {
    to_replicas: BTreeMap<ReplicaId, Vec<Frame>>,
    to_links: BTreeMap<u64, Vec<Frame>>,
}

impl Outbox {
    /// Sends to a replica, over whatever link leads there. The frame is dropped when there is no
    /// link: all that is sent this way is either repeated by consensus or watched by a deadline.
    pub(crate) fn send(&mut self, to: ReplicaId, frame: Frame) {
        self.to_replicas.entry(to).or_default().push(frame);
    }

    pub(crate) fn send_on(&mut self, link: u64, frame: Frame) {
        self.to_links.entry(link).or_default().push(frame);
    }

    /// Puts out all frames. Those for one link keep the order in which they were given.
    pub(crate) fn flush(
        &mut self,
        link_of: impl Fn(ReplicaId) -> Option<u64>,
        outputs: &mut Vec<Output>,
    ) {
        for (replica, frames) in std::mem::take(&mut self.to_replicas) {
            if let Some(link) = link_of(replica) {
                self.to_links.entry(link).or_default().extend(frames);
            }
        }
        for (link, frames) in std::mem::take(&mut self.to_links) {
            for gathered in gather(frames) {
                let encoded = encode_all(gathered, outputs);
                outputs.extend(encoded.into_iter().map(|frame| Output::Send { link, frame }));
            }
        }
    }
}

/// Encodes frames together, or in several frames if one would be too long. A frame that is too long
/// by itself is not sent; the node that waits for it gets an error instead.
fn encode_all(frames: Vec<Frame>, outputs: &mut Vec<Output>) -> Vec<LinkFrame> {
    let (mut waiting, mut encoded) = (vec![frames], Vec::new());
    while let Some(frames) = waiting.pop() {
        match frame::encode(frames) {
            Ok(frame) => encoded.push(frame),
            Err(TooLong { mut frames, bytes }) => {
                if frames.len() > 1 {
                    let behind = frames.split_off(frames.len() / 2);
                    waiting.extend([behind, frames]);
                    continue;
                }
                let text = format!("a frame of {bytes} bytes for another node is not sent");
                outputs.push(Output::Note { level: Level::Error, text });
                waiting
                    .extend(frames.pop().and_then(|frame| frame.instead(bytes)).map(|it| vec![it]));
            }
        }
    }
    encoded
}

/// Parts of about the right length, in order.
fn gather(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for mut frame in frames {
        let last = parts.last_mut().expect("there is one from the beginning");
        if bytes >= GATHERED_BYTES {
            bytes = frame.weight();
            parts.push(vec![frame]);
        } else {
            bytes += frame.weight();
            last.push(frame);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::Response;
    use query::{Hit, Page};

    use super::*;
    use crate::frame::Answer;

    /// An answer of `bytes` bytes, all of them in short fields.
    fn long_answer(number: u64, bytes: usize) -> Frame {
        let hit = |link: usize| Hit {
            sort_key: Vec::new(),
            link: link.to_string(),
            version: 0,
            document: Some(Bytes::from(vec![1; 30_000])),
            selected: Vec::new(),
        };
        let hits = (0..bytes / 30_000).map(hit).collect();
        let answer = Answer::Page(Page { hits, ..Page::default() });
        Frame::Answer { boot: 1, number, answer }
    }

    fn sent(frames: Vec<Frame>) -> (Vec<Frame>, Vec<String>) {
        let mut outbox = Outbox::default();
        frames.into_iter().for_each(|frame| outbox.send_on(7, frame));
        let mut outputs = Vec::new();
        outbox.flush(|_| None, &mut outputs);
        let (mut frames, mut notes) = (Vec::new(), Vec::new());
        for output in outputs {
            match output {
                Output::Send { frame, .. } => {
                    let whole = Bytes::from(frame.concat());
                    assert!(whole.len() <= frame::FRAME_BYTES_MAX);
                    frames.extend(frame::decode(&whole).unwrap());
                }
                Output::Note { text, .. } => notes.push(text),
                other => panic!("{other:?}"),
            }
        }
        (frames, notes)
    }

    #[test]
    fn hits_are_counted_in_what_a_frame_weighs() {
        let (frames, notes) = sent((0..40).map(|number| long_answer(number, 8 << 20)).collect());
        assert_eq!((frames.len(), notes.len()), (40, 0));
    }

    #[test]
    fn an_answer_that_is_too_long_is_told_and_the_others_are_sent() {
        let too_long = long_answer(2, frame::FRAME_BYTES_MAX + (1 << 20));
        let (frames, notes) = sent(vec![long_answer(1, 100_000), too_long, Frame::Stranger]);
        assert_eq!((frames.len(), notes.len()), (3, 1));
        let Frame::Answer { number: 2, answer: Answer::Response(response), .. } = &frames[1] else {
            panic!("{:?}", frames[1])
        };
        assert_eq!(response.status, 413);
    }

    #[test]
    fn what_is_too_long_together_is_sent_in_parts_in_order() {
        // As if all had been gathered into one frame.
        let frames = (0..5).map(|number| long_answer(number, 20 << 20)).collect();
        let mut notes = Vec::new();
        let encoded = encode_all(frames, &mut notes);
        assert!(encoded.len() > 1 && notes.is_empty());
        let decoded =
            encoded.iter().flat_map(|frame| frame::decode(&frame.concat().into()).unwrap());
        let numbers = decoded.map(|frame| match frame {
            Frame::Answer { number, .. } => number,
            other => panic!("{other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), (0..5).collect::<Vec<u64>>());
    }

    #[test]
    fn much_goes_out_in_several_frames_in_order() {
        let mut outbox = Outbox::default();
        for number in 0..40 {
            let body = Bytes::from(vec![1; 40_000]);
            let answer = Answer::Response(Response::bytes(200, body));
            outbox.send_on(7, Frame::Answer { boot: 1, number, answer });
        }
        outbox.send_on(8, Frame::Stranger);
        let mut outputs = Vec::new();
        outbox.flush(|_| None, &mut outputs);
        let mut numbers = Vec::new();
        let mut count = 0;
        for output in outputs {
            let Output::Send { link, frame } = output else { panic!("{output:?}") };
            let whole = Bytes::from(frame.concat());
            assert!(whole.len() < GATHERED_BYTES + 50_000);
            count += usize::from(link == 7);
            for frame in frame::decode(&whole).unwrap() {
                if let Frame::Answer { number, .. } = frame {
                    numbers.push(number);
                }
            }
        }
        assert_eq!(numbers, (0..40).collect::<Vec<u64>>());
        assert_eq!(count, 6);
    }
}
