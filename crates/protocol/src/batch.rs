//! Many writes in one request.

/// Where they are sent.
pub const BATCH_LINK: &str = "/core/batch";

/// How many requests a batch may have; one with more is refused.
pub const BATCH_REQUESTS_MAX: usize = 10_000;
