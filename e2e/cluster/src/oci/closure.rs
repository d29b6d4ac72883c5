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
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(Error::file("list the libraries of", program))?;
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
    if let Some(missing) = stdout.lines().find(|line| line.ends_with("=> not found")) {
        return Err(failed(missing));
    }
    Ok(libraries(&stdout).into_iter().map(|path| ImageFile::program(path.clone(), path)).collect())
}

/// Lines read `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux….so.2 (0x…)`; the
/// kernel's own library has no path.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.rsplit_once(" (0x"))
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
        assert_eq!(libraries(output), expected.map(PathBuf::from));
    }
}
