//! By which ids nodes are known, where an authority signs certificates of others than nodes as
//! well: an id is the URI in a certificate (SPIFFE's, as `spiffe://acme.example/amrita/n1`).

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What ids begin with.
const SCHEME: &str = "spiffe://";

/// Stands for everything below a path.
const ALL_BELOW: &str = "/*";

/// An id that nodes have, or the beginning of such ids.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerId {
    text: String,
    /// Ids that begin with the text, which ends with a slash.
    is_beginning: bool,
}

impl PeerId {
    /// # Errors
    /// When the text is no id, or leaves open which trust domain is meant.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no id of SPIFFE; write it as spiffe://acme.example/amrita/n1, or \
                 spiffe://acme.example/amrita/* for all below"
            )
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (rest, is_beginning) = match rest.strip_suffix(ALL_BELOW) {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let mut parts = rest.split('/');
        let domain = parts.next().unwrap_or_default();
        let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        let is_part = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let is_id = !domain.is_empty()
            && domain.chars().all(is_domain)
            && parts.all(|part| !["", ".", ".."].contains(&part) && part.chars().all(is_part));
        if !is_id {
            return Err(wrong());
        }
        let end = if is_beginning { "/" } else { "" };
        Ok(Self { text: format!("{SCHEME}{rest}{end}"), is_beginning })
    }

    fn means(&self, id: &str) -> bool {
        match self.is_beginning {
            true => id.len() > self.text.len() && id.starts_with(&self.text),
            false => id == self.text,
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_beginning { "*" } else { "" };
        write!(to, "{}{end}", self.text)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{self}")
    }
}

/// Whether a certificate has one of these ids. Without any, whoever has a certificate is meant.
pub(crate) fn is_one_of(ids: &[PeerId], certificate: &CertificateDer<'_>) -> bool {
    ids.is_empty() || id_of(certificate).is_some_and(|id| ids.iter().any(|it| it.means(&id)))
}

/// The id in a certificate. One with several URIs has none: SPIFFE wants such a one refused.
pub(crate) fn id_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut all = certificate.valid_uri_names();
    let id = all.next()?;
    all.next().is_none().then(|| id.to_owned())
}

/// Believes the certificate of a node that was dialed for its id, in place of a name: certificates
/// with ids need not have any.
#[derive(Debug)]
pub(crate) struct ById {
    ids: Arc<[PeerId]>,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ById {
    pub(crate) fn new(
        ids: &Arc<[PeerId]>,
        roots: Arc<RootCertStore>,
        provider: &CryptoProvider,
    ) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { ids: Arc::clone(ids), roots, algorithms }
    }
}

impl ServerCertVerifier for ById {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let (roots, all) = (&self.roots, self.algorithms.all);
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, all)?;
        if is_one_of(&self.ids, certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls::pki_types::pem::PemObject;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tls::{Files, Tls};

    const OURS: &str = "spiffe://acme.example/amrita/n1";

    fn id(text: &str) -> PeerId {
        PeerId::parse(text).unwrap()
    }

    #[test]
    fn an_id_means_itself_and_one_with_a_star_what_is_below() {
        assert!(id(OURS).means(OURS));
        let below = id("spiffe://acme.example/amrita/*");
        assert!(below.means(OURS) && below.means("spiffe://acme.example/amrita/a/b"));
        for other in [
            "",
            "spiffe://acme.example/amrita",
            "spiffe://acme.example/amrita/",
            "spiffe://acme.example/amrita2/n1",
            "spiffe://acme.example/web",
            "spiffe://acme.example.evil/amrita/n1",
            "spiffe://ACME.example/amrita/n1",
            "https://acme.example/amrita/n1",
        ] {
            assert!(!below.means(other) && !id(OURS).means(other), "{other}");
        }
        assert!(id("spiffe://acme.example/*").means(OURS));
        for text in [OURS, "spiffe://acme.example/amrita/*"] {
            assert_eq!(id(text).to_string(), text);
        }
        for wrong in [
            "*",
            "spiffe://",
            "spiffe://*",
            "spiffe:///n1",
            "spiffe://a*/n1",
            "spiffe://a/n*",
            "spiffe://a/",
            "spiffe://a//n1",
            "spiffe://a/../n1",
            "spiffe://A/n1",
            "acme.example/amrita",
        ] {
            assert!(PeerId::parse(wrong).is_err(), "{wrong}");
        }
    }

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// What TLS has for one with these URIs in its certificate, and no other name.
    fn files(folder: &Path, name: &str, by: &Authority, uris: &[&str]) -> Files {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        let signed = params.signed_by(&key, by).unwrap();
        let file = |kind: &str, text: &str| -> PathBuf {
            let file = folder.join(format!("{name}-{kind}.pem"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let certificate = file("cert", &signed.pem());
        let key = file("key", &key.serialize_pem());
        Files { certificate, key, authority: Some(file("ca", &by.pem())) }
    }

    /// Whether who dials believes the other end, and whether that one takes it for a node, if it
    /// speaks with it at all.
    async fn meet(dialing: &Tls, accepting: &Tls) -> (bool, Option<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let accept = async {
            let (socket, _) = listener.accept().await.unwrap();
            accepting.accept(socket).await
        };
        let dial = async {
            let socket = TcpStream::connect(to).await.unwrap();
            dialing.dial("127.0.0.1", socket).await
        };
        let (accepted, dialed) = tokio::join!(accept, dial);
        (dialed.is_ok(), accepted.ok().map(|within| within.is_node))
    }

    #[tokio::test]
    async fn who_has_another_id_of_the_same_authority_is_no_node() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, foreign) = (authority(), authority());
        let ids = [id("spiffe://acme.example/amrita/*")];
        let with = |name: &str, by: &Authority, uris: &[&str], ids: &[PeerId]| {
            Tls::read(files(folder.path(), name, by, uris), ids)
        };
        let one = with("one", &ours, &[OURS], &ids).unwrap();
        let two = with("two", &ours, &["spiffe://acme.example/amrita/n2"], &ids).unwrap();
        // Without any other name in the certificate.
        assert_eq!(meet(&one, &two).await, (true, Some(true)));
        // It may speak as every client does.
        let anybody = [id("spiffe://acme.example/*")];
        for (name, by, uris) in [
            ("web", &ours, &["spiffe://acme.example/web"][..]),
            ("foreign", &foreign, &[OURS]),
            ("both", &ours, &[OURS, "spiffe://acme.example/web"]),
            ("none", &ours, &[]),
        ] {
            let believes = if uris.len() == 1 { &anybody[..] } else { &[] };
            let other = with(name, by, uris, believes).unwrap();
            assert!(!meet(&one, &other).await.0, "{name} is dialed");
            let taken = meet(&other, &one).await.1;
            assert!(taken != Some(true), "{name} dials");
            assert!(name != "web" || taken == Some(false), "{taken:?}");
            let file = folder.path().join(format!("{name}-cert.pem"));
            let certificate = CertificateDer::from_pem_file(file).unwrap();
            assert_eq!(is_one_of(&ids, &certificate), name == "foreign", "{name}");
        }
        // Who would be known by nobody is told so when it starts.
        let refused = with("web", &ours, &["spiffe://acme.example/web"], &ids).err().unwrap();
        let why = refused.to_string();
        assert!(why.contains("spiffe://acme.example/web") && why.contains("amrita/*"), "{why}");
    }
}
