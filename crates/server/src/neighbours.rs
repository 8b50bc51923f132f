//! Whose program it is that connects to AMBROSIA's ports. Its bindings show no token, and these
//! ports are on loopback, where every user of the machine may connect. The system says which user a
//! socket belongs to (Linux: the tables in `/proc/net`); who cannot be found there is refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::config::MachineUsers;
use crate::login::Doorkeeper;

/// The system's tables of the sockets of TCP, as this process may see them.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The columns of a row.
const LOCAL: usize = 1;
const REMOTE: usize = 2;
const USER: usize = 7;
const INODE: usize = 9;

/// How long to wait until the other end is looked for again, at first and at last. Each pause is
/// twice the one before. A row may be missed while others come and go, ...
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// ... and a program that listens has a connection only when it has accepted it.
const PAUSE_FOR_A_LISTENER_MAX: Duration = Duration::from_millis(1_280);

/// After somebody was refused, so that who tries again and again does not keep the node busy.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// A refusal is not said in the log sooner after the last one that was.
const SAID_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Neighbours {
    /// The user that runs this node.
    own: u32,
    others: MachineUsers,
    keeper: Arc<Doorkeeper>,
    said: Mutex<Said>,
}

/// Which refusals the log has.
#[derive(Default)]
struct Said {
    last: Option<Instant>,
    left_out: u64,
}

impl Neighbours {
    pub(crate) fn new(others: &MachineUsers, keeper: &Arc<Doorkeeper>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let (others, keeper) = (others.clone(), Arc::clone(keeper));
        Self { own, others, keeper, said: Mutex::default() }
    }

    /// The same, as another user would run the node.
    #[cfg(test)]
    pub(crate) fn run_by(self, own: u32) -> Self {
        Self { own, ..self }
    }

    /// Whether who has connected to this port of the node's may be a program of it. A refusal is
    /// recorded.
    pub(crate) async fn may_connect(&self, socket: &TcpStream, port: u16) -> bool {
        self.may(socket, port, PAUSE_MAX).await
    }

    /// The same of who listens at a port, and was connected to.
    pub(crate) async fn may_listen(&self, socket: &TcpStream, port: u16) -> bool {
        self.may(socket, port, PAUSE_FOR_A_LISTENER_MAX).await
    }

    async fn may(&self, socket: &TcpStream, port: u16, longest: Duration) -> bool {
        let MachineUsers::These(others) = &self.others else { return true };
        let found = match (socket.peer_addr(), socket.local_addr()) {
            (Ok(peer), Ok(own)) => find((peer, own), longest).await,
            _ => None,
        };
        if found.is_some_and(|user| user == self.own || others.contains(&user)) {
            return true;
        }
        self.refuse(found, port).await;
        false
    }

    async fn refuse(&self, user: Option<u32>, port: u16) {
        let who = match user {
            Some(user) => format!("user {user} of this machine"),
            None => "a user of this machine that cannot be found".to_owned(),
        };
        if let Some(left_out) = self.is_to_say() {
            let own = self.own;
            let more = match left_out {
                0 => String::new(),
                more => format!(" ({more} more since the last such line)"),
            };
            let advice = match user {
                Some(user) => format!(
                    "run the program as user {own}, or let that one in: --ambrosia-users {user}"
                ),
                None => "only Linux tells whose a connection is; --ambrosia-users '*' lets \
                         everybody in"
                    .to_owned(),
            };
            tracing::warn!(
                target: "amrita",
                "a program of {who} is refused at port {port}, which is for user {own}{more}: {advice}"
            );
        }
        self.keeper.program_refused(&who, port).await;
        tokio::time::sleep(REFUSED_PAUSE).await;
    }

    /// Whether the log is to have this one, and how many it has not had since the last.
    fn is_to_say(&self) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < SAID_EVERY) {
            said.left_out += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.left_out))
    }
}

/// The user whose socket is at `peer` and connected to `own`. `longest`: the last pause between two
/// looks.
async fn find((peer, own): (SocketAddr, SocketAddr), longest: Duration) -> Option<u32> {
    let mut pause = PAUSE_MIN;
    loop {
        // The tables may be long.
        let looked = tokio::task::spawn_blocking(move || look(peer, own)).await;
        match looked {
            Ok(Ok(None)) if pause <= longest => {}
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => {
                tracing::debug!("whose a connection is cannot be found: {error}");
                return None;
            }
            Err(_) => return None,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn look(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<u32>> {
    for table in TABLES {
        let file = match File::open(table) {
            // A machine may have the older addresses only.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table != TABLES[0] => continue,
            opened => opened?,
        };
        if let Some(user) = user_in(BufReader::new(file), peer, own)? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// The user of the socket in a table that is at `peer` and connected to `own`. A connection that no
/// process has any more, or has not accepted so far, has no inode, and its user says nothing.
fn user_in(table: impl BufRead, peer: SocketAddr, own: SocketAddr) -> io::Result<Option<u32>> {
    let (peer, own) = (canonical(peer), canonical(own));
    for row in table.lines() {
        let row = row?;
        let columns: Vec<&str> = row.split_ascii_whitespace().collect();
        let column = |at: usize| columns.get(at).copied().unwrap_or_default();
        let is_it = address(column(LOCAL)) == Some(peer) && address(column(REMOTE)) == Some(own);
        if is_it && !["", "0"].contains(&column(INODE)) {
            return Ok(column(USER).parse().ok());
        }
    }
    Ok(None)
}

/// An address of IPv4 may be written as one of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `0100007F:1F90`, or the same with the 16 bytes of an address of IPv6: words of 32 bits as this
/// machine has them in memory, and the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let text = address.get(8 * at..8 * at + 8)?;
        u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a machine whose bytes are in that order has it.
    fn hex(bytes: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(bytes))
    }

    fn table(rows: &[(&str, &str, u32, u32)]) -> String {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                    timeout inode\n";
        let row = |(local, remote, user, inode): &(&str, &str, u32, u32)| {
            format!(
                "   0: {local} {remote} 01 00000000:00000000 00:00000000 00000000 {user:5}        0 \
                 {inode} 1 0000000000000000 20 4 30 10 -1\n"
            )
        };
        head.to_owned() + &rows.iter().map(row).collect::<String>()
    }

    #[test]
    fn a_row_is_found_by_both_of_its_ends() {
        let loopback = hex([127, 0, 0, 1]);
        let (peer, own) = (format!("{loopback}:9C40"), format!("{loopback}:05DC"));
        let mapped = format!("{}{}{}{peer}", hex([0; 4]), hex([0; 4]), hex([0, 0, 255, 255]));
        let own_mapped = format!("{}{own}", &mapped[..24]);
        let (at, to) = ("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:1500".parse().unwrap());
        let found =
            |rows: &[(&str, &str, u32, u32)]| user_in(table(rows).as_bytes(), at, to).unwrap();
        assert_eq!(found(&[(&own, &peer, 7, 1), (&peer, &own, 1000, 2)]), Some(1000));
        assert_eq!(found(&[(&own, &peer, 7, 1)]), None, "that is this end of it");
        assert_eq!(found(&[(&peer, &peer, 7, 1)]), None, "that is connected elsewhere");
        assert_eq!(found(&[(&peer, &own, 0, 0)]), None, "nobody has it");
        assert_eq!(found(&[(&peer, &own, 0, 0), (&peer, &own, 1000, 3)]), Some(1000));
        assert_eq!(found(&[(&mapped, &own_mapped, 1001, 2)]), Some(1001));
        let newer = format!("{}{}{}{}", hex([0; 4]), hex([0; 4]), hex([0; 4]), hex([0, 0, 0, 1]));
        let rows = table(&[(&format!("{newer}:9C40"), &format!("{newer}:05DC"), 1002, 2)]);
        let (at, to) = ("[::1]:40000".parse().unwrap(), "[::1]:1500".parse().unwrap());
        assert_eq!(user_in(rows.as_bytes(), at, to).unwrap(), Some(1002));
    }

    #[test]
    fn what_is_no_row_says_nothing() {
        let (at, to) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        for text in
            ["", "\n", "a b c", "0: 0100007F:0001 0100007F:0002 01", "0: 01:zz :", "0: é:1 :2"]
        {
            assert_eq!(user_in(text.as_bytes(), at, to).unwrap(), None, "{text}");
        }
        for text in ["", ":", "0100007F", "0100007:1F90", "é00007F:1F90", "0100007F:1FFFF"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    /// Both ends of a real connection are this process's.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_system_says_whose_a_connection_is() {
        let own_user = rustix::process::geteuid().as_raw();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let client = TcpStream::connect(to).await.unwrap();
        let at = client.local_addr().unwrap();
        assert_eq!(look(at, to).unwrap(), Some(own_user));
        assert_eq!(look(to, at).unwrap(), None, "it is not accepted so far");
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(find((to, at), PAUSE_MAX).await, Some(own_user));
        drop(accepted);
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert_eq!(look(nobody, to).unwrap(), None);
    }

    /// A program waits for the node's connection, which it accepts a little later.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn who_listens_at_a_port_is_asked_whose_it_is_as_well() {
        let inbox = Arc::new(crate::inbox::Inbox::new(Arc::default()));
        let keeper = || Arc::new(Doorkeeper::new(Arc::clone(&inbox), false, None, None));
        let own_user = rustix::process::geteuid().as_raw();
        let (nobody, own) = (MachineUsers::default(), MachineUsers::These(vec![own_user]));
        for (others, user, expected) in
            [(&nobody, own_user, true), (&nobody, own_user + 1, false), (&own, own_user + 1, true)]
        {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap();
            let connected = TcpStream::connect(to).await.unwrap();
            let neighbours = Neighbours::new(others, &keeper()).run_by(user);
            let accept = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                listener.accept().await.unwrap()
            };
            let may = neighbours.may_listen(&connected, to.port());
            let (_accepted, may) = tokio::join!(accept, may);
            assert_eq!(may, expected, "{others:?} {user}");
        }
        // Who never accepts is nobody.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let connected = TcpStream::connect(to).await.unwrap();
        assert!(!Neighbours::new(&own, &keeper()).may_listen(&connected, to.port()).await);
    }
}
