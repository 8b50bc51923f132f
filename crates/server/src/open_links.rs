//! The links to other nodes, as the node's thread holds them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use node::LinkFrame;

use crate::carrier::Carrier;
use crate::metrics::Metrics;

#[derive(Default)]
pub(crate) struct OpenLinks {
    links: HashMap<u64, Arc<dyn Carrier>>,
    /// Those with frames that were not sent so far.
    touched: Vec<u64>,
}

impl OpenLinks {
    /// Gives its number.
    pub(crate) fn add(&mut self, link: Arc<dyn Carrier>) -> u64 {
        let id = link.id();
        self.links.insert(id, link);
        id
    }

    pub(crate) fn knows(&self, id: u64) -> bool {
        self.links.contains_key(&id)
    }

    /// False when it was not known.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        self.links.remove(&id).is_some()
    }

    /// Puts a frame at the end of what is to be sent; [`Self::flush`] sends it.
    pub(crate) fn queue(&mut self, id: u64, frame: LinkFrame, metrics: &Metrics) {
        if let Some(link) = self.links.get(&id) {
            link.queue(frame);
            metrics.links.frames_sent.fetch_add(1, Ordering::Relaxed);
            if !self.touched.contains(&id) {
                self.touched.push(id);
            }
        }
    }

    pub(crate) fn flush(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(link) = self.links.get(&id) {
                link.flush();
            }
        }
    }

    pub(crate) fn close_after_sending(&self, id: u64) {
        if let Some(link) = self.links.get(&id) {
            link.close_after_sending();
        }
    }
}

impl Drop for OpenLinks {
    fn drop(&mut self) {
        for link in self.links.values() {
            link.close();
        }
    }
}
