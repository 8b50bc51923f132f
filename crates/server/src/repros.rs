//! What the node keeps for people, in the sandbox: one text for each program that did not do again
//! what it had done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most files that are kept. One more is not written, and that is said in the node's log.
const REPROS_MAX: usize = 100;

/// The longest text. The rest of a longer one is cut off.
const REPRO_BYTES_MAX: usize = 4 << 20;

/// The longest name of a file, without its ending.
const NAME_BYTES_MAX: usize = 100;

/// The folder in the sandbox.
const FOLDER: &str = "repros";

/// Writes the text and says where it is. Two names that differ only in what a file's name should
/// not have are one: the later text is kept.
pub(crate) fn keep(sandbox: &Path, name: &str, text: &str) {
    match write(sandbox, name, text) {
        Ok(path) => {
            tracing::warn!(target: "amrita", "what happened to {name} is in {}", path.display());
        }
        Err(why) => {
            tracing::warn!(target: "amrita", "what happened to {name} is not kept: {why}");
        }
    }
}

fn write(sandbox: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let folder = sandbox.join(FOLDER);
    let path = folder.join(format!("{}.txt", safe(name)));
    let kept = fs::create_dir_all(&folder).and_then(|()| Ok(fs::read_dir(&folder)?.count()));
    let shown = folder.display();
    let failed = |error: io::Error| format!("{shown}: {error}");
    if kept.map_err(failed)? >= REPROS_MAX && !path.exists() {
        return Err(format!("{shown} has {REPROS_MAX} files already; remove those of old"));
    }
    fs::write(&path, cut(text)).map_err(failed)?;
    Ok(path)
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
        for n in 0..REPROS_MAX {
            write(sandbox.path(), &format!("n{n}"), "text").unwrap();
        }
        let why = write(sandbox.path(), "one-more", "text").unwrap_err();
        assert!(why.contains("has 100 files already"), "{why}");
        let path = write(sandbox.path(), "n7", "another").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "another");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "\u{e4}".repeat(REPRO_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), REPRO_BYTES_MAX - 1);
    }
}
