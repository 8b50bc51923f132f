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

mod audit;
mod audit_end;
mod decide;
mod guard;
mod joining;
mod jwt;
mod lives;
mod needs;
mod outsider;
mod parsed;
mod paths;
mod policy;
mod roles;
mod secrets;
mod sessions;

pub use audit::{AuditRecord, Chain, Event, Happening, Refusals, Refusee, check_audit_record};
pub use audit_end::{
    AuditDay, AuditEnd, check_audit_end, check_audit_goes_on, verify_with_ends as verify_audit,
};
pub use decide::{Decision, Reason, Thing, decide};
pub use guard::{Guard, refused, shown, without_secrets};
pub use joining::{
    CERTIFICATE_SECONDS, CONTACTS_MAX, JoinToken, Joiner, NotJoined, SECRET_BYTES, check_authority,
    check_join_token, check_use, is_renewal_due, judge,
};
pub use jwt::{Algorithm, Jwt, NotTaken};
pub use lives::{NOBODY_SO_FAR, is_one_of, owner_made};
pub use needs::{Needs, link_of};
pub use outsider::{ClaimedGroups, Outsider, Recorded, Terms};
pub use parsed::{
    MADE, OWNERS_MADE, PASSWORD_LINK, PASSWORD_MARK, USER_MADE, check_owners, check_resource_group,
    check_role, check_token, check_user, check_user_group,
};
pub use paths::{
    AUDIT, AUDIT_ENDS, AUTHORITY, CAN_I, CREDENTIALS, FACTORIES, INSTANCE_OWNERS, INSTANCES, JOIN,
    JOIN_TOKENS, LOGIN, OWN_AUTHORITY, RESOURCE_GROUPS, ROLES, TOKENS, USER_GROUPS, USERS,
    WHO_AM_I, is_of_rules, is_policy, is_secret, name_in,
};
pub use policy::{Policy, Unknown};
pub use roles::BuiltInRole;
pub use secrets::{is_password_hash, password_mark};
pub use sessions::Session;
