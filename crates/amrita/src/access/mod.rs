//! `amrita login` and all that is about who may do what.

mod audit;
mod commands;
mod nearby;
mod options;
mod roles;
pub(crate) mod session;

pub(crate) use audit::run_audit;
pub(crate) use commands::{can_i, login, logout, run_token, run_user, who_am_i};
pub(crate) use options::{
    AuditOptions, CanI, LoginOptions, RoleCommand, TokenCommand, UserCommand,
};
pub(crate) use roles::run_role;
