//! Passwords: their hashes are made and checked beside the node's thread, a few at a time.

use std::net::IpAddr;

use access::is_password_hash;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use protocol::{Code, Problem};
use tokio::sync::Semaphore;

use crate::caller::network_of;
use crate::principal::fill;
use crate::shares::Shares;

/// How many hashes are made at a time: each takes a processor for some hundredths of a second, and
/// 19 MiB.
const HASHES_MAX: usize = 2;

/// How many more may wait for their turn.
const HASHES_WAITING_MAX: usize = 64;

/// How many of all these one client may have: one who sends many passwords must not keep all others
/// from logging in.
const HASHES_OF_ONE_MAX: usize = 8;

/// The longest password, in bytes.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1_024;

/// The shortest one that is taken for a user.
const PASSWORD_CHARACTERS_MIN: usize = 8;

/// A hash that no password has, for users that are not there.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                       AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(crate) struct Passwords {
    running: Semaphore,
    waiting: Semaphore,
    of_each: Shares<Client>,
}

/// For whom a hash is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// The node itself, or somebody on its machine.
    Own,
    User(String),
    Network(IpAddr),
}

impl Client {
    pub(crate) fn at(address: Option<IpAddr>) -> Self {
        match address.map(network_of) {
            Some(network) if !network.is_loopback() => Self::Network(network),
            _ => Self::Own,
        }
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            running: Semaphore::new(HASHES_MAX),
            waiting: Semaphore::new(HASHES_MAX + HASHES_WAITING_MAX),
            of_each: Shares::of(HASHES_OF_ONE_MAX),
        }
    }
}

impl Passwords {
    /// The hash of a new password, in the form that says how it was made.
    ///
    /// # Errors
    /// When it is too short or too long, or too many wait.
    pub(crate) async fn hash(&self, of: Client, password: String) -> Result<String, Problem> {
        if password.chars().count() < PASSWORD_CHARACTERS_MIN {
            let text = format!("a password needs at least {PASSWORD_CHARACTERS_MIN} characters");
            return Err(Problem::bad_request(text));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            let text = format!("a password has at most {PASSWORD_BYTES_MAX} bytes");
            return Err(Problem::bad_request(text));
        }
        self.run(of, move || {
            let mut salt = [0; 16];
            fill(&mut salt);
            let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
            let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
        })
        .await?
        .map_err(|why| Problem::internal(format!("the password cannot be hashed: {why}")))
    }

    /// Whether it is the password of this hash. Without a hash it takes as long and is not.
    ///
    /// # Errors
    /// When too many wait.
    pub(crate) async fn is_right(
        &self,
        of: Client,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Problem> {
        self.run(of, move || {
            // Any other costs what its maker wanted.
            let known = hash.as_deref().is_some_and(is_password_hash);
            let text = hash.filter(|_| known).unwrap_or_else(|| NOBODYS.to_owned());
            let Ok(hash) = PasswordHash::new(&text) else { return false };
            let is_right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
            is_right && known
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        of: Client,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || Problem::new(Code::Busy, "too many log in at this moment; try again");
        let _of_one = match of {
            Client::Own => None,
            other => Some(self.of_each.take(other).ok_or_else(|| {
                let text = "too many passwords of yours are looked at already; try again";
                Problem::new(Code::Busy, text)
            })?),
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let _running = self.running.acquire().await.map_err(|_| busy())?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Problem::internal("a thread for passwords ended by a mistake"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_a_short_one_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let passwords = Passwords::default();
            let hash = passwords.hash(Client::Own, "correct horse".into()).await.unwrap();
            assert!(is_password_hash(&hash) && is_password_hash(NOBODYS), "{hash}");
            assert_ne!(hash, passwords.hash(Client::Own, "correct horse".into()).await.unwrap());
            let right = |text: &str, hash: &Option<String>| {
                passwords.is_right(Client::Own, text.to_owned(), hash.clone())
            };
            let hash = Some(hash);
            assert!(right("correct horse", &hash).await.unwrap());
            assert!(!right("battery staple", &hash).await.unwrap());
            assert!(!right("", &None).await.unwrap());
            // It would take 4 TB and four thousand million rounds.
            let dear = "$argon2id$v=19$m=4294967295,t=4294967295,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
                        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
            assert!(!is_password_hash(dear));
            assert!(!right("correct horse", &Some(dear.to_owned())).await.unwrap());
            assert!(PasswordHash::new(NOBODYS).is_ok(), "or it would take no time");
            assert_eq!(
                passwords.hash(Client::Own, "short".into()).await.unwrap_err().status(),
                400
            );
        });
    }
    /// As many as there are places for, all by one user: another one has a place all the same.
    #[test]
    fn one_user_does_not_keep_another_from_logging_in() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let passwords = std::sync::Arc::new(Passwords::default());
            let of = |name: &str| {
                let passwords = std::sync::Arc::clone(&passwords);
                let user = Client::User(name.to_owned());
                tokio::spawn(async move { passwords.hash(user, "a long password".into()).await })
            };
            let many: Vec<_> = (0..HASHES_MAX + HASHES_WAITING_MAX).map(|_| of("eve")).collect();
            let other = of("jane");
            assert!(other.await.unwrap().is_ok());
            let mut refused = 0;
            for one in many {
                match one.await.unwrap() {
                    Ok(_) => {}
                    Err(problem) => {
                        assert_eq!(problem.code, Code::Busy);
                        refused += 1;
                    }
                }
            }
            assert_eq!(refused, HASHES_MAX + HASHES_WAITING_MAX - HASHES_OF_ONE_MAX);
        });
    }
}
