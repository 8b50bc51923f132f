//! The services there are, as the node last said: those that were made before it started, and those
//! that are defined while it runs.

use std::sync::{Arc, RwLock};

use services::Catalogue;

pub(crate) struct Served(RwLock<Arc<Catalogue>>);

impl Served {
    pub(crate) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self(RwLock::new(catalogue))
    }

    pub(crate) fn get(&self) -> Arc<Catalogue> {
        Arc::clone(&self.0.read().expect("no one panics while looking"))
    }

    pub(crate) fn set(&self, catalogue: Arc<Catalogue>) {
        *self.0.write().expect("no one panics while looking") = catalogue;
    }
}
