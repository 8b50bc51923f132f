//! Whether a backup is whole, and what is in it.

use std::path::Path;

use node::Census;

use super::files::read_group;
use super::manifest::{GroupFile, Manifest, read_manifest};
use crate::Failure;

/// What a backup has.
#[derive(Clone, Debug)]
pub struct Contents {
    pub manifest: Manifest,
    pub bytes: u64,
    /// Of each group, in the order of the manifest.
    pub groups: Vec<(GroupFile, Census)>,
}

impl Contents {
    /// All groups together.
    pub fn documents(&self) -> u64 {
        self.groups.iter().map(|(_, census)| census.documents).sum()
    }

    pub fn instances(&self) -> usize {
        self.groups.iter().filter(|(file, _)| file.instance.is_some()).count()
    }
}

/// Reads all of it. `progress` is told how many of how many bytes were read.
///
/// # Errors
/// What is missing or damaged, or of another backup or a later format.
pub fn verify(folder: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Contents, Failure> {
    let manifest = read_manifest(folder)?;
    let sum = |sum: u64, file: &GroupFile| sum.checked_add(file.bytes);
    let all = manifest.groups.iter().try_fold(0, sum).ok_or_else(|| {
        Failure::new(format!("{}: its manifest has impossible lengths", folder.display()))
    })?;
    let (mut before, mut groups) = (0, Vec::new());
    for file in &manifest.groups {
        let mut census = Census::of(protocol::GroupId(file.group));
        read_group(folder, &manifest, file, &mut |page, at| {
            progress(before + at, all);
            census.take(&page.block)
        })?;
        let end = census.end().map_err(|why| Failure::new(format!("{}: {why}", file.name())))?;
        if end != (file.position, file.term) {
            return Err(Failure::new(format!(
                "{} stands at position {} in its file, and at {} in the manifest",
                file.name(),
                end.0,
                file.position
            ))
            .advise("use another copy of this backup, or another backup"));
        }
        before += file.bytes;
        groups.push((file.clone(), census));
    }
    Ok(Contents { bytes: all, groups, manifest })
}
