//! Subscriptions as documents: made by POST of a link's `/subscriptions`, and written on by the
//! node that tells the subscriber.

use protocol::subscription::{KIND, LINK, Progress, Subscription, are_of_one_cluster};
use protocol::{Code, Moment, Problem};
use serde_json::Value;

use crate::{Context, Field, FieldType, Patch, Service, ServiceOption, Spec};

/// `/core/subscriptions`.
pub(crate) struct Subscriptions;

impl Service for Subscriptions {
    type State = Subscription;

    fn spec(&self) -> Spec {
        let text = |name: &str| Field::new(name, FieldType::String);
        let whole = |name: &str| Field::new(name, FieldType::Long);
        Spec::new(LINK, KIND)
            .about("Who is told of which changes. Made by POST of LINK/subscriptions.")
            // Who subscribes again goes on where the last notification was taken.
            .option(ServiceOption::IdempotentPost)
            .field(text("subscribedLink").required().about("Whose changes."))
            .field(text("reference").required().about("Who is told."))
            .field(Field::new("replayState", FieldType::Boolean).about("The state comes first."))
            .field(whole("notificationLimit").about("It ends after this many."))
            .field(whole("notificationCount").about("How many were taken."))
            .field(whole("failedNotificationCount").about("Since the last that was taken."))
            .field(text("lastFailure").about("Why the last one was not taken."))
            .field(text("token").about("All changes before it were taken."))
            .retention(1, 1)
    }

    fn create(&self, context: &mut Context<'_>, new: &mut Subscription) -> Result<(), Problem> {
        new.begun_micros = context.now.0;
        new.never_ends = false;
        Ok(())
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Subscription,
        mut new: Subscription,
    ) -> Result<Subscription, Problem> {
        let is_same = (&new.subscribed_link, &new.reference)
            == (&current.subscribed_link, &current.reference);
        let (told, fresh) = (&current.progress.token, &new.progress.token);
        if is_same && !new.replay_state && are_of_one_cluster(told, fresh) {
            new.progress.token.clone_from(told);
        }
        new.begun_micros = context.now.0.max(current.begun_micros + 1);
        if std::mem::take(&mut new.never_ends) {
            context.expires = Moment(0);
        }
        Ok(new)
    }

    /// How far the subscriber has been told: all of it, so that what is not said is no more so.
    /// What an owner has learnt of a subscription that has begun anew since is not of this one.
    fn patch(
        &self,
        _: &mut Context<'_>,
        current: &Subscription,
        patch: &Patch,
    ) -> Result<Subscription, Problem> {
        let begun = patch.fields.get("begunMicros").and_then(Value::as_u64);
        if begun != Some(current.begun_micros) {
            let text = format!(
                "this subscription began at {}, and the progress is not of it",
                current.begun_micros
            );
            return Err(Problem::new(Code::VersionMismatch, text));
        }
        let progress: Progress = serde_json::from_value(Value::Object(patch.fields.clone()))
            .map_err(|error| Problem::bad_body(format!("this is no progress: {error}")))?;
        Ok(Subscription { progress, ..current.clone() })
    }
}
