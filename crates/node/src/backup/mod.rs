//! Backups: the state of all groups at one moment, taken while the cluster works, and a cluster
//! that is made of such a state. See `docs/design/0020-a-backup-is-one-moment.md`.
//!
//! | part | what it does |
//! |---|---|
//! | `words` | what nodes say to one another about a backup |
//! | `page` | a piece of a group's state, as it is handed out and as it lies in a file |
//! | `census` | what is in such pages, for who checks a backup |
//! | `keeper` | the part of every node: its logs stand still, and it keeps what it has then |
//! | `runner` | the part of the node that was asked for a backup |
//! | `restore` | writes log and state of the first node of a cluster that is made of a backup |

pub(crate) mod census;
pub(crate) mod keeper;
pub(crate) mod page;
pub(crate) mod restore;
pub(crate) mod runner;
pub(crate) mod words;
