//! What the node keeps for people, in the sandbox: one text for each program that did not do again
//! what it had done.
//!
//! In an encrypted sandbox the texts are encrypted, and their names tell nothing; [`unseal`] shows
//! one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::hash::hash;
use storage::{DataKey, Purpose};

use crate::keyring::sealer;

/// The most files that are kept. One more is not written, and that is said in the node's log.
const REPROS_MAX: usize = 100;

/// The longest text. The rest of a longer one is cut off.
const REPRO_BYTES_MAX: usize = 4 << 20;

/// The longest name of a file, without its ending.
const NAME_BYTES_MAX: usize = 100;

/// The folder in the sandbox.
pub(crate) const FOLDER: &str = "repros";

/// How the name of an encrypted text ends.
const SEALED: &str = "sealed";

/// What an encrypted text is bound to.
const ABOUT: &[u8] = b"repro";

/// Where the texts go.
#[derive(Clone, Debug)]
pub(crate) struct Repros {
    pub(crate) sandbox: PathBuf,
    /// Of an encrypted sandbox.
    pub(crate) key: Option<DataKey>,
}

/// Writes the text and says where it is. Two names that differ only in what a file's name should
/// not have are one: the later text is kept.
pub(crate) fn keep(repros: &Repros, name: &str, text: &str) {
    match write(repros, name, text) {
        Ok(path) => {
            tracing::warn!(target: "amrita", "what happened to {name} is in {}", path.display());
        }
        Err(why) => {
            tracing::warn!(target: "amrita", "what happened to {name} is not kept: {why}");
        }
    }
}

fn write(repros: &Repros, name: &str, text: &str) -> Result<PathBuf, String> {
    let folder = repros.sandbox.join(FOLDER);
    let text = cut(text).as_bytes();
    let (path, content) = match &repros.key {
        None => (folder.join(format!("{}.txt", safe(name))), text.to_vec()),
        Some(key) => {
            let content = [name.as_bytes(), b"\n", text].concat();
            (folder.join(format!("{:016x}.{SEALED}", hash(name.as_bytes()))), sealed(key, &content))
        }
    };
    let kept = fs::create_dir_all(&folder).and_then(|()| Ok(fs::read_dir(&folder)?.count()));
    let shown = folder.display();
    let failed = |error: io::Error| format!("{shown}: {error}");
    if kept.map_err(failed)? >= REPROS_MAX && !path.exists() {
        return Err(format!("{shown} has {REPROS_MAX} files already; remove those of old"));
    }
    fs::write(&path, content).map_err(failed)?;
    Ok(path)
}

fn sealed(key: &DataKey, content: &[u8]) -> Vec<u8> {
    sealer(key).seal(Purpose::Text, ABOUT, content)
}

/// An encrypted text; nothing when this is none, or none under that key.
pub(crate) fn unseal(content: &[u8], key: &DataKey) -> Option<Vec<u8>> {
    key.open(Purpose::Text, ABOUT, content)
}

/// Writes all texts of a sandbox into another folder, under another key or none.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    (old, new): (Option<&DataKey>, Option<&DataKey>),
) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let path = file?.path();
        let content = fs::read(&path)?;
        let text = match old.filter(|_| path.extension().is_some_and(|it| it == SEALED)) {
            None => Some(content),
            Some(old) => unseal(&content, old),
        };
        // Of another life of the sandbox: nobody can read it.
        let (Some(text), Some(name)) = (text, path.file_stem()) else { continue };
        let name = name.to_string_lossy();
        let (name, content) = match new {
            None => (format!("{name}.txt"), text),
            Some(new) if old.is_some() => (format!("{name}.{SEALED}"), sealed(new, &text)),
            Some(new) => {
                let text = [name.as_bytes(), b"\n", &text].concat();
                (format!("{:016x}.{SEALED}", hash(name.as_bytes())), sealed(new, &text))
            }
        };
        let file = to.join(name);
        fs::write(&file, content)?;
        fs::File::open(file)?.sync_all()?;
    }
    Ok(())
}

/// The name of a file for that.
fn safe(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let safe: String = name.chars().take(NAME_BYTES_MAX).map(plain).collect();
    // A dot in front would hide it.
    if safe.is_empty() || safe.starts_with('.') { format!("_{safe}") } else { safe }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(REPRO_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        for (name, file) in [
            ("counter-1", "counter-1"),
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("..", "_.."),
            ("", "_"),
            ("a/b c\u{e4}", "a_b_c_"),
        ] {
            assert_eq!(safe(name), file);
        }
        assert_eq!(safe(&"x".repeat(1_000)).len(), NAME_BYTES_MAX);
    }

    #[test]
    fn so_many_are_kept_and_no_more() {
        let sandbox = tempfile::tempdir().unwrap();
        let repros = Repros { sandbox: sandbox.path().to_owned(), key: None };
        for n in 0..REPROS_MAX {
            write(&repros, &format!("n{n}"), "text").unwrap();
        }
        let why = write(&repros, "one-more", "text").unwrap_err();
        assert!(why.contains("has 100 files already"), "{why}");
        let path = write(&repros, "n7", "another").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "another");
    }

    #[test]
    fn an_encrypted_text_shows_nothing_and_can_be_read_again() {
        let sandbox = tempfile::tempdir().unwrap();
        let key = DataKey::new(&[1; 32]);
        let repros = Repros { sandbox: sandbox.path().to_owned(), key: Some(key.clone()) };
        let path = write(&repros, "counter-1", "a secret").unwrap();
        assert!(!path.to_string_lossy().contains("counter"));
        let content = fs::read(&path).unwrap();
        assert!(!content.windows(6).any(|part| part == b"secret" || part == b"counte"));
        assert_eq!(unseal(&content, &key).unwrap(), b"counter-1\na secret");
        let (to, new) = (sandbox.path().join("to"), DataKey::new(&[2; 32]));
        copy(&sandbox.path().join(FOLDER), &to, (Some(&key), Some(&new))).unwrap();
        let moved = fs::read(to.join(path.file_name().unwrap())).unwrap();
        assert_eq!(unseal(&moved, &new).unwrap(), b"counter-1\na secret");
        assert_eq!(unseal(&moved, &key), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "\u{e4}".repeat(REPRO_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), REPRO_BYTES_MAX - 1);
    }
}
