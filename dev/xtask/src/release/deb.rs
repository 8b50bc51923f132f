//! The package for Debian and Ubuntu. It is an `ar` archive of three members; the two with files
//! are made by `tar` and `gzip`, so that neither `dpkg` nor Debian is needed to build it. Built
//! twice of the same files it is the same, byte for byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{Release, clear, copy, run, write};

/// The time of all files in it, in seconds: that of no build.
const TIME: u64 = 1_767_225_600;

/// Run after the files are there. The service is not started: a node that begins by itself would be
/// a cluster of its own before somebody has said where it belongs.
const AFTER_INSTALL: &str = "#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
if [ \"$1\" = configure ] && [ -z \"$2\" ]; then
    echo 'amrita: look at /etc/amrita/node.toml, then: systemctl enable --now amrita'
fi
";

/// The node is stopped before its program goes. Data and settings stay until a purge.
const BEFORE_REMOVE: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now amrita.service || true
fi
";

/// A purge takes the data, too, as Debian wants it.
const AFTER_REMOVE: &str = "#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
if [ \"$1\" = purge ]; then
    rm -rf /var/lib/private/amrita /var/lib/amrita
fi
";

/// Makes the package in the folder of the release, and gives its name.
pub(super) fn package(release: &Release) -> Result<String, String> {
    let architecture = architecture(&release.target)?;
    let folder = release.dist.join("deb");
    let (data, control) = (folder.join("data"), folder.join("control"));
    clear(&data)?;
    clear(&control)?;
    lay_out(release, &data)?;
    let kilobytes = bytes_below(&data)? / 1024;
    write(&control.join("control"), describe(release, architecture, kilobytes).as_bytes())?;
    write(&control.join("conffiles"), b"/etc/amrita/node.toml\n")?;
    let scripts = [("postinst", AFTER_INSTALL), ("prerm", BEFORE_REMOVE), ("postrm", AFTER_REMOVE)];
    for (name, script) in scripts {
        write(&control.join(name), script.as_bytes())?;
        set_mode(&control.join(name), 0o755)?;
    }
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", packed(&control)?),
        ("data.tar.gz", packed(&data)?),
    ];
    let name = format!("amrita_{}_{architecture}.deb", release.version);
    write(&release.dist.join(&name), &archive(&members))?;
    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(name)
}

fn architecture(target: &str) -> Result<&'static str, String> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => Err(format!("Debian's name for {target} is not known here")),
    }
}

/// The files as they will lie on the machine.
fn lay_out(release: &Release, data: &Path) -> Result<(), String> {
    let put = |from: &Path, to: &str, mode: u32| {
        let to = data.join(to);
        let folder = to.parent().expect("each is in a folder");
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        copy(from, &to)?;
        set_mode(&to, mode)
    };
    let dist = |file: &str| release.dist.join(file);
    put(&dist("amrita"), "usr/bin/amrita", 0o755)?;
    put(&dist("amrita.service"), "usr/lib/systemd/system/amrita.service", 0o644)?;
    put(&dist("node.toml"), "etc/amrita/node.toml", 0o644)?;
    put(&dist("completions/amrita"), "usr/share/bash-completion/completions/amrita", 0o644)?;
    put(&dist("completions/_amrita"), "usr/share/zsh/vendor-completions/_amrita", 0o644)?;
    let fish = "usr/share/fish/vendor_completions.d/amrita.fish";
    put(&dist("completions/amrita.fish"), fish, 0o644)?;
    put(&release.root.join("LICENSE"), "usr/share/doc/amrita/copyright", 0o644)?;
    put(&dist("amrita.cdx.json"), "usr/share/doc/amrita/amrita.cdx.json", 0o644)?;
    let pages = dist("man");
    let listed = fs::read_dir(&pages).map_err(|error| format!("{}: {error}", pages.display()))?;
    for page in listed {
        let page = page.map_err(|error| format!("{}: {error}", pages.display()))?.path();
        let name = page.file_name().and_then(|name| name.to_str()).ok_or("a page has no name")?;
        let packed = run(Command::new("gzip").args(["-9nc"]).arg(&page))?;
        let to = data.join("usr/share/man/man1");
        fs::create_dir_all(&to).map_err(|error| format!("{}: {error}", to.display()))?;
        write(&to.join(format!("{name}.gz")), &packed)?;
    }
    Ok(())
}

fn describe(release: &Release, architecture: &str, kilobytes: u64) -> String {
    format!(
        "Package: amrita\n\
         Version: {}\n\
         Architecture: {architecture}\n\
         Maintainer: The Amrita project <amrita@localhost>\n\
         Installed-Size: {kilobytes}\n\
         Section: net\n\
         Priority: optional\n\
         Description: documents, tasks and programs that stay alive while machines die\n \
         One program that runs on several machines and speaks JSON over HTTP. Every write\n \
         is on the disks of a majority before it is acknowledged; when a node dies, another\n \
         takes over within a fraction of a second.\n",
        release.version
    )
}

fn set_mode(file: &Path, mode: u32) -> Result<(), String> {
    let set = fs::set_permissions(file, fs::Permissions::from_mode(mode));
    set.map_err(|error| format!("{}: {error}", file.display()))
}

fn bytes_below(folder: &Path) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let found = path.metadata().map_err(failed)?;
        bytes += if found.is_dir() { bytes_below(&path)? } else { found.len() };
    }
    Ok(bytes)
}

/// A folder as `tar.gz`, which does not depend on who builds it, nor when.
fn packed(folder: &Path) -> Result<Vec<u8>, String> {
    let archive = folder.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .args(["--mode=u+rw,go+r-w,a+X", &format!("--mtime=@{TIME}")])
        .arg("-C")
        .arg(folder)
        .arg("-cf")
        .arg(&archive)
        .arg(".");
    run(&mut tar)?;
    run(Command::new("gzip").args(["-9nc"]).arg(&archive))
}

/// An `ar` archive: a line of 60 bytes before each member, which begins at an even place.
fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let (owner, mode) = (0, "100644");
        let head =
            format!("{name:<16}{TIME:<12}{owner:<6}{owner:<6}{mode:<8}{:<10}`\n", bytes.len());
        archive.extend(head.as_bytes());
        archive.extend(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_of_an_archive_begins_at_an_even_place() {
        let made = archive(&[("a", b"odd".to_vec()), ("b", b"even".to_vec())]);
        assert_eq!(&made[..8], b"!<arch>\n");
        let second = 8 + 60 + 4;
        assert_eq!(&made[second - 1..second + 2], b"\nb ");
        assert_eq!(made.len(), second + 60 + 4);
        assert_eq!(&made[second + 58..second + 60], b"`\n");
    }

    #[test]
    fn debian_has_its_own_names_for_processors() {
        assert_eq!(architecture("x86_64-unknown-linux-musl"), Ok("amd64"));
        assert_eq!(architecture("aarch64-unknown-linux-gnu"), Ok("arm64"));
        assert!(architecture("riscv64gc-unknown-linux-gnu").is_err());
    }
}
