//! What of a query's hits may be shown to whoever asked.

use std::fmt;
use std::sync::Arc;

use crate::candidate::Candidate;

type Shows = dyn Fn(&Candidate<'_>) -> bool + Send + Sync;

/// Says of each version whether it may be shown. Which rule stands behind it is not known here.
#[derive(Clone)]
pub struct HitFilter(Arc<Shows>);

impl HitFilter {
    pub fn new(shows: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(shows))
    }

    pub fn shows(&self, candidate: &Candidate<'_>) -> bool {
        (self.0)(candidate)
    }
}

impl fmt::Debug for HitFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HitFilter")
    }
}
