//! The simulated shell's end of the mesh: datagrams that get lost, packets beside the frames of
//! connections, and the streams that stand in for links. And the shell's own watch over links: one
//! on which nothing comes for a second is closed, whatever the connection says.

use bytes::Bytes;
use mesh::{Input as MeshInput, NodeKey, Output as MeshOutput};
use node::Input;

use crate::checkers::Broken;
use crate::network::Process;
use crate::world::{Event, World};

/// A link on which nothing came for this number of ticks is closed.
const SILENT_TICKS_MAX: u32 = 100;

impl World {
    /// Time goes on for the process: the shell looks after its links.
    pub(crate) fn tick_links(&mut self, process: Process) -> Result<(), Broken> {
        let running = self.machines[process.machine].running.as_mut().expect("it is alive");
        let mut silent = Vec::new();
        for link in running.links.keys() {
            let ticks = running.silence.entry(*link).or_default();
            *ticks += 1;
            if *ticks > SILENT_TICKS_MAX {
                silent.push(*link);
            }
        }
        let links = &running.links;
        running.silence.retain(|link, _| links.contains_key(link));
        for link in silent {
            self.paths.reached("a silent link was closed");
            self.close_link(process, link)?;
        }
        self.mesh(process, MeshInput::Tick)
    }

    /// Something came over a link.
    pub(crate) fn heard_link(&mut self, machine: usize, link: u64) {
        if let Some(running) = &mut self.machines[machine].running {
            running.silence.insert(link, 0);
        }
    }

    /// A datagram arrives. A process that is stopped has no room for it.
    pub(crate) fn datagram(&mut self, machine: usize, packet: Bytes) -> Result<(), Broken> {
        let is_stopped = self.machines[machine].stalled_until > self.agenda.now();
        match self.machines[machine].process(machine) {
            Some(process) if !is_stopped => {
                self.mesh(process, MeshInput::Packet { link: None, bytes: packet })
            }
            _ => Ok(()),
        }
    }

    /// Lets the mesh of a process take one thing that happened, and does what it says.
    pub(crate) fn mesh(&mut self, process: Process, input: MeshInput) -> Result<(), Broken> {
        if !self.is_alive(process) {
            return Ok(());
        }
        let machine = &mut self.machines[process.machine];
        let now = machine.now(self.agenda.now()).steady_micros;
        let mut outputs = Vec::new();
        let running = machine.running.as_mut().expect("it is alive");
        running.mesh.step(now, input, &mut outputs);
        for output in outputs {
            self.act_for_mesh(process, output)?;
        }
        Ok(())
    }

    fn act_for_mesh(&mut self, process: Process, output: MeshOutput) -> Result<(), Broken> {
        let now = self.agenda.now();
        let from = process.machine;
        let running = self.machines[from].running.as_mut().expect("the caller saw it alive");
        match output {
            MeshOutput::Datagram { to, packet } => {
                let mut machines = self.machines.iter();
                let to = machines.position(|machine| NodeKey::of(&machine.uri) == to);
                if let Some(machine) = to {
                    for at in self.network.datagram(now, from, machine) {
                        let packet = packet.clone();
                        self.agenda.at(at, Event::Datagram { machine, packet });
                    }
                }
            }
            MeshOutput::OnLink { link, packet } => {
                if let Some((connection, end)) = running.links.get(&link).copied() {
                    self.network.aside(now, connection, end, packet, &mut self.plan);
                }
            }
            MeshOutput::Opened { stream } => {
                running.next_link += 1;
                let link = running.next_link;
                running.detours.insert(link, stream);
                self.paths.reached("a detour was made");
                let opened = Input::LinkOpened { link, dialed: None, is_detour: true };
                return self.input(from, opened);
            }
            MeshOutput::Frame { stream, frame } => {
                if let Some(link) = running.detour_of(stream) {
                    return self.input(from, Input::Received { link, frame });
                }
            }
            MeshOutput::Closed { stream } => {
                if let Some(link) = running.detour_of(stream) {
                    running.detours.remove(&link);
                    self.paths.reached("a detour has ended");
                    return self.input(from, Input::LinkClosed { link });
                }
            }
        }
        Ok(())
    }
}
