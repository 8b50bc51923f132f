//! What of a query's hits may be shown to whoever asked.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::candidate::Candidate;

/// The body of a document, by its link, without its hidden fields; `None` if it has none.
type Opens = fn(&str, &[u8]) -> Option<Vec<u8>>;

type Shows = dyn Fn(&Candidate<'_>) -> bool + Send + Sync;

struct Rules<F: ?Sized> {
    opens: Option<Opens>,
    shows: F,
}

/// Says of each version whether it may be shown. Which rule stands behind it is not known here.
#[derive(Clone)]
pub struct HitFilter {
    rules: Arc<Rules<Shows>>,
    may_be_counted: bool,
}

impl HitFilter {
    pub fn new(shows: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self { rules: Arc::new(Rules { opens: None, shows }), may_be_counted: false }
    }

    /// What a query compares, sorts by, adds up or selects is taken from what `opens` leaves of a
    /// body.
    pub fn opening(
        opens: Opens,
        shows: impl Fn(&Candidate<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { rules: Arc::new(Rules { opens: Some(opens), shows }), may_be_counted: false }
    }

    /// The same for somebody who may know how many documents there are, those that are hidden
    /// included.
    #[must_use]
    pub fn and_tells_counts(self, may_be_counted: bool) -> Self {
        Self { may_be_counted, ..self }
    }

    pub(crate) fn may_be_counted(&self) -> bool {
        self.may_be_counted
    }

    pub fn shows(&self, candidate: &Candidate<'_>) -> bool {
        (self.rules.shows)(candidate)
    }
}

/// A body without the fields that a filter hides.
pub(crate) fn opened<'b>(candidate: &Candidate<'b>, filter: Option<&HitFilter>) -> Cow<'b, [u8]> {
    let opens = filter.and_then(|filter| filter.rules.opens);
    let open = opens.and_then(|opens| opens(candidate.link, candidate.body));
    open.map_or(Cow::Borrowed(candidate.body), Cow::Owned)
}

impl fmt::Debug for HitFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HitFilter")
    }
}
