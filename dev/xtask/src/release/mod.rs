//! `cargo xtask release`: all that somebody needs who has no compiler, in `target/dist`: the
//! binary, a package for Debian, manual pages, completions, a bill of materials and checksums.
//!
//! The binary is linked statically: with musl where the standard library for it is installed (and a
//! C compiler for it, `musl-gcc`), else with the C library of this machine. Either way it runs
//! on any Linux with the same kind of processor.

mod deb;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Step, say};

/// What is made, and of what.
struct Release {
    root: PathBuf,
    /// Where it is put.
    dist: PathBuf,
    version: String,
    target: String,
    /// Without one it is built.
    binary: Option<PathBuf>,
    with_packages: bool,
}

pub(crate) fn release(arguments: &[String]) -> Result<(), String> {
    let release = Release::of(arguments)?;
    let binary = match &release.binary {
        Some(binary) => binary.clone(),
        None => release.build()?,
    };
    clear(&release.dist)?;
    let here = release.dist.join("amrita");
    copy(&binary, &here)?;
    if release.with_packages {
        release.package(&here)?;
    }
    say(&format!("\nxtask release: all of it is in {}", release.dist.display()));
    Ok(())
}

impl Release {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().map_err(|error| format!("the root: {error}"))?;
        let mut release = Self {
            dist: target_folder(&root).join("dist"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: target()?,
            binary: None,
            with_packages: true,
            root,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match (argument.as_str(), rest.as_slice().first()) {
                ("--without-packages", _) => release.with_packages = false,
                ("--binary", Some(file)) => {
                    release.binary = Some(file.into());
                    rest.next();
                }
                _ => {
                    return Err(format!(
                        "release takes --binary FILE and --without-packages, not '{argument}'"
                    ));
                }
            }
        }
        Ok(release)
    }

    fn build(&self) -> Result<PathBuf, String> {
        let linked = format!("the binary is linked statically, for {}", self.target);
        say(&match self.target.ends_with("musl") {
            true => linked,
            false => format!(
                "{linked}: the standard library for musl is not installed (rustup target add), or \
                 musl-gcc is not, so the C library of this machine is linked in"
            ),
        });
        let build =
            ["build", "--release", "--locked", "--package", "amrita", "--target", &self.target];
        Step::new("build", &build)
            .with("RUSTFLAGS", "-C target-feature=+crt-static")
            .with("CC_x86_64_unknown_linux_musl", "musl-gcc")
            .with("CC_aarch64_unknown_linux_musl", "musl-gcc")
            .run()?;
        Ok(target_folder(&self.root).join(&self.target).join("release/amrita"))
    }

    fn package(&self, binary: &Path) -> Result<(), String> {
        let man = self.dist.join("man");
        run(Command::new(binary).arg("man").arg(&man))?;
        let completions = self.dist.join("completions");
        fs::create_dir_all(&completions).map_err(|error| format!("completions: {error}"))?;
        for (shell, file) in [("bash", "amrita"), ("zsh", "_amrita"), ("fish", "amrita.fish")] {
            let script = run(Command::new(binary).args(["completions", shell]))?;
            write(&completions.join(file), &script)?;
        }
        let unit = self.root.join("deploy/systemd");
        for file in ["amrita.service", "node.toml"] {
            copy(&unit.join(file), &self.dist.join(file))?;
        }
        let lock = self.read("Cargo.lock")?;
        let bill = sbom::bill(&self.version, &sbom::tree(&self.target)?, &lock)?;
        write(&self.dist.join("amrita.cdx.json"), bill.as_bytes())?;
        let package = deb::package(self)?;
        say(&format!("xtask release: {package}"));
        let files = ["amrita", "amrita.cdx.json", package.as_str()];
        let sums = run(Command::new("sha256sum").args(files).current_dir(&self.dist))?;
        write(&self.dist.join("SHA256SUMS"), &sums)
    }

    fn read(&self, file: &str) -> Result<String, String> {
        fs::read_to_string(self.root.join(file)).map_err(|error| format!("{file}: {error}"))
    }
}

fn target_folder(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    }
}

/// The target with musl for this kind of processor, if all is there for it, else this machine's.
fn target() -> Result<String, String> {
    let about = String::from_utf8_lossy(&run(Command::new("rustc").arg("-vV"))?).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say for what it builds")?;
    let musl = host.replace("-gnu", "-musl");
    let libraries = run(Command::new("rustc").args(["--print", "sysroot"]))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&libraries).trim());
    let is_there = libraries.join("lib/rustlib").join(&musl).join("lib").exists()
        && run(Command::new("musl-gcc").arg("--version")).is_ok();
    Ok(if is_there { musl } else { host.to_owned() })
}

/// What a command prints.
fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{shown}: {}: {said}", output.status));
    }
    Ok(output.stdout)
}

fn clear(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{shown}: {error}"))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("{shown}: {error}"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}
