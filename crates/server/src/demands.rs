//! What the settings about security say together: whether clients must log in, and where the
//! certificates come from.

use crate::config::{Certificates, Security};
use crate::jwt_settings::OutsideIssuer;
use crate::{Config, Failure};

impl Config {
    /// Whether clients must log in.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn demands_login(&self) -> Result<bool, Failure> {
        let Security { auth, insecure, .. } = self.security;
        if auth && insecure {
            return Err(Failure::new("--auth and --insecure contradict each other")
                .advise("leave one of them out"));
        }
        self.check_tls()?;
        let demands = auth || !(insecure || self.bind_address.is_loopback());
        let security = &self.security;
        let knows_nodes = security.link_secret_file.is_some()
            || security.certificates.tls_client_ca.is_some()
            || self.makes_certificates();
        if demands && self.has_peers() && !knows_nodes {
            return Err(Failure::new("nodes that demand a login must know each other").advise(
                "give all nodes of the cluster the same --link-secret-file, made with: head -c 32 \
                 /dev/urandom | base64; or certificates, with --tls-client-ca",
            ));
        }
        Ok(demands)
    }

    /// The outside issuer whose tokens are taken.
    ///
    /// # Errors
    /// When the settings about it contradict each other.
    pub(crate) fn outside_issuer(&self) -> Result<Option<OutsideIssuer>, Failure> {
        self.security.jwt.issuer(self.demands_login()?)
    }

    fn has_peers(&self) -> bool {
        self.founding.peer_nodes.len() > 1
    }

    /// Whether the cluster makes the certificates of its nodes.
    pub(crate) fn makes_certificates(&self) -> bool {
        let Certificates { tls_cert, cluster_ca, join, .. } = &self.security.certificates;
        let is_asked = *cluster_ca || join.is_some();
        let is_reached = !self.bind_address.is_loopback() && !self.security.insecure;
        tls_cert.is_none() && (is_asked || is_reached)
    }

    pub(crate) fn speaks_tls(&self) -> bool {
        self.security.certificates.tls_cert.is_some() || self.makes_certificates()
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.speaks_tls() { "https" } else { "http" }
    }

    /// What all the flags about TLS say together.
    fn check_tls(&self) -> Result<(), Failure> {
        let Certificates { tls_cert, tls_key, tls_client_ca, tls_peer_ids, .. } =
            &self.security.certificates;
        if tls_cert.is_some() != tls_key.is_some() {
            return Err(Failure::new("--tls-cert and --tls-key belong together")
                .advise("give both or none of them"));
        }
        if tls_cert.is_none() && tls_client_ca.is_some() {
            return Err(Failure::new("--tls-client-ca says nothing without --tls-cert")
                .advise("give --tls-cert and --tls-key as well"));
        }
        if tls_client_ca.is_none() && !tls_peer_ids.is_empty() {
            return Err(Failure::new("--tls-peer-ids says nothing without --tls-client-ca")
                .advise("give --tls-client-ca: who signs the certificates with these ids"));
        }
        self.check_own_certificates()?;
        if tls_cert.is_some() && tls_client_ca.is_none() && self.has_peers() {
            return Err(Failure::new("nodes with TLS must know each other's certificates")
                .advise("give --tls-client-ca: who signs the certificates of all nodes"));
        }
        let named = self.founding.peer_nodes.iter().chain(&self.public_uri);
        if let Some(other) = named.into_iter().find(|it| it.is_tls() != self.speaks_tls()) {
            return Err(Failure::new(format!(
                "this node speaks {}, and {other} is another scheme",
                self.scheme()
            ))
            .advise(
                "with TLS (--tls-cert or --cluster-ca) all nodes of a cluster are https://, without \
                 it http://",
            ));
        }
        Ok(())
    }

    /// What does not go with certificates that the cluster makes.
    fn check_own_certificates(&self) -> Result<(), Failure> {
        let Certificates { cluster_ca, join, tls_cert, .. } = &self.security.certificates;
        let insecure = &self.security.insecure;
        let flag = if join.is_some() { "--join" } else { "--cluster-ca" };
        let is_said = *cluster_ca || join.is_some();
        if is_said && (tls_cert.is_some() || *insecure) {
            let other = if *insecure { "--insecure" } else { "--tls-cert" };
            return Err(Failure::new(format!("{flag} and {other} contradict each other"))
                .advise("leave one of them out"));
        }
        if !self.makes_certificates() {
            return Ok(());
        }
        let bound = self.bind_address;
        if bound.is_unspecified() && self.public_uri.is_none() {
            return Err(Failure::new(format!(
                "others reach a node at {bound} by an address that its certificate must name"
            ))
            .advise(
                "say it with --public-uri https://ADDRESS:PORT, or bind to that one address; or \
                 give a certificate with --tls-cert and --tls-key; or --insecure, if whoever \
                 reaches the node may read and change everything",
            ));
        }
        if self.has_peers() {
            return Err(Failure::new(
                "nodes that name each other as --peer-nodes need certificates from the start",
            )
            .advise(
                "start the first node alone and the others with --join, each with a token of \
                 `amrita token create --join`: the cluster then makes all certificates; or give \
                 --tls-cert, --tls-key and --tls-client-ca; or --insecure, if whoever reaches the \
                 node may read and change everything",
            ));
        }
        Ok(())
    }
}
