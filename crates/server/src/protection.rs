//! How a node is protected: what its settings say, and what follows from that for its parts.

use std::path::Path;
use std::sync::Arc;

use protocol::Address;
use tokio::runtime::{Handle, Runtime};

use crate::authority::Subject;
use crate::gate::Gate;
use crate::inbox::Inbox;
use crate::link_secret::LinkSecret;
use crate::login::Doorkeeper;
use crate::own_tls::OwnTls;
use crate::sandbox::Sandbox;
use crate::tls::{self, Files, Tls};
use crate::trail::Trail;
use crate::{Config, Failure, first_admin, joining, renewal};

pub(crate) struct Protection {
    demands_login: bool,
    pub(crate) secret: Option<Arc<LinkSecret>>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// If the cluster makes the certificates of its nodes.
    own: Option<Arc<OwnTls>>,
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
        Ok(Self { demands_login, secret, tls, own: None, shown })
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
        if let Some(token) = &config.security.join
            && is_new_to(token, &own, sandbox)?
        {
            let contact = runtime.block_on(joining::join(&own, token, public))?;
            sandbox.joins(contact.to_string())?;
        }
        own.begin(std::time::SystemTime::now())?;
        self.tls = Some(Arc::new(Tls::read(own.files())?));
        self.own = Some(Arc::new(own));
        Ok(())
    }

    /// Whether strangers are kept out.
    pub(crate) fn is_on(&self) -> bool {
        self.demands_login || self.secret.is_some() || self.tls.is_some()
    }

    /// Who lets people in, and records it. `node_id`: whose record it is, and how many days it lasts.
    pub(crate) fn keeper(
        &self,
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
        Arc::new(Doorkeeper::new(inbox, is_tls, gate, trail))
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
    pub(crate) fn make_first_admin(
        &self,
        runtime: &Handle,
        keeper: Arc<Doorkeeper>,
        sandbox: &Path,
    ) {
        if self.demands_login {
            let sandbox = sandbox.to_owned();
            runtime.spawn(async move { first_admin::make(keeper, &sandbox).await });
        }
    }
}

/// Whether a node still has to join by its token. A node that has done so is started with the same
/// words again.
fn is_new_to(token: &access::JoinToken, own: &OwnTls, sandbox: &Sandbox) -> Result<bool, Failure> {
    let is_known = own.is_ready() && own.fingerprint() == Some(token.fingerprint);
    let identity = sandbox.identity();
    if is_known && (identity.has_begun || identity.join.is_some()) {
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
    let security = &config.security;
    let (Some(certificate), Some(key)) = (security.tls_cert.clone(), security.tls_key.clone())
    else {
        return Ok(None);
    };
    let authority = security.tls_client_ca.clone();
    Tls::read(Files { certificate, key, authority }).map(|tls| Some(Arc::new(tls)))
}
