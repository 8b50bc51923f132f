//! What can be said about users, roles and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub(crate) struct PasswordFrom {
    /// File whose first line is the password [default: the first line of standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LoginOptions {
    /// Name or e-mail address of the user
    #[arg(long, required_unless_present = "sandbox")]
    pub(crate) user: Option<String>,
    /// Log in at the node on this machine that has this sandbox: its address and its authority are
    /// read there, whatever --address says, and so is the password of the first admin, unless
    /// --user or --password-file says whose or which it is
    #[arg(long, value_name = "DIR")]
    pub(crate) sandbox: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
    /// How long the session lasts, as 30m, 8h or 7d
    #[arg(long, default_value = "8h", value_name = "TIME", value_parser = seconds)]
    pub(crate) expires: u64,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Show all users
    List,
    /// Make a user
    Create {
        name: String,
        /// [default: the name]
        #[arg(long)]
        email: Option<String>,
        /// Roles from the start: admin, operator, writer, reader
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        role: Vec<String>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Change a password
    Password {
        name: String,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Delete a user; its tokens count no more
    Delete { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Show the roles that somebody has made; admin, operator, writer and reader are always there
    List,
    /// Give a user a role: admin, operator, writer, reader, or the name of a group of users
    Grant { role: String, user: String },
    /// Take it away
    Revoke { role: String, user: String },
    /// Make a role for a group of users
    Create {
        name: String,
        /// The group of users; `amrita role grant GROUP USER` adds to it
        #[arg(long, value_name = "GROUP")]
        group: String,
        /// What may be done
        #[arg(long, value_name = "VERB,...", value_delimiter = ',', default_value = "GET")]
        verbs: Vec<String>,
        /// To all links that begin so
        #[arg(long, value_name = "PREFIX", required_unless_present = "query")]
        link: Option<String>,
        /// To all documents that this query finds, in JSON
        #[arg(long, value_name = "JSON", conflicts_with = "link")]
        query: Option<String>,
        /// Forbid it, whatever other roles allow
        #[arg(long)]
        deny: bool,
    },
    /// Delete a role
    Delete { name: String },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, for a program or a machine; it is shown once
    Create {
        /// The user with whose rights it is used [default: oneself]
        #[arg(long = "for", value_name = "USER", conflicts_with = "join")]
        user: Option<String>,
        /// A token of one use, by which a node joins the cluster: amrita node --join TOKEN
        #[arg(long)]
        join: bool,
        /// How many of these, each for a node
        #[arg(
            long,
            value_name = "N",
            default_value_t = 1,
            requires = "join",
            value_parser = clap::value_parser!(u8).range(1..=99)
        )]
        count: u8,
        /// How long it counts, as 12h or 90d [default: 90d, or 1h with --join]
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        /// What it is for
        #[arg(long, default_value = "", value_name = "TEXT")]
        about: String,
    },
    /// Show the tokens, without what proves them
    List,
    /// Make a token worthless at once
    Revoke { name: String },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AuditOptions {
    /// How many of the newest records to show
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub(crate) limit: u16,
    /// Go on, and show each record when it comes
    #[arg(long, conflicts_with = "verify")]
    pub(crate) follow: bool,
    /// Read the whole trail and see whether a record was changed or taken out
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CanI {
    /// GET, POST, PUT, PATCH or DELETE
    pub(crate) verb: String,
    /// What to: /core/examples/one
    pub(crate) link: String,
    /// Ask about another user; for admins
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no time; write 90s, 30m, 8h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(each).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(
            (seconds("90s"), seconds("8h"), seconds("7d")),
            (Ok(90), Ok(28_800), Ok(604_800))
        );
        for wrong in ["", "8", "h", "0s", "-1h", "8x", "é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
