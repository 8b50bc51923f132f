//! The folder `tls` in a sandbox: the files of a node whose certificates the cluster makes.
//!
//! `ca.pem` is the authority, for clients to believe. `node.pem` has this node's certificate and
//! its key. `ca-key.pem` is there on the node that began the cluster, until the key is in the
//! cluster's own documents. `joining-key.pem` is there from the first try to join until the node
//! has made itself a certificate from its own replica: up to then the token may be needed again,
//! and it counts for this key alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use access::CERTIFICATE_SECONDS;
use protocol::Moment;
use rcgen::KeyPair;

use crate::Failure;
use crate::authority::{Authority, Subject, fingerprint_of, new_key};
use crate::disk::{FILE_MODE, FOLDER_MODE, sync_folder};
use crate::tls::Files;

const FOLDER: &str = "tls";
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";
const NODE: &str = "node.pem";
const JOINING_KEY: &str = "joining-key.pem";

pub(crate) struct OwnTls {
    folder: PathBuf,
    pub(crate) subject: Subject,
}

impl OwnTls {
    pub(crate) fn in_sandbox(root: &Path, subject: Subject) -> Result<Self, Failure> {
        let folder = root.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&folder)
            .map_err(|error| failed(&folder, &error))?;
        Ok(Self { folder, subject })
    }

    /// Where TLS finds what it needs.
    pub(crate) fn files(&self) -> Files {
        let node = self.folder.join(NODE);
        let authority = self.folder.join(AUTHORITY);
        Files { certificate: node.clone(), key: node, authority: Some(authority) }
    }

    /// What the authority is known by, if there is one.
    pub(crate) fn fingerprint(&self) -> Option<[u8; 32]> {
        self.read(AUTHORITY).and_then(|pem| fingerprint_of(&pem))
    }

    /// A certificate is there, and who has signed it.
    pub(crate) fn is_ready(&self) -> bool {
        self.fingerprint().is_some() && self.folder.join(NODE).exists()
    }

    /// Makes what is not there: an authority, and a certificate by it. If the cluster has another
    /// authority in its documents, that one's certificate comes in their place.
    pub(crate) fn begin(&self, now: SystemTime) -> Result<(), Failure> {
        if self.is_ready() {
            return Ok(());
        }
        let authority = match self.unpublished()? {
            Some(authority) => authority,
            None => Authority::make(now)?,
        };
        self.write(AUTHORITY_KEY, &authority.key())?;
        self.write(AUTHORITY, &authority.certificate)?;
        self.renew(&authority, now)
    }

    /// The authority that this node has made, and that no document has so far.
    pub(crate) fn unpublished(&self) -> Result<Option<Authority>, Failure> {
        match (self.read(AUTHORITY), self.read(AUTHORITY_KEY)) {
            (Some(certificate), Some(key)) => Authority::of(&certificate, &key).map(Some),
            _ => Ok(None),
        }
    }

    /// The cluster has an authority in its documents: this one, or another.
    pub(crate) fn published(&self) {
        drop(fs::remove_file(self.folder.join(AUTHORITY_KEY)));
    }

    /// A new certificate with a new key.
    pub(crate) fn renew(&self, authority: &Authority, now: SystemTime) -> Result<(), Failure> {
        let key = new_key()?;
        let certificate = authority.sign(&self.subject, &key, now)?;
        self.take(&key, &certificate, &authority.certificate)
    }

    /// The key of a node that joins; the same at each try.
    pub(crate) fn joining_key(&self) -> Result<KeyPair, Failure> {
        let known = self.read(JOINING_KEY).and_then(|pem| KeyPair::from_pem(&pem).ok());
        if let Some(key) = known {
            return Ok(key);
        }
        let key = new_key()?;
        self.write(JOINING_KEY, &key.serialize_pem())?;
        Ok(key)
    }

    /// The cluster has let this node in.
    pub(crate) fn joined(
        &self,
        key: &KeyPair,
        certificate: &str,
        authority: &str,
    ) -> Result<(), Failure> {
        self.take(key, certificate, authority)?;
        drop(fs::remove_file(self.folder.join(AUTHORITY_KEY)));
        Ok(())
    }

    /// This node has the cluster's authority in its own replica, and has made itself a certificate
    /// by it: it needs its token no more.
    pub(crate) fn needs_no_token(&self) {
        drop(fs::remove_file(self.folder.join(JOINING_KEY)));
    }

    /// The token may still be needed, and the certificate that was had by it counts no more.
    pub(crate) fn must_join_again(&self, now: Moment) -> bool {
        let life = CERTIFICATE_SECONDS * 1_000_000;
        let is_over = self.made().is_none_or(|made| now.0.saturating_sub(made.0) >= life);
        is_over && self.folder.join(JOINING_KEY).exists()
    }

    fn take(&self, key: &KeyPair, certificate: &str, authority: &str) -> Result<(), Failure> {
        if self.read(AUTHORITY).as_deref() != Some(authority) {
            self.write(AUTHORITY, authority)?;
        }
        // One file, so that key and certificate change at once. The authority stands in it too: who
        // joins is shown all three, and knows the last one.
        let all = [&key.serialize_pem(), certificate, authority].map(str::trim).join("\n");
        self.write(NODE, &format!("{all}\n"))
    }

    /// When the certificate was made.
    pub(crate) fn made(&self) -> Option<Moment> {
        let changed = fs::metadata(self.folder.join(NODE)).and_then(|it| it.modified()).ok()?;
        Some(moment(changed))
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (file, aside) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            drop(fs::remove_file(&aside));
            let mut options = OpenOptions::new();
            let mut opened = options.write(true).create_new(true).mode(FILE_MODE).open(&aside)?;
            opened.write_all(text.as_bytes())?;
            opened.sync_all()?;
            fs::rename(&aside, &file)?;
            sync_folder(&self.folder)
        };
        write().map_err(|error| failed(&file, &error))
    }
}

pub(crate) fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn failed(file: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be written: {error}", file.display()))
        .advise("is the disk full, or the folder not this user's?")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::Tls;

    #[test]
    fn what_is_made_for_a_node_is_what_tls_reads_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let subject = Subject { node_id: "n1".into(), host: "10.0.0.1".into() };
        let own = OwnTls::in_sandbox(folder.path(), subject).unwrap();
        assert!(!own.is_ready());
        let now = SystemTime::now();
        own.begin(now).unwrap();
        assert!(own.is_ready() && own.made().is_some());
        Tls::read(own.files(), &[]).unwrap();
        let (first, authority) = (own.read(NODE), own.fingerprint());
        own.begin(now).unwrap();
        assert_eq!(own.read(NODE), first, "what is there stays");
        own.renew(&own.unpublished().unwrap().unwrap(), now).unwrap();
        assert_ne!(own.read(NODE), first);
        assert_eq!(own.fingerprint(), authority);
        Tls::read(own.files(), &[]).unwrap();
        own.published();
        assert!(own.unpublished().unwrap().is_none());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(own.folder.clone()), FOLDER_MODE);
        for file in fs::read_dir(&own.folder).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(file.clone()), FILE_MODE, "{}", file.display());
        }
    }

    #[test]
    fn a_node_that_joins_asks_with_the_same_key_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let subject = Subject { node_id: "n2".into(), host: "10.0.0.2".into() };
        let own = OwnTls::in_sandbox(folder.path(), subject.clone()).unwrap();
        let key = own.joining_key().unwrap();
        assert_eq!(own.joining_key().unwrap().public_key_raw(), key.public_key_raw());
        let now = SystemTime::now();
        let authority = Authority::make(now).unwrap();
        let certificate = authority.sign(&subject, &key, now).unwrap();
        own.joined(&key, &certificate, &authority.certificate).unwrap();
        assert!(own.is_ready());
        Tls::read(own.files(), &[]).unwrap();
        // Cut off here, it does not know that it has joined, and asks once more.
        assert_eq!(own.joining_key().unwrap().public_key_raw(), key.public_key_raw());
        let (now, day) = (moment(now), CERTIFICATE_SECONDS * 1_000_000);
        assert!(!own.must_join_again(now));
        assert!(own.must_join_again(Moment(now.0 + day + 60_000_000)), "it was off for a day");
        own.needs_no_token();
        assert!(own.read(JOINING_KEY).is_none());
        assert!(!own.must_join_again(Moment(now.0 + day + 60_000_000)), "it renews it by itself");
    }
}
