//! How a node is protected: what its settings say, and what follows from that for its parts.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::inbox::Inbox;
use crate::link_secret::LinkSecret;
use crate::login::Doorkeeper;
use crate::tls::{self, Files, Tls};
use crate::{Config, Failure, first_admin};

pub(crate) struct Protection {
    demands_login: bool,
    pub(crate) secret: Option<Arc<LinkSecret>>,
    pub(crate) tls: Option<Arc<Tls>>,
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
        Ok(Self { demands_login, secret, tls, shown })
    }

    /// Whether strangers are kept out.
    pub(crate) fn is_on(&self) -> bool {
        self.demands_login || self.secret.is_some() || self.tls.is_some()
    }

    pub(crate) fn keeper(&self, inbox: &Arc<Inbox>) -> Arc<Doorkeeper> {
        Arc::new(Doorkeeper::new(self.demands_login, self.tls.is_some(), Arc::clone(inbox)))
    }

    pub(crate) fn follow_files(&self, runtime: &Handle) {
        if let Some(tls) = self.tls.clone() {
            runtime.spawn(tls.follow_files());
        }
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

fn tls_of(config: &Config) -> Result<Option<Arc<Tls>>, Failure> {
    let security = &config.security;
    let (Some(certificate), Some(key)) = (security.tls_cert.clone(), security.tls_key.clone())
    else {
        return Ok(None);
    };
    let authority = security.tls_client_ca.clone();
    Tls::read(Files { certificate, key, authority }).map(|tls| Some(Arc::new(tls)))
}
