//! Who may do what.
//!
//! The rules are documents: users, groups of users, groups of resources, roles, tokens. A
//! [`Policy`] is what all of them say together; every node keeps one, made from its own replicas.
//! [`decide`] is the one place where a permission is decided. What a client may see of a query's
//! hits is decided by the same function, hit by hit, so that the two cannot differ.
//!
//! Every path and verb stands with what it [`Needs`] in one table, the node's. The router decides
//! by it for what is no document; for a document the owner decides, on the state as it is then.
//!
//! Absent on purpose: the making of tokens and of hashes of passwords (they need chance and time,
//! and live in the shell), sockets, clocks.

mod decide;
mod guard;
mod needs;
mod parsed;
mod paths;
mod policy;
mod roles;

pub use decide::{Decision, Reason, Thing, decide};
pub use guard::{Guard, refused, shown};
pub use needs::{Needs, link_of};
pub use parsed::{check_resource_group, check_role, check_token, check_user, check_user_group};
pub use paths::{
    CAN_I, CREDENTIALS, FACTORIES, LOGIN, RESOURCE_GROUPS, ROLES, TOKENS, USER_GROUPS, USERS,
    WHO_AM_I, is_policy, is_secret, name_in,
};
pub use policy::{Policy, Unknown};
pub use roles::BuiltInRole;
