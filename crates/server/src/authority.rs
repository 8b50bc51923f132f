//! The cluster's own authority: makes itself, and signs certificates of nodes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access::CERTIFICATE_SECONDS;
use blake2::{Blake2s256, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::Failure;

/// What an authority calls itself. Certificates name it, so it never changes.
const NAME: &str = "amrita cluster";

/// How long an authority counts: as long as the cluster.
const AUTHORITY_LIFE: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A certificate counts from a little before it is made, as clocks differ.
const BEFORE: Duration = Duration::from_secs(3_600);

/// A public key on the curve P-256, as certificates have it: a mark and two coordinates.
const KEY_BYTES: usize = 65;
const KEY_MARK: u8 = 4;

/// A certificate that signs others, and its key.
pub(crate) struct Authority {
    /// In PEM.
    pub(crate) certificate: String,
    key: KeyPair,
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) node_id: String,
    /// The name or the address that others reach the node by.
    pub(crate) host: String,
}

/// A key whose other half only its node has.
pub(crate) struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
        (bytes[0] == KEY_MARK).then_some(Self(bytes))
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("a certificate cannot be made: {error}"))
}

pub(crate) fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// What an authority's certificate says, but for its time.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(NAME);
    // It signs nodes and no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn between(mut params: CertificateParams, now: SystemTime, life: Duration) -> CertificateParams {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + since.saturating_sub(BEFORE);
    params.not_after = date_time_ymd(1970, 1, 1) + (since + life);
    params
}

impl Authority {
    pub(crate) fn make(now: SystemTime) -> Result<Self, Failure> {
        let key = new_key()?;
        let certificate = between(params(), now, AUTHORITY_LIFE).self_signed(&key);
        let certificate = certificate.map_err(|error| failed(&error))?.pem();
        Ok(Self { certificate, key })
    }

    /// One that was made before.
    pub(crate) fn of(certificate: &str, key: &str) -> Result<Self, Failure> {
        let key = KeyPair::from_pem(key).map_err(|error| failed(&error))?;
        Ok(Self { certificate: certificate.to_owned(), key })
    }

    /// In PEM.
    pub(crate) fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// A certificate of a node, in PEM.
    pub(crate) fn sign(
        &self,
        subject: &Subject,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<String, Failure> {
        let host = subject.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // On its own machine a node may be called by these as well.
        let mut hosts = vec![host, "localhost".into(), "127.0.0.1".into(), "::1".into()];
        hosts.dedup();
        let mut leaf = CertificateParams::new(hosts).map_err(|error| failed(&error))?;
        leaf.distinguished_name = named(&subject.node_id);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf = between(leaf, now, Duration::from_secs(CERTIFICATE_SECONDS));
        let issuer = Issuer::new(params(), &self.key);
        let signed = leaf.signed_by(key, &issuer).map_err(|error| failed(&error))?;
        Ok(signed.pem())
    }
}

/// By what one authority is told from others.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Blake2s256::digest(certificate).into()
}

/// The same of a certificate in PEM.
pub(crate) fn fingerprint_of(pem: &str) -> Option<[u8; 32]> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|it| fingerprint(&it))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::ring;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    /// Whether somebody who trusts an authority believes that a certificate is of that name.
    fn is_believed(authority: &str, leaf: &str, name: &str, at: SystemTime) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(authority)).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.build().unwrap().verify_server_cert(&der(leaf), &[], &name, &[], at).is_ok()
    }

    #[test]
    fn what_an_authority_has_signed_counts_for_a_day_and_for_its_names() {
        let now = SystemTime::now();
        let made = Authority::make(now).unwrap();
        // As another node reads it from the document.
        let authority = Authority::of(&made.certificate, &made.key()).unwrap();
        let key = new_key().unwrap();
        let subject = Subject { node_id: "n1".into(), host: "10.0.0.1".into() };
        let public = PublicKey::of(key.public_key_raw()).unwrap();
        let leaf = authority.sign(&subject, &public, now).unwrap();
        let believed = |name, at| is_believed(&made.certificate, &leaf, name, at);
        assert!(believed("10.0.0.1", now) && believed("localhost", now));
        assert!(!believed("10.0.0.2", now));
        let day = Duration::from_secs(CERTIFICATE_SECONDS);
        assert!(believed("10.0.0.1", now + day - Duration::from_secs(1)));
        assert!(!believed("10.0.0.1", now + day + Duration::from_secs(1)));
        let other = Authority::make(now).unwrap();
        assert!(!is_believed(&other.certificate, &leaf, "10.0.0.1", now));
        assert_ne!(fingerprint_of(&made.certificate), fingerprint_of(&other.certificate));
        // A node cannot let others in: what it signs, nobody believes.
        let node = Authority { certificate: leaf.clone(), key };
        let forged = node.sign(&subject, &new_key().unwrap(), now).unwrap();
        assert!(!is_believed(&made.certificate, &forged, "10.0.0.1", now));
    }

    #[test]
    fn what_is_no_key_is_not_signed() {
        let key = new_key().unwrap();
        let mut bytes = key.public_key_raw().to_vec();
        assert!(PublicKey::of(&bytes).is_some());
        assert!(PublicKey::of(&bytes[1..]).is_none());
        bytes[0] = 3;
        assert!(PublicKey::of(&bytes).is_none());
    }
}
