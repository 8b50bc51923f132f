//! How a node is protected: what its settings say, and what follows from that for its parts.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::inbox::Inbox;
use crate::link_secret::LinkSecret;
use crate::login::Doorkeeper;
use crate::{Config, Failure, first_admin};

pub(crate) struct Protection {
    demands_login: bool,
    pub(crate) secret: Option<Arc<LinkSecret>>,
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
        Ok(Self { demands_login, secret, shown })
    }

    pub(crate) fn keeper(&self, inbox: &Arc<Inbox>) -> Arc<Doorkeeper> {
        Arc::new(Doorkeeper::new(self.demands_login, Arc::clone(inbox)))
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
