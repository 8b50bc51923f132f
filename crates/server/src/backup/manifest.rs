//! What a backup says about itself.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The form of the folder that this program writes and reads. The form of pages has a number of its
/// own.
pub(super) const FORMAT: u32 = 1;

pub(super) const NAME: &str = "manifest.json";

/// The contents of `manifest.json`, without their checksum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: u32,
    /// Tells backups apart.
    pub backup: String,
    /// The cluster that it is of, by its name.
    pub cluster: String,
    /// The version of amrita that wrote it.
    pub version: String,
    /// When that was, in microseconds since 1970.
    pub at_micros: u64,
    /// The nodes that the cluster had.
    pub nodes: Vec<String>,
    /// Made of what was left of a cluster, and not while it worked.
    #[serde(default)]
    pub is_recovered: bool,
    pub groups: Vec<GroupFile>,
}

/// One group, and its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupFile {
    pub group: u32,
    /// The name of the immortal that lives in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Up to where the group's log is in the backup, and in which term that was written.
    pub position: u64,
    pub term: u64,
    pub bytes: u64,
    /// Of the file's bytes (BLAKE2s, 256 bits).
    pub checksum: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: serde_json::Value,
    checksum: String,
}

impl GroupFile {
    pub(super) fn file_name(&self) -> String {
        file_name(self.group)
    }

    /// For people.
    pub fn name(&self) -> String {
        match (&self.instance, self.group) {
            (Some(name), _) => format!("immortal '{name}'"),
            (None, 0) => "the directory".into(),
            (None, number) => format!("partition {number}"),
        }
    }
}

pub(super) fn file_name(group: u32) -> String {
    format!("group-{group}")
}

pub(super) fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn checksum_of(manifest: &serde_json::Value) -> String {
    in_hex(&Blake2s256::digest(manifest.to_string().as_bytes()))
}

pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let manifest = serde_json::to_value(manifest).expect("a manifest is plain data");
    let checksum = checksum_of(&manifest);
    let sealed = Sealed { manifest, checksum };
    serde_json::to_vec_pretty(&sealed).expect("a manifest is plain data")
}

/// # Errors
/// When there is none, or it is damaged, or of a later format.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, Failure> {
    let path = folder.join(NAME);
    let shown = folder.display();
    let text = fs::read(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound if has_groups(folder) => Failure::new(format!(
            "{shown} has a backup that was cut short: its {NAME}, which is written last, is missing"
        ))
        .advise("use another backup; this one has not everything"),
        ErrorKind::NotFound => Failure::new(format!("{shown} has no backup: there is no {NAME}"))
            .advise("name the folder that 'amrita backup --to' has written"),
        _ => Failure::new(format!("{} cannot be read: {error}", path.display())),
    })?;
    let damaged = |why: String| {
        Failure::new(format!("{} is damaged: {why}", path.display()))
            .advise("use another copy of this backup, or another backup")
    };
    let sealed: Sealed =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if checksum_of(&sealed.manifest) != sealed.checksum {
        return Err(damaged("its checksum is another one".into()));
    }
    let format = sealed.manifest["format"].as_u64().unwrap_or(0);
    if format != u64::from(FORMAT) {
        return Err(Failure::new(format!(
            "the backup in {shown} has format {format}, and this version of amrita reads format {FORMAT}"
        ))
        .advise("use the version of amrita that wrote it, or a later one"));
    }
    serde_json::from_value(sealed.manifest).map_err(|error| damaged(error.to_string()))
}

/// Whether somebody has begun to write a backup there.
fn has_groups(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("group-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_what_is_changed_in_it_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let group = GroupFile { group: 3, position: 7, ..GroupFile::default() };
        let manifest = Manifest {
            format: FORMAT,
            backup: "b".into(),
            groups: vec![group],
            ..Manifest::default()
        };
        let path = folder.path().join(NAME);
        let refusal = || read_manifest(folder.path()).unwrap_err().to_string();
        assert!(refusal().contains("has no backup"));
        fs::write(folder.path().join(file_name(3)), "").unwrap();
        assert!(refusal().contains("cut short"));
        fs::write(&path, encode(&manifest)).unwrap();
        assert_eq!(read_manifest(folder.path()).unwrap(), manifest);
        let text = String::from_utf8(encode(&manifest)).unwrap();
        fs::write(&path, text.replace("\"position\": 7", "\"position\": 8")).unwrap();
        assert!(refusal().contains("checksum"));
        fs::write(&path, encode(&Manifest { format: 9, ..manifest })).unwrap();
        assert!(refusal().contains("format 9"));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(refusal().contains("damaged"));
    }
}
