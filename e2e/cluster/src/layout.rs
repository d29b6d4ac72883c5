//! Where everything is. The cluster is one per machine, so all but the built binaries
//! has fixed places that do not depend on the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The name of the only node.
pub const NODE: &str = "lamplighter";

/// The bridge that the pods are attached to.
pub(crate) const BRIDGE: &str = "cni0";
/// The bridge's own address: the node's address, and where pods reach the API server.
pub(crate) const NODE_IP: &str = "10.244.0.1";
pub(crate) const BRIDGE_CIDR: &str = "10.244.0.1/24";
pub(crate) const POD_CIDR: &str = "10.244.0.0/16";
pub(crate) const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The first address of the service range, which Kubernetes gives to its own Service.
pub(crate) const API_SERVICE_IP: &str = "10.96.0.1";
pub(crate) const DNS_SERVICE_IP: &str = "10.96.0.10";
pub(crate) const API_PORT: u16 = 6443;

/// Where programs are looked for. A developer's PATH often lacks the sbin folders.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folders of the cluster and of the checkout that drives it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The checkout.
    pub(crate) repo: PathBuf,
    /// Sockets, locks and records of processes.
    pub(crate) run: PathBuf,
    /// Everything else that the cluster writes.
    pub(crate) data: PathBuf,
}

impl Layout {
    pub(crate) fn of_machine(repo: &Path) -> Self {
        Self {
            repo: repo.to_owned(),
            run: PathBuf::from("/run/lamplighter-cluster"),
            data: PathBuf::from("/var/lib/lamplighter-cluster"),
        }
    }

    pub(crate) fn bin(&self, name: &str) -> PathBuf {
        self.repo.join(".local/bin").join(name)
    }

    /// The binary that holds every Kubernetes component.
    pub(crate) fn kubernetes(&self) -> PathBuf {
        self.bin("kubernetes")
    }

    /// What identifies the inputs that a tool was built from.
    pub(crate) fn stamp(&self, tool: &str) -> PathBuf {
        self.repo.join(".local/stamps").join(tool)
    }

    /// Logs of what the checkout does, such as builds.
    pub(crate) fn build_log(&self, name: &str) -> PathBuf {
        self.repo.join(".local/log").join(format!("{name}.log"))
    }

    /// Logs of the cluster's components.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.data.join("log").join(format!("{name}.log"))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("log")
    }

    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.data.join("config").join(name)
    }

    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.data.join("pki").join(name)
    }

    /// Credentials of one component or of the administrator.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.data.join("kubeconfig").join(user)
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    pub(crate) fn containerd_state(&self) -> PathBuf {
        self.run.join("containerd")
    }

    /// Where volume plugins would be; the default is a system folder.
    pub(crate) fn volume_plugins(&self) -> PathBuf {
        self.data.join("volume-plugins")
    }

    /// A script of the checkout that runs a program against the cluster.
    pub(crate) fn wrapper(&self, name: &str) -> PathBuf {
        self.repo.join(".local/cluster").join(name)
    }

    /// Held while the cluster is being started or stopped.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// The file that names the checkout which started the cluster.
    pub(crate) fn owner_file(&self) -> PathBuf {
        self.run.join("checkout")
    }

    pub(crate) fn owner(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.owner_file()).ok()?;
        Some(PathBuf::from(text.trim_end()))
    }

    /// PATH of every process that the cluster starts.
    pub(crate) fn path(&self) -> String {
        format!("{}:{SYSTEM_PATH}", self.repo.join(".local/bin").display())
    }
}

/// Writes a file and its folders. Returns whether the content changed.
pub(crate) fn write(path: &Path, content: &str, mode: u32) -> Result<bool, Error> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    create_dir(path.parent().unwrap_or(Path::new("/")))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(Error::file("write", path))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(Error::file("write", path))?;
    file.write_all(content.as_bytes()).map_err(Error::file("write", path))?;
    Ok(true)
}

pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("create", path))
}

/// Removes a file or a whole folder; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
