//! The documents of the rules ([`access`]) as services: what cannot be read as a rule is refused.

use access::{
    AUDIT, AUDIT_ENDS, AUTHORITY, CREDENTIALS, INSTANCE_OWNERS, JOIN_TOKENS, MADE, OWNERS_MADE,
    PASSWORD_LINK, PASSWORD_MARK, RESOURCE_GROUPS, ROLES, TOKENS, USER_GROUPS, USER_MADE, USERS,
    is_password_hash,
};
use protocol::Problem;
use serde_json::{Map, Value, json};

use crate::{Context, Field, FieldType, Patch, Service, ServiceOption, Spec};

/// Xenon's request to add a clause to the query of a group, or to take one out.
const PATCH_QUERY: &str = "com:vmware:xenon:services:common:ResourceGroupService:PatchQueryRequest";

/// A field of Xenon's roles.
const PRIORITY: &str = "priority";

type Check = fn(&Map<String, Value>) -> Result<(), Problem>;
type CheckChange = fn(&Map<String, Value>, &Map<String, Value>) -> Result<(), Problem>;

/// One kind of them.
pub(crate) struct Rules {
    spec: fn() -> Spec,
    check: Check,
    /// The state before, and the one that is to be.
    check_change: CheckChange,
    /// The field that says when the document was made, if there is one.
    made: Option<&'static str>,
    /// People write them: a name that says nothing is a mistake, and is refused.
    names: Names,
}

/// Which fields there may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Those of the spec.
    Known,
    /// The same, and what roles of Xenon have and never use.
    KnownOrPriority,
    /// Whatever a newer release writes there: nobody else does.
    Any,
}

pub(crate) fn all() -> [Rules; 11] {
    let rules = |spec, check| {
        let (check_change, names) = (|_: &_, _: &_| Ok(()), Names::Known);
        Rules { spec, check, check_change, made: None, names }
    };
    let own = |spec, check| Rules { names: Names::Any, ..rules(spec, check) };
    [
        Rules { made: Some(MADE), ..rules(user as fn() -> Spec, access::check_user as Check) },
        rules(user_group, access::check_user_group),
        rules(resource_group, access::check_resource_group),
        Rules { names: Names::KnownOrPriority, ..rules(role, access::check_role) },
        rules(credentials, check_credentials),
        own(token, access::check_token),
        own(authority, access::check_authority),
        own(audit, access::check_audit_record),
        rules(instance_owners, access::check_owners),
        Rules {
            check_change: access::check_audit_goes_on,
            ..own(audit_end, access::check_audit_end)
        },
        Rules { check_change: access::check_use, ..rules(join_token, access::check_join_token) },
    ]
}

fn kind(name: &str) -> String {
    format!("com:vmware:xenon:services:common:{name}")
}

fn links(name: &str) -> Field {
    Field::new(name, FieldType::Collection)
}

fn text(name: &str) -> Field {
    Field::new(name, FieldType::String)
}

fn user() -> Spec {
    Spec::new(USERS, kind("UserService:UserState"))
        .about("Who may log in.")
        .field(text("email").required().about("Also the name to log in with."))
        .field(links("userGroupLinks").about("The groups that the user belongs to by name."))
        .field(
            Field::new(MADE, FieldType::Long).about(
                "When the user was made; tokens of an earlier one of that name do not count.",
            ),
        )
        .field(text("issuer").about("Who vouches for the user, if that is an outside issuer."))
        .field(text("subject").about("How that issuer calls the user."))
        .field(links("outsideGroupLinks").about("The groups that its newest token has named."))
        .field(
            Field::new("outsideIssuedSeconds", FieldType::Long)
                .about("When that token was issued, in seconds since 1970."),
        )
}

fn user_group() -> Spec {
    Spec::new(USER_GROUPS, kind("UserGroupService:UserGroupState"))
        .about("Users that have something in common: by name, or by a query.")
        .field(Field::new("query", FieldType::Object).about("Which users belong to it."))
}

fn resource_group() -> Spec {
    Spec::new(RESOURCE_GROUPS, kind("ResourceGroupService:ResourceGroupState"))
        .about("Documents and paths that have something in common.")
        .field(Field::new("query", FieldType::Object).about("Which ones belong to it.").required())
        .patch_kind(PATCH_QUERY)
}

fn role() -> Spec {
    Spec::new(ROLES, kind("RoleService:RoleState"))
        .about("What a group of users may do to a group of resources, or must not.")
        .field(text("userGroupLink").required())
        .field(text("resourceGroupLink").required())
        .field(Field::new("verbs", FieldType::Collection).required().example(json!(["GET"])))
        .field(Field::new("policy", FieldType::Enum).about("ALLOW or DENY; DENY wins."))
}

fn credentials() -> Spec {
    Spec::new(CREDENTIALS, kind("AuthCredentialsService:AuthCredentialsServiceState"))
        .about("The password of a user of the same name. It is stored as a hash that nobody reads.")
        .field(text("userEmail"))
        .field(text("privateKey").required().about("The password; never shown."))
        .field(
            Field::new(USER_MADE, FieldType::Long)
                .about("When its user was made: of another one of that name it is no password."),
        )
        .retention(1, 1)
}

fn token() -> Spec {
    Spec::new(TOKENS, "amrita:TokenState")
        .about("What somebody who has logged in shows; deleted, it counts no more.")
        .option(ServiceOption::Immutable)
        .field(text("userLink").required())
        .field(text("digest").required().about("Of the secret; never shown."))
        .field(text("about").about("What it is for, in the words of who made it."))
        .field(
            Field::new(USER_MADE, FieldType::Long)
                .about("When its user was made: of another one of that name it is no token."),
        )
        .field(
            text(PASSWORD_LINK).about("Of a login: it counts while this is the user's password."),
        )
        .field(text(PASSWORD_MARK).about("Tells that password from the next; never shown."))
        .retention(1, 1)
}

fn join_token() -> Spec {
    Spec::new(JOIN_TOKENS, "amrita:JoinTokenState")
        .about("What a node shows once, to become one of the cluster's.")
        .field(text("digest").required().about("Of the secret; never shown."))
        .field(text("about").about("What it is for, in the words of who made it."))
        .field(text("usedBy").about("The digest of the public key that it was used for."))
        .field(text("usedFor").about("The id of that node."))
        .retention(2, 2)
}

fn authority() -> Spec {
    Spec::new(AUTHORITY, "amrita:AuthorityState")
        .about("Who signs the certificates of the nodes. Only the cluster itself writes it.")
        .option(ServiceOption::Immutable)
        .field(text("certificate").required().about("In PEM; also the file tls/ca.pem."))
        .field(text("privateKey").required().about("Never shown."))
        .retention(1, 1)
}

fn instance_owners() -> Spec {
    Spec::new(INSTANCE_OWNERS, "amrita:InstanceOwnersState")
        .about(
            "Whose the instance of this name is: who registers it, until that one says otherwise.",
        )
        .field(links("userLinks").required().about("At least one user."))
        .field(
            links(OWNERS_MADE)
                .about("When each was made: another one of that name does not own it."),
        )
}

fn audit() -> Spec {
    Spec::new(AUDIT, "amrita:AuditRecordState")
        .about("What was done and what was refused. Only the cluster itself writes it.")
        .option(ServiceOption::Immutable)
        .field(text("node").required().about("Each node has a chain of its own."))
        .field(Field::new("sequence", FieldType::Long).required().about("From 1."))
        .field(Field::new("at", FieldType::Long).about("In microseconds since 1970."))
        .field(text("event").about("login, refused, rights, members, stop, recording, instance"))
        .field(text("who"))
        .field(text("address"))
        .field(text("verb"))
        .field(text("link"))
        .field(Field::new("status", FieldType::Long))
        .field(text("note"))
        .field(text("previous").about("The hash of the record before it."))
        .field(text("hash").required().about("Over all of it and the hash before."))
        .retention(1, 1)
}

fn audit_end() -> Spec {
    Spec::new(AUDIT_ENDS, "amrita:AuditEndState")
        .about("Where the audit trail of the node of this name ends. Only the cluster writes it.")
        .field(text("node").required())
        .field(Field::new("sequence", FieldType::Long).required().about("Of the last record."))
        .field(text("hash").required().about("Of the last record."))
        .field(Field::new("keptMicros", FieldType::Long).about("How long a record is kept."))
        .field(Field::new("days", FieldType::Collection).about("The first record of each day."))
        .retention(2, 2)
}

fn check_credentials(fields: &Map<String, Value>) -> Result<(), Problem> {
    let key = fields.get("privateKey").and_then(Value::as_str).unwrap_or_default();
    if is_password_hash(key) {
        return Ok(());
    }
    let text = "privateKey must come in by a request from outside, where it is hashed: a task cannot \
                set a password";
    Err(Problem::bad_request(text))
}

impl Rules {
    /// What is passed over in a rule may be the word that forbids: `Policy` for `policy` would make
    /// a role that allows of one that is to deny.
    fn check_names(&self, fields: &mut Map<String, Value>) -> Result<(), Problem> {
        if self.names == Names::Any {
            return Ok(());
        }
        if self.names == Names::KnownOrPriority
            && fields.get(PRIORITY).is_some_and(|it| !it.is_null())
        {
            // Xenon keeps it and never asks for it; typed clients of Xenon send a 0.
            let priority = fields.remove(PRIORITY).unwrap_or_default();
            if priority.as_f64() != Some(0.0) {
                return Err(Problem::bad_request(format!(
                    "{PRIORITY} is {priority}: roles have no order here, and one that denies wins \
                     over all that allow; leave it out"
                )));
            }
        }
        let spec = (self.spec)();
        let mut said = fields.iter().filter(|(_, value)| !value.is_null());
        match said.find(|(name, _)| spec.field_named(name).is_none()) {
            None => Ok(()),
            Some((name, _)) => {
                let known: Vec<&str> = spec.fields.iter().map(|field| &*field.name).collect();
                Err(Problem::bad_body(format!(
                    "documents of {} have no field '{name}'; they have {}",
                    spec.factory,
                    known.join(", ")
                )))
            }
        }
    }

    fn check_made(
        &self,
        current: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Problem> {
        match self.made {
            Some(made) if current.get(made) != new.get(made) => Err(Problem::bad_request(format!(
                "{made} says when the document was made, and does not change"
            ))),
            _ => Ok(()),
        }
    }
}

impl Service for Rules {
    type State = Map<String, Value>;

    fn spec(&self) -> Spec {
        (self.spec)()
    }

    fn create(&self, context: &mut Context<'_>, state: &mut Self::State) -> Result<(), Problem> {
        self.check_names(state)?;
        if let Some(made) = self.made
            && state.insert(made.to_owned(), context.now.0.into()).is_some()
        {
            return Err(Problem::bad_request(format!(
                "{made} is given by the cluster: leave it out"
            )));
        }
        (self.check)(state)
    }

    fn put(
        &self,
        _: &mut Context<'_>,
        current: &Self::State,
        mut new: Self::State,
    ) -> Result<Self::State, Problem> {
        self.check_names(&mut new)?;
        if let Some((made, at)) = self.made.and_then(|made| Some((made, current.get(made)?))) {
            new.entry(made).or_insert_with(|| at.clone());
        }
        self.check_made(current, &new)?;
        (self.check)(&new)?;
        (self.check_change)(current, &new)?;
        Ok(new)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Self::State,
        patch: &Patch,
    ) -> Result<Self::State, Problem> {
        let new = match patch.kind.as_deref() {
            Some(PATCH_QUERY) => with_clause(current, &patch.fields)?,
            // Those name their fields one level down, and the merge looks at them.
            Some(_) => context.merge(current, patch)?,
            None => {
                let mut patch = patch.clone();
                self.check_names(&mut patch.fields)?;
                context.merge(current, &patch)?
            }
        };
        self.check_made(current, &new)?;
        (self.check)(&new)?;
        (self.check_change)(current, &new)?;
        Ok(new)
    }
}

/// The query with one clause more, or without one.
fn with_clause(
    current: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, Problem> {
    let clause = patch.get("clause").filter(|clause| clause.is_object());
    let clause = clause.ok_or_else(|| Problem::bad_request("clause is missing: a query"))?;
    let known = ["clause", "removeClause"];
    if let Some(name) = patch.keys().find(|name| !known.contains(&name.as_str())) {
        let text = format!("such a PATCH has no field '{name}'; it has {}", known.join(", "));
        return Err(Problem::bad_body(text));
    }
    let removes = match patch.get("removeClause") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(removes)) => *removes,
        Some(other) => {
            return Err(Problem::bad_body(format!("removeClause is true or false, not {other}")));
        }
    };
    let mut new = current.clone();
    let query = new.entry("query").or_insert_with(|| json!({}));
    if query["booleanClauses"].as_array().is_none_or(Vec::is_empty) {
        // A term alone becomes one clause of several.
        let alone = std::mem::replace(query, json!({ "booleanClauses": [] }));
        if alone["term"].is_object() {
            query["booleanClauses"] = json!([alone]);
        }
    }
    let clauses = query["booleanClauses"].as_array_mut().expect("it was made just now");
    if removes {
        clauses.retain(|known| known != clause);
    } else {
        clauses.push(clause.clone());
    }
    Ok(new)
}
