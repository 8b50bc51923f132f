//! What a user says about encryption: where the key is.
//!
//! The key that the user gives encrypts nothing but the sandbox's own data key, see `keyring`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use storage::DataKey;

use crate::Failure;

/// A shorter key can be guessed.
const CHARACTERS_MIN: usize = 32;

/// What is read of a key at most, in bytes: more is no key.
const KEY_TEXT_BYTES_MAX: usize = 64 << 10;

/// How a key is made.
const MAKE_ONE: &str = "head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE";

/// How what the node writes is encrypted. Nothing is, if nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Encryption {
    pub key_file: Option<PathBuf>,
    /// A command of the shell that prints the key.
    pub key_command: Option<String>,
    /// The key before this one: what is encrypted under it is written anew, under the new one.
    pub old_key_file: Option<PathBuf>,
    pub old_key_command: Option<String>,
    /// For one start: a sandbox that is not encrypted is to be, or the other way round.
    pub converts: bool,
}

impl Encryption {
    /// # Errors
    /// When the key cannot be had, or is too short.
    pub(crate) fn key(&self) -> Result<Option<DataKey>, Failure> {
        key(self.key_file.as_deref(), self.key_command.as_deref(), "--encryption-key")
    }

    /// # Errors
    /// As [`Self::key`].
    pub(crate) fn old_key(&self) -> Result<Option<DataKey>, Failure> {
        let (file, command) = (self.old_key_file.as_deref(), self.old_key_command.as_deref());
        key(file, command, "--encryption-old-key")
    }
}

fn key(file: Option<&Path>, command: Option<&str>, flag: &str) -> Result<Option<DataKey>, Failure> {
    let (text, whence) = match (file, command) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Failure::new(format!("{flag}-file and {flag}-command are both given"))
                .advise("leave one of them out (also in the environment and in the file)"));
        }
        (Some(file), None) => (of_file(file, flag)?, file.display().to_string()),
        (None, Some(command)) => (of_command(command, flag)?, format!("what '{command}' prints")),
    };
    let text = text.trim_ascii();
    if text.len() < CHARACTERS_MIN {
        let length = text.len();
        return Err(Failure::new(format!("the key of {flag} in {whence} has {length} characters"))
            .advise(format!("use at least {CHARACTERS_MIN} random ones: {MAKE_ONE}")));
    }
    Ok(Some(DataKey::of_secret(text)))
}

fn of_file(file: &Path, flag: &str) -> Result<Vec<u8>, Failure> {
    let shown = file.display();
    let failed = |why: String| Failure::new(format!("the key of {flag}-file in {shown} {why}"));
    let known = fs::metadata(file).map_err(|error| {
        failed(format!("cannot be read: {error}")).advise(format!("make one: {MAKE_ONE}"))
    })?;
    if known.permissions().mode() & 0o007 != 0 {
        return Err(failed("may be read by everybody on this machine".into())
            .advise(format!("chmod 600 {shown}")));
    }
    if known.len() > u64::try_from(KEY_TEXT_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(failed(format!("has {} bytes: this is no key", known.len())));
    }
    fs::read(file).map_err(|error| failed(format!("cannot be read: {error}")))
}

fn of_command(command: &str, flag: &str) -> Result<Vec<u8>, Failure> {
    let failed =
        |why: String| Failure::new(format!("the command of {flag}-command, '{command}', {why}"));
    // What it says on standard error is for whoever reads that of the node.
    let ran = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !ran.status.success() {
        return Err(failed(format!("has failed: {}", ran.status))
            .advise("run it by hand: it must print the key and nothing else, and end with 0"));
    }
    if ran.stdout.len() > KEY_TEXT_BYTES_MAX {
        return Err(failed(format!("printed {} bytes: this is no key", ran.stdout.len())));
    }
    Ok(ran.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_from_a_file_or_a_command_and_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let text = "0123456789012345678901234567890123456789";
        fs::write(&file, format!("{text}\n")).unwrap();
        let of_file = Encryption { key_file: Some(file.clone()), ..Encryption::default() };
        let why = of_file.key().unwrap_err().to_string();
        assert!(why.contains("read by everybody"), "{why}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let known = of_file.key().unwrap().unwrap().fingerprint();
        let command = format!("echo {text}");
        let of_command = Encryption { key_command: Some(command), ..Encryption::default() };
        assert_eq!(of_command.key().unwrap().unwrap().fingerprint(), known);
        let both = Encryption { key_file: Some(file), ..of_command };
        assert!(both.key().unwrap_err().to_string().contains("both given"));
    }

    #[test]
    fn a_command_that_fails_or_says_too_little_is_refused() {
        for (command, expected) in [("exit 3", "exit status: 3"), ("echo short", "5 characters")] {
            let wanted =
                Encryption { old_key_command: Some(command.into()), ..Encryption::default() };
            let why = wanted.old_key().unwrap_err().to_string();
            assert!(why.contains(expected) && why.contains("--encryption-old-key"), "{why}");
        }
    }
}
