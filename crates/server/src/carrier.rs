//! What the node's thread knows of a link to another node: that it takes frames. A link is one TCP
//! connection, or a stream of the mesh where no such connection can be made.

use node::LinkFrame;

pub(crate) trait Carrier: Send + Sync {
    fn id(&self) -> u64;

    /// Puts a frame at the end of what is to be sent; [`Self::flush`] sends it.
    fn queue(&self, frame: LinkFrame);

    /// Sends what is queued, as far as the network takes it; the rest follows by itself.
    fn flush(&self);

    /// Closes when all that was queued is sent.
    fn close_after_sending(&self);

    fn close(&self);
}
