//! The built-in PATCH.

use protocol::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Patch, Spec};

pub(crate) fn state<S: Serialize + DeserializeOwned>(
    _spec: &Spec,
    _current: &S,
    _patch: &Patch,
) -> Result<S, Problem> {
    Err(Problem::internal("not yet"))
}
