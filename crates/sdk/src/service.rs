//! What a writer of services and tasks imports.
//!
//! A service is a state type, a [`Spec`] and a few handlers; a task is a state that goes on step by
//! step. Handlers run on the document's owner only; what they return is replicated before the
//! client is answered. See [`Service`] and [`Task`] for what they may rely on.
//!
//! ```
//! use sdk::service::{Context, Field, FieldType, Problem, Service, Spec};
//!
//! #[derive(Default, serde::Serialize, serde::Deserialize)]
//! #[serde(default)]
//! struct Door {
//!     name: String,
//!     open: bool,
//! }
//!
//! struct Doors;
//!
//! impl Service for Doors {
//!     type State = Door;
//!
//!     fn spec(&self) -> Spec {
//!         Spec::new("/core/doors", "example:Doors:Door")
//!             .field(Field::new("name", FieldType::String).required())
//!             .field(Field::new("open", FieldType::Boolean))
//!     }
//!
//!     fn create(&self, _: &mut Context<'_>, door: &mut Door) -> Result<(), Problem> {
//!         if door.open { Err(Problem::bad_request("a new door is shut")) } else { Ok(()) }
//!     }
//! }
//!
//! let host = sdk::Host::new().service(Doors);
//! # drop(host);
//! ```

pub use protocol::query::{self, Query};
pub use protocol::{
    BodyType, Code, Epoch, InstanceMessage, Method, Moment, Problem, Request, Response, TaskStage,
};
pub use services::{
    CALLS_PER_STEP_MAX, Catalogue, Context, Field, FieldType, Patch, Plan, Service, ServiceOption,
    Spec, Task, find, found, message, succeeded,
};
