//! Network namespaces, one for each node. A namespace lives as long as the process that holds it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tappers::{Interface, Tun};

/// The device of each namespace.
const DEVICE: &str = "net0";

/// Clients are at place 0, nodes at 1 and so on.
pub(crate) fn address(place: usize) -> Ipv4Addr {
    let last = u8::try_from(place + 1).expect("there are few places");
    Ipv4Addr::new(10, 99, 0, last)
}

/// The place of an address.
pub(crate) fn place_of(address: [u8; 4]) -> Option<usize> {
    let [10, 99, 0, last] = address else { return None };
    usize::from(last).checked_sub(1)
}

/// Who begins a program in a namespace lets it die with this one.
pub(crate) fn bound_command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).stdin(Stdio::null());
    command
}

pub(crate) struct Space {
    /// None for this program's own.
    holder: Option<Child>,
}

impl Space {
    pub(crate) fn own() -> Self {
        Self { holder: None }
    }

    pub(crate) fn new() -> Result<Self, String> {
        let before = own_number()?;
        let mut command = bound_command("unshare");
        let holder = command.args(["--net", "sleep", "1000000"]).spawn();
        let holder = holder.map_err(|error| format!("no namespace is made: {error}"))?;
        let space = Self { holder: Some(holder) };
        let patience = Instant::now() + Duration::from_secs(5);
        while number_of(&space.path()).is_ok_and(|number| number == before) {
            if Instant::now() > patience {
                return Err("no namespace is made in 5 s".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(space)
    }

    fn path(&self) -> String {
        let process = self.holder.as_ref().map_or("self".into(), |holder| holder.id().to_string());
        format!("/proc/{process}/ns/net")
    }

    /// To be called by a thread that stays in the namespace.
    pub(crate) fn device(&self, place: usize) -> Result<Tun, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        if self.holder.is_some() {
            let space = File::open(self.path()).map_err(|error| failed("a namespace", &error))?;
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| failed("a namespace cannot be entered", &error))?;
        }
        let name = Interface::new(DEVICE).map_err(|error| failed("a device's name", &error))?;
        let device = Tun::new_named(name).map_err(|error| failed("a device", &error))?;
        let here = format!("{}/24", address(place));
        for words in [
            ["addr", "add", &here, "dev", DEVICE].as_slice(),
            &["link", "set", DEVICE, "up"],
            &["link", "set", "lo", "up"],
        ] {
            let status = self.command("ip").args(words).status();
            if !status.is_ok_and(|status| status.success()) {
                return Err(format!("ip {} failed", words.join(" ")));
            }
        }
        Ok(device)
    }

    /// Runs a program in the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        if self.holder.is_none() {
            return bound_command(program);
        }
        let mut command = bound_command("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            drop(holder.kill());
            drop(holder.wait());
        }
    }
}

fn own_number() -> Result<std::path::PathBuf, String> {
    number_of("/proc/self/ns/net")
}

fn number_of(path: &str) -> Result<std::path::PathBuf, String> {
    std::fs::read_link(path).map_err(|error| format!("{path}: {error}"))
}
