//! Programs that the machine's own distribution provides.

use std::path::Path;

use crate::Progress;
use crate::command::Run;
use crate::error::Error;
use crate::layout::Layout;

/// A file of a package that shows whether it is installed, in any of its places.
const NEEDED: [(&str, &[&str]); 6] = [
    ("runc", &["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"]),
    ("iptables", &["/usr/sbin/iptables", "/sbin/iptables"]),
    ("conntrack", &["/usr/sbin/conntrack", "/usr/bin/conntrack"]),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"]),
    ("containernetworking-plugins", &["/usr/lib/cni/bridge", "/opt/cni/bin/bridge"]),
    ("util-linux", &["/usr/bin/setsid"]),
];

/// Installs what is missing.
pub(crate) fn ensure(layout: &Layout, progress: &dyn Progress) -> Result<(), Error> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, places)| !places.iter().any(|place| Path::new(place).exists()))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress.step(&format!("installing {}", missing.join(", ")));
    let install = || {
        Run::new(layout, "apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
    };
    let outcome = install().or_else(|error| {
        if matches!(error, Error::Missing { .. }) {
            return Err(Error::Missing {
                program: missing.join("`, `"),
                remedy: "install it with the package manager of this machine (on Debian it comes \
                         from runc, iptables, conntrack, iproute2, containernetworking-plugins)",
            });
        }
        // A list of packages that is old or absent is the usual reason.
        Run::new(layout, "apt-get").args(["update"]).output()?;
        install()
    });
    outcome.map(|_| ())
}
