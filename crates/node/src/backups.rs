//! A member's part in backups, with what the rest of the node lends for it.

use std::collections::BTreeSet;

use protocol::ReplicaId;
use storage::StoreError;

use crate::backup::keeper::Around;
use crate::backup::runner::ClusterSeen;
use crate::backup::words::{BackupFrame, BackupWish};
use crate::membership::{Host, Membership, conditions};
use crate::shard::Conditions;
use crate::work::Purpose;

macro_rules! around {
    ($self:expr, $conditions:expr, $host:expr) => {
        Around { shard: &mut $self.shard, conditions: $conditions, effects: &mut *$host.effects }
    };
}

impl Membership {
    fn up(&self, host: &Host<'_>) -> BTreeSet<ReplicaId> {
        let is_up = |id: &ReplicaId| self.control.is_up(*id, host.links, host.now);
        self.control.members().into_iter().filter(is_up).collect()
    }

    /// A client wants something of a backup.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn backup_wish(
        &mut self,
        purpose: Purpose,
        wish: BackupWish,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let conditions = conditions!(self, host);
        let mut around = around!(self, &conditions, host);
        let (keeper, runner) = &mut self.backups;
        match wish {
            BackupWish::Begin => {
                runner.begin(purpose, host.now.steady_micros, host.effects);
                Ok(())
            }
            BackupWish::End(backup) => {
                runner.end(&purpose, backup, &mut around);
                Ok(())
            }
            BackupWish::Page(backup, group, after) => {
                runner.page(purpose, (backup, group, after), keeper, &mut around)
            }
        }
    }

    /// A node says something about a backup.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn backup_heard(
        &mut self,
        from: ReplicaId,
        frame: BackupFrame,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let (up, conditions) = (self.up(host), conditions!(self, host));
        let mut around = around!(self, &conditions, host);
        let (keeper, runner) = &mut self.backups;
        if frame.is_for_the_keeper() {
            return keeper.heard(from, frame, &mut around);
        }
        let at = ClusterSeen { control: &self.control, up, node_id: &host.config.node_id };
        runner.heard(from, frame, &at, &mut around);
        Ok(())
    }

    /// The logs that are to stand still are looked at, when everything else has come to rest.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn backup_go_on(&mut self, host: &mut Host<'_>) -> Result<(), StoreError> {
        let conditions = conditions!(self, host);
        self.backups.0.go_on(&mut around!(self, &conditions, host))
    }

    pub(crate) fn backup_tick(&mut self, host: &mut Host<'_>) {
        let (keeper, runner) = &mut self.backups;
        let is_up = |node| self.control.is_up(node, host.links, host.now);
        keeper.tick(host.now.steady_micros, &is_up);
        if runner.is_idle() {
            return;
        }
        let up = self.up(host);
        let conditions = conditions!(self, host);
        let at = ClusterSeen { control: &self.control, up, node_id: &host.config.node_id };
        self.backups.1.tick(&at, &mut around!(self, &conditions, host));
    }
}
