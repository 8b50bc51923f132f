//! What the groups of a node do for a backup: their logs stand still and go on, and it is said
//! where their states stand.

use group::{Io, Outputs, Replica};
use protocol::GroupId;
use storage::{Space, StoreError};

use crate::backup::page::Head;
use crate::shard::{Conditions, Shard, run, run_in};
use crate::work::Effects;

impl Shard {
    /// Nothing more goes into the log of that group. False when it is not owned here.
    pub(crate) fn hold(&mut self, group: GroupId) -> bool {
        self.get_mut(group).is_some_and(crate::hosted::AnyReplica::hold)
    }

    /// The log of that group goes on.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn let_go(
        &mut self,
        group: GroupId,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        self.marks.touched.insert(group);
        run_in!(self, group, conditions, effects, Replica::let_go)
    }

    /// Where the state of that group stands in the store, which is written there if it is not, and
    /// how far it was applied. The group has a replica here.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn head_for_backup(
        &mut self,
        group: GroupId,
        conditions: &Conditions<'_>,
        effects: &mut Effects,
    ) -> Result<(Space, Head), StoreError> {
        if let Some(replica) = self.instances.get_mut(&group) {
            run!(
                self,
                replica,
                conditions.map,
                conditions,
                effects,
                |replica: &mut Replica<_>, io: &mut Io<'_, _>, _: &mut Outputs<_>| {
                    replica.write_snapshot(io)
                }
            )?;
        }
        let replica = self.get(group).expect("the caller has looked");
        let (term, position) = replica.applied();
        let (applied, applied_term) = replica.snapshot_point();
        let head = Head { group, applied: (applied, applied_term), position: (position, term) };
        Ok((replica.space(), head))
    }
}
