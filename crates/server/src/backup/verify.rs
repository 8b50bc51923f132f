//! Whether a backup is whole, and what is in it.

use std::collections::BTreeSet;
use std::path::Path;

use node::{Block, Census, groups_of};
use protocol::GroupId;

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
    let (mut before, mut groups, mut directory) = (0, Vec::new(), Vec::new());
    for file in &manifest.groups {
        let mut census = Census::of(GroupId(file.group));
        read_group(folder, &manifest, file, &mut |page, at| {
            progress(before + at, all);
            census.take(&page.block)?;
            if file.group == GroupId::DIRECTORY.0 {
                directory.push(page.block);
            }
            Ok(())
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
    has_all_groups(&manifest, directory)?;
    Ok(Contents { bytes: all, groups, manifest })
}

/// What the directory names must be there, and nothing else.
fn has_all_groups(manifest: &Manifest, directory: Vec<Block>) -> Result<(), Failure> {
    let awaited = groups_of(directory).map_err(|why| Failure::new(format!("directory: {why}")))?;
    let there: BTreeSet<GroupId> = manifest.groups.iter().map(|file| GroupId(file.group)).collect();
    let wrong = |group: &GroupId, what: &str| {
        let file = GroupFile { group: group.0, ..GroupFile::default() };
        Err(Failure::new(format!("{} {what}", file.name()))
            .advise("use another copy of this backup, or another backup"))
    };
    if let Some(missing) = awaited.difference(&there).next() {
        return wrong(missing, "is missing, and the directory names it");
    }
    match there.difference(&awaited).next() {
        Some(unknown) => wrong(unknown, "is there, and the directory does not name it"),
        None => Ok(()),
    }
}
