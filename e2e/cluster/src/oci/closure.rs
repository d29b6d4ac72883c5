//! What a program of this machine needs around it to run in an otherwise empty image.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Content, ImageFile};
use crate::command::last_lines;
use crate::error::Error;

/// The shared libraries and the loader that a program is linked to, at the paths where the
/// loader looks for them. Empty for a static program. The program itself is not included.
///
/// This asks the program's own loader, so it is for programs that were built here.
pub fn binary_closure(program: &Path) -> Result<Vec<ImageFile>, Error> {
    let libraries = libraries_of(Command::new("ldd").arg(program), program, None)?;
    Ok(libraries.into_iter().map(|path| ImageFile::program(path.clone(), path)).collect())
}

/// As [`binary_closure`], the paths on this machine, of a program that also needs the libraries of a
/// folder, and one that a container gets from its host: that one need not be here, and is left out.
pub fn closure_with(program: &Path, folder: &Path, of_host: &str) -> Result<Vec<PathBuf>, Error> {
    let mut command = Command::new("ldd");
    command.arg(program).env("LD_LIBRARY_PATH", folder);
    libraries_of(&mut command, program, Some(of_host))
}

fn libraries_of(
    ldd: &mut Command,
    program: &Path,
    of_host: Option<&str>,
) -> Result<Vec<PathBuf>, Error> {
    let output =
        ldd.env("LC_ALL", "C").output().map_err(Error::file("list the libraries of", program))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stdout.contains("statically linked") || stderr.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    let failed = |said: &str| Error::Command {
        command: format!("ldd {}", program.display()),
        outcome: output.status.to_string(),
        output: last_lines(said, 3),
    };
    if !output.status.success() {
        return Err(failed(&stderr));
    }
    let named = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let is_of_host = |line: &str| of_host.is_some() && named(line).as_deref() == of_host;
    let needed = stdout.lines().filter(|line| !is_of_host(line));
    if let Some(missing) = needed.clone().find(|line| line.ends_with("=> not found")) {
        return Err(failed(missing));
    }
    Ok(libraries(needed))
}

/// Lines read `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux….so.2 (0x…)`; the
/// kernel's own library has no path.
fn libraries<'a>(ldd: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    ldd.filter_map(|line| line.rsplit_once(" (0x"))
        .map(|(line, _)| line.rsplit_once("=> ").map_or(line, |(_, path)| path).trim())
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// What nearly every program expects of a system: users, name lookup, certificates and a
/// place for temporary files.
pub fn base_files() -> Vec<ImageFile> {
    let mut files = vec![
        ImageFile::bytes(
            "/etc/passwd",
            "root:x:0:0:root:/root:/sbin/nologin\n\
             nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
        ),
        ImageFile::bytes("/etc/group", "root:x:0:\nnonroot:x:65532:\n"),
        ImageFile::bytes("/etc/nsswitch.conf", "hosts: files dns\n"),
        ImageFile { path: "/tmp".into(), content: Content::Folder, mode: 0o1777 },
    ];
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if certificates.exists() {
        files.push(ImageFile::copy(certificates, certificates));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_output_is_read() {
        let output = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f1d)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(output.lines()), expected.map(PathBuf::from));
    }
}
