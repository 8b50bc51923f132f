//! How many requests one client may have under way: so a client that floods the node slows itself
//! and nobody else.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{Code, Principal, Problem};

/// The most requests that one token, or one address without a token, has under way.
const IN_FLIGHT_OF_ONE_MAX: usize = 1_024;

/// Whose requests they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    Token(String),
    Address(Option<IpAddr>),
}

#[derive(Default)]
pub(crate) struct InFlight(Arc<Mutex<BTreeMap<Client, usize>>>);

/// One request that is under way.
pub(crate) struct OneMore {
    all: Arc<Mutex<BTreeMap<Client, usize>>>,
    client: Client,
}

impl InFlight {
    /// # Errors
    /// When too many of this client are under way.
    pub(crate) fn begin(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
    ) -> Result<OneMore, Problem> {
        let client = match principal {
            Principal::Bearer(bearer) if !bearer.name.is_empty() => {
                Client::Token(bearer.name.clone())
            }
            _ => Client::Address(address),
        };
        let mut all = lock(&self.0);
        let count = all.entry(client.clone()).or_default();
        if *count >= IN_FLIGHT_OF_ONE_MAX {
            let text = format!(
                "{IN_FLIGHT_OF_ONE_MAX} requests of this client are under way; wait for some of them"
            );
            let problem = Problem::new(Code::SlowDown, text);
            return Err(Problem { retry_after_seconds: Some(1), ..problem });
        }
        *count += 1;
        Ok(OneMore { all: Arc::clone(&self.0), client })
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        if let Some(count) = all.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.client);
            }
        }
    }
}

fn lock(all: &Mutex<BTreeMap<Client, usize>>) -> MutexGuard<'_, BTreeMap<Client, usize>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use protocol::Bearer;

    use super::*;

    #[test]
    fn who_floods_slows_itself_and_nobody_else() {
        let all = InFlight::default();
        let token = |name: &str| {
            let (name, digest) = (name.to_owned(), String::new());
            Principal::Bearer(Box::new(Bearer { name, digest, is_checked: false }))
        };
        let address = Some(IpAddr::from([10, 0, 0, 9]));
        let mut held: Vec<OneMore> =
            (0..IN_FLIGHT_OF_ONE_MAX).map(|_| all.begin(&token("a"), address).unwrap()).collect();
        let refused = all.begin(&token("a"), address).err().unwrap();
        assert_eq!(refused.status(), 429);
        assert!(all.begin(&token("b"), address).is_ok());
        assert!(all.begin(&Principal::Anonymous, address).is_ok());
        held.pop();
        drop(all.begin(&token("a"), None).unwrap());
        held.clear();
        assert!(lock(&all.0).is_empty(), "nothing is remembered of who has gone");
    }
}
