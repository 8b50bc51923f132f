//! The room that the files of a sandbox take.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use node::Files;

/// In what the system counts the room of a file, whatever the blocks of the disk are.
const BLOCK_BYTES: u64 = 512;

/// Counts it. A file may be longer than what it takes, as the store's own log is. What goes away
/// meanwhile is not counted.
pub(crate) fn files_of(sandbox: &Path) -> Files {
    let system = rustix::fs::statvfs(sandbox).ok();
    let free_bytes = system.map(|it| it.f_bavail.saturating_mul(it.f_frsize));
    let mut files = Files { free_bytes, ..Files::default() };
    for entry in fs::read_dir(sandbox).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        files.bytes.insert(name, bytes_of(&entry));
    }
    files
}

/// Of a file, or of all files below a folder. Links are not followed.
fn bytes_of(entry: &fs::DirEntry) -> u64 {
    match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(entry.path()).into_iter().flatten().flatten().map(|it| bytes_of(&it)).sum()
        }
        Ok(metadata) if metadata.is_file() => metadata.blocks().saturating_mul(BLOCK_BYTES),
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_count_for_the_folder_below_the_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("log/deep")).unwrap();
        for (name, kibibytes) in [("log/a", 64), ("log/deep/b", 128), ("node.json", 32)] {
            let mut file = fs::File::create(root.join(name)).unwrap();
            file.write_all(&vec![1; kibibytes << 10]).unwrap();
            file.sync_all().unwrap();
        }
        // Room that is not there.
        fs::File::create(root.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink(root.join("log"), root.join("link")).unwrap();
        let files = files_of(root);
        let is_about = |name: &str, kibibytes: u64| {
            let found = files.bytes[name] >> 10;
            assert!((kibibytes..=kibibytes + 16).contains(&found), "{name}: {found} KiB");
        };
        is_about("link", 0);
        is_about("log", 192);
        is_about("node.json", 32);
        is_about("sparse", 0);
        assert!(files.free_bytes.is_some_and(|free| free > 0));
        assert!(files_of(&root.join("nothing")).bytes.is_empty());
    }
}
