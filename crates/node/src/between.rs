//! Messages between owners: of instances, and of partitions. To the owner of an instance a
//! partition is one more sender of a numbered stream, and one more destination, so all speak the
//! same way.

use immortals::{Between, Lane};
use protocol::GroupId;
use services::{FromInstance, PartitionEvent, ToInstance};

use crate::frame::Frame;
use crate::membership::{Host, Membership};
use crate::work::{Effects, Work};

impl Membership {
    pub(crate) fn send_between(
        &mut self,
        from: GroupId,
        to: GroupId,
        message: Between,
        host: &mut Host<'_>,
    ) {
        match self.control.owner_of(to, &self.shard) {
            Some(owner) if owner == self.control.me => {
                self.heard_between(from, to, message, host.effects);
            }
            Some(owner) => {
                let frame = Frame::Between { from, to, message: Box::new(message) };
                host.effects.outbox.send(owner, frame);
            }
            // Dropped. The group that sends is told when there is an owner, and sends again.
            None => {}
        }
    }

    /// From the owner of one group to that of another one, which may be here.
    pub(crate) fn heard_between(
        &self,
        from: GroupId,
        to: GroupId,
        message: Between,
        effects: &mut Effects,
    ) {
        if to.is_instance() {
            return effects.instance(to, immortals::Input::Between { from, message });
        }
        // An instance that has another name by now, or none, has nothing to say here.
        let instance = self.control.map.topology.instance_of(from).map(|entry| entry.name.clone());
        let Some(name) = instance else { return };
        let event = match message {
            Between::Ack { lane: Lane::Stream, logged, resend_from } => {
                PartitionEvent::Acked { instance: name, logged, resend_from }
            }
            Between::Probe { lane: Lane::Stream } => {
                PartitionEvent::InstanceAsks { instance: from }
            }
            Between::Send { lane: Lane::Stream, floor, first, count, messages, .. } => {
                let (instance, all) = (from, messages);
                let sent = FromInstance { instance, name, floor, first, count, messages: all };
                PartitionEvent::InstanceWrites(sent)
            }
            // No impulse goes to a document.
            Between::Ack { .. } | Between::Probe { .. } | Between::Send { .. } => return,
        };
        effects.push(Work::Partition(to, event));
    }

    /// From a partition that is owned here to the instance with that name.
    pub(crate) fn send_to_instance(
        &mut self,
        partition: GroupId,
        instance: String,
        message: ToInstance,
        host: &mut Host<'_>,
    ) {
        let Some(entry) = self.control.map.topology.instance(&instance) else {
            let event = PartitionEvent::NoInstance { instance };
            return host.effects.push(Work::Partition(partition, event));
        };
        let (to, lane) = (entry.group, Lane::Stream);
        let message = match message {
            ToInstance::Probe => Between::Probe { lane },
            ToInstance::Send { from, floor, first, count, messages } => {
                Between::Send { lane, name: from, floor, first, count, messages }
            }
        };
        self.send_between(partition, to, message, host);
    }
}
