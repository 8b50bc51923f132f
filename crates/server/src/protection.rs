//! How a node is protected: what its settings say, and what follows from that for its parts.

use std::sync::Arc;
use std::time::SystemTime;

use protocol::Address;
use tokio::runtime::{Handle, Runtime};

use crate::authority::Subject;
use crate::gate::Gate;
use crate::inbox::Inbox;
use crate::link_secret::LinkSecret;
use crate::login::Doorkeeper;
use crate::outside::Outside;
use crate::own_tls::{OwnTls, moment};
use crate::sandbox::Sandbox;
use crate::tls::{self, Files, Tls};
use crate::trail::Trail;
use crate::{Config, Failure, first_admin, joining, renewal, roll_call};

pub(crate) struct Protection {
    demands_login: bool,
    pub(crate) secret: Option<Arc<LinkSecret>>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// If the cluster makes the certificates of its nodes.
    own: Option<Arc<OwnTls>>,
    /// If tokens of an outside issuer are taken.
    outside: Option<Outside>,
    /// For `/readyz`.
    pub(crate) shown: &'static str,
}

impl Protection {
    /// Says it once in the log, when there is none to speak of.
    ///
    /// # Errors
    /// When the settings contradict each other, or the secret of the links cannot be had.
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        let demands_login = config.demands_login()?;
        let secret = config.security.link_secret_file.as_deref().map(LinkSecret::read);
        let secret = secret.transpose()?.map(Arc::new);
        let tls = tls_of(config)?;
        let outside = config.outside_issuer()?.map(Outside::of).transpose()?;
        let shown = if demands_login {
            "on"
        } else if config.bind_address.is_loopback() {
            "off: whoever is on this machine may do everything"
        } else {
            let at = config.bind_address;
            tracing::warn!(
                target: "amrita",
                "INSECURE: this node listens at {at}, and whoever reaches it may do everything \
                 (--insecure)"
            );
            "INSECURE: whoever reaches this node may do everything"
        };
        Ok(Self { demands_login, secret, tls, own: None, outside, shown })
    }

    /// Gets a certificate, if the cluster makes those of its nodes: by a token, or as the first
    /// node by an authority that it makes.
    ///
    /// # Errors
    /// When the cluster does not let this node in, or the sandbox belongs to another one.
    pub(crate) fn certify(
        &mut self,
        config: &Config,
        sandbox: &mut Sandbox,
        public: &Address,
        runtime: &Runtime,
    ) -> Result<(), Failure> {
        if !config.makes_certificates() {
            return Ok(());
        }
        let node_id = sandbox.identity().node_id.clone();
        let subject = Subject { node_id, host: public.host().to_owned() };
        let own = OwnTls::in_sandbox(sandbox.root(), subject)?;
        if let Some(token) = &config.security.certificates.join
            && is_new_to(token, &own, sandbox)?
        {
            let contact = runtime.block_on(joining::join(&own, token, public))?;
            if !sandbox.identity().has_begun {
                sandbox.joins(contact.to_string())?;
            }
        }
        own.begin(SystemTime::now())?;
        self.tls = Some(Arc::new(Tls::read(own.files(), &[])?));
        self.own = Some(Arc::new(own));
        Ok(())
    }

    /// Whether strangers are kept out.
    pub(crate) fn is_on(&self) -> bool {
        self.demands_login || self.secret.is_some() || self.tls.is_some()
    }

    /// Who lets people in, and records it. `node_id`: whose record it is, and how many days it
    /// lasts.
    pub(crate) fn keeper(
        &mut self,
        inbox: &Arc<Inbox>,
        public: &Address,
        (node_id, days): (&str, u32),
        runtime: &Handle,
    ) -> Arc<Doorkeeper> {
        let gate = self.own.as_ref().map(|_| Gate { public: public.clone() });
        let trail = self.demands_login.then(|| {
            let (trail, writing) = Trail::begin(inbox, node_id, days);
            runtime.spawn(writing);
            trail
        });
        let (inbox, is_tls) = (Arc::clone(inbox), self.tls.is_some());
        let keeper = Doorkeeper::new(inbox, is_tls, gate, trail);
        let Some(outside) = self.outside.take() else { return Arc::new(keeper) };
        runtime.spawn(outside.follow_keys());
        Arc::new(keeper.taking(outside))
    }

    /// Keeps certificates as new as they must be.
    pub(crate) fn follow_files(&self, runtime: &Handle, inbox: &Arc<Inbox>) {
        let Some(tls) = self.tls.clone() else { return };
        if let Some(own) = self.own.clone() {
            runtime.spawn(renewal::keep(own, Arc::clone(&tls), Arc::clone(inbox)));
        }
        runtime.spawn(tls.follow_files());
    }

    /// How many descriptors a connection takes.
    pub(crate) fn descriptors(&self) -> usize {
        if self.tls.is_some() { tls::DESCRIPTORS } else { 1 }
    }

    /// Where clients must log in, somebody must be able to.
    /// Makes the first admin, and has the audit trail say who belongs to the cluster.
    pub(crate) fn keep_watch(&self, runtime: &Handle, keeper: Arc<Doorkeeper>, sandbox: &Sandbox) {
        if self.demands_login {
            let node_id = sandbox.identity().node_id.clone();
            runtime.spawn(roll_call::keep(Arc::clone(&keeper), node_id));
            let sandbox = sandbox.root().to_owned();
            runtime.spawn(async move { first_admin::make(keeper, &sandbox).await });
        }
    }
}

/// Whether a node still has to join by its token. A node that has done so is started with the same
/// words again; it asks once more only if its certificate counts no more and it never got as far as
/// making its own.
fn is_new_to(token: &access::JoinToken, own: &OwnTls, sandbox: &Sandbox) -> Result<bool, Failure> {
    let is_known = own.is_ready() && own.fingerprint() == Some(token.fingerprint);
    let identity = sandbox.identity();
    if is_known && own.must_join_again(moment(SystemTime::now())) {
        return Ok(true);
    }
    if is_known && (identity.has_begun || identity.others.join.is_some()) {
        return Ok(false);
    }
    if identity.has_begun {
        let shown = sandbox.root().display();
        return Err(Failure::new(format!(
            "the sandbox {shown} belongs to a node already, and not to the cluster of this token"
        ))
        .advise("name an empty --sandbox to join, or start without --join"));
    }
    Ok(true)
}

fn tls_of(config: &Config) -> Result<Option<Arc<Tls>>, Failure> {
    let given = &config.security.certificates;
    let (Some(certificate), Some(key)) = (given.tls_cert.clone(), given.tls_key.clone()) else {
        return Ok(None);
    };
    let authority = given.tls_client_ca.clone();
    let files = Files { certificate, key, authority };
    Tls::read(files, &given.tls_peer_ids).map(|tls| Some(Arc::new(tls)))
}

#[cfg(test)]
mod tests {
    use access::{CERTIFICATE_SECONDS, JoinToken};

    use super::*;
    use crate::Encryption;
    use crate::authority::Authority;
    use crate::sandbox::Wanted;

    #[test]
    fn a_join_that_was_cut_off_goes_on_and_one_that_was_not_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted {
            node_id: Some("n2".into()),
            peers: Vec::new(),
            trusts_sandbox: false,
            encryption: Encryption::default(),
        };
        let mut sandbox = Sandbox::open(folder.path(), &wanted).unwrap();
        let subject = Subject { node_id: "n2".into(), host: "10.0.0.2".into() };
        let own = OwnTls::in_sandbox(sandbox.root(), subject.clone()).unwrap();
        let now = SystemTime::now();
        let authority = Authority::make(now).unwrap();
        let fingerprint = crate::authority::fingerprint_of(&authority.certificate).unwrap();
        let (name, secret) = ("t".to_owned(), [0; access::SECRET_BYTES]);
        let token = JoinToken { name, secret, fingerprint, contacts: Vec::new() };
        let is_new = |own: &OwnTls, sandbox: &Sandbox| is_new_to(&token, own, sandbox).unwrap();
        assert!(is_new(&own, &sandbox));
        let key = own.joining_key().unwrap();
        let certificate = authority.sign(&subject, &key, now).unwrap();
        own.joined(&key, &certificate, &authority.certificate).unwrap();
        // Cut off here it asks again, and must do so with the key that the token was used for.
        assert!(is_new(&own, &sandbox));
        assert_eq!(own.joining_key().unwrap().public_key_raw(), key.public_key_raw());
        sandbox.joins("https://10.0.0.1:8000".into()).unwrap();
        assert!(!is_new(&own, &sandbox));
        // It was off before it had anything of the cluster but a certificate of a day.
        let long_ago = now - std::time::Duration::from_secs(2 * CERTIFICATE_SECONDS);
        let file = std::fs::File::options().write(true).open(own.files().certificate).unwrap();
        file.set_modified(long_ago).unwrap();
        assert!(is_new(&own, &sandbox));
        own.needs_no_token();
        assert!(!is_new(&own, &sandbox));
    }
}
