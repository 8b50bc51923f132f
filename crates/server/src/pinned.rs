//! Speaks TLS with nodes of one cluster that is known by the fingerprint of its authority, before
//! anything of that cluster is on this machine.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::authority::fingerprint;

/// Believes what the one authority has signed. The other end has to show the authority as well.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

pub(crate) fn config(fingerprint: [u8; 32]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { fingerprint, provider: Arc::clone(&provider) });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = |shown: &&CertificateDer<'_>| fingerprint(shown) == self.fingerprint;
        let authority = intermediates
            .iter()
            .find(is_it)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let usual = usual.build().map_err(|error| Error::General(error.to_string()))?;
        usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::authority::{Authority, Subject, fingerprint_of, new_key};

    #[test]
    fn only_the_authority_of_the_token_is_believed() {
        let now = SystemTime::now();
        let (ours, theirs) = (Authority::make(now).unwrap(), Authority::make(now).unwrap());
        let subject = Subject { node_id: "n1".into(), host: "10.0.0.1".into() };
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let leaf_of = |by: &Authority| {
            let key = new_key().unwrap();
            der(&by.sign(&subject, &key, now).unwrap())
        };
        let provider = Arc::new(ring::default_provider());
        let fingerprint = fingerprint_of(&ours.certificate).unwrap();
        let pinned = Pinned { fingerprint, provider };
        let at = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
        let believes = |leaf: &CertificateDer<'_>, shown: &[&Authority], name: &str| {
            let shown: Vec<_> = shown.iter().map(|it| der(&it.certificate)).collect();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            pinned.verify_server_cert(leaf, &shown, &name, &[], at).is_ok()
        };
        let (good, bad) = (leaf_of(&ours), leaf_of(&theirs));
        assert!(believes(&good, &[&ours], "10.0.0.1"));
        assert!(!believes(&good, &[&ours], "10.0.0.9"), "another name");
        assert!(!believes(&good, &[], "10.0.0.1"), "the authority is not shown");
        assert!(!believes(&bad, &[&theirs], "10.0.0.1"));
        // Our authority is public: who shows it beside another one's certificate has shown nothing.
        assert!(!believes(&bad, &[&ours, &theirs], "10.0.0.1"));
        assert!(!believes(&bad, &[&theirs, &ours], "10.0.0.1"));
    }
}
