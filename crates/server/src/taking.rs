//! The body of an answer on its way to a client that takes it piece by piece. Whatever the answer
//! holds is held until the last piece has left the node.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::budget::Held;
use crate::connections::{Offer, TAKEN_BYTES_MIN};
use crate::in_flight::OneMore;

/// What is let go when an answer is taken whole, or given up.
pub(crate) struct Owed {
    /// Its bytes in the account.
    pub(crate) _held: Held,
    /// The request counts for its client until then.
    pub(crate) _client: Option<Arc<OneMore>>,
    /// Its deadline.
    pub(crate) offer: Offer,
}

/// A body that is given in pieces, so that it can be seen that the client goes on to take it.
#[derive(Default)]
pub(crate) struct Pieces {
    rest: Bytes,
    /// None: all is handed on, and the last piece has it.
    owed: Option<Arc<Owed>>,
}

/// A piece that is handed on. Its drop says that it was taken.
struct Piece {
    bytes: Bytes,
    owed: Option<Arc<Owed>>,
}

impl Pieces {
    pub(crate) fn of(body: Bytes, owed: Owed) -> Self {
        // Without a body there is nothing to take.
        let owed = (!body.is_empty()).then(|| Arc::new(owed));
        Self { rest: body, owed }
    }

    /// None: that was all.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.split_to(self.rest.len().min(TAKEN_BYTES_MIN));
        let owed = if self.rest.is_empty() { self.owed.take() } else { self.owed.clone() };
        Some(Bytes::from_owner(Piece { bytes, owed }))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(owed) = &self.owed {
            owed.offer.moves();
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).expect("a length fits"))
    }
}
