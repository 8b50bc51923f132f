//! File descriptors: each connection takes one, and a node whose store cannot open its files dies.
//! So the limit is raised as far as it goes, and clients get what is left after a reserve.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::connections::CONNECTIONS_MAX;

/// Kept for the state store, the log, the links of peers and what is passing by.
const DESCRIPTORS_RESERVED: u64 = 512;

/// Raises the soft limit to the hard one. Says how many connections of clients and programs there
/// may be.
pub(crate) fn places() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = getrlimit(Resource::Nofile),
            Err(error) => tracing::debug!("the limit of open files stays as it is: {error}"),
        }
    }
    let places = places_of(limit.current);
    if places < CONNECTIONS_MAX {
        tracing::info!(
            target: "amrita",
            "{places} connections of clients and programs at a time, as this process may have {} \
             open files (ulimit -n)",
            limit.current.unwrap_or_default()
        );
    }
    places
}

/// None: there is no limit.
fn places_of(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return CONNECTIONS_MAX };
    // With few, half of them.
    let left = descriptors - DESCRIPTORS_RESERVED.min(descriptors.div_ceil(2));
    usize::try_from(left).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_reserve_leaves() {
        assert_eq!(places_of(None), CONNECTIONS_MAX);
        assert_eq!(places_of(Some(1 << 20)), CONNECTIONS_MAX);
        assert_eq!(places_of(Some(1_024)), 512);
        assert_eq!(places_of(Some(256)), 128);
    }
}
