//! Where code of users is run: a panic in it becomes words.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what a user wrote.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no words");
        format!("the handler panicked: {words}")
    })
}
