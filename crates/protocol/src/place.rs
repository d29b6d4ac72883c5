//! Where things are inside a worker pod: ports, paths, headers and routes that both sides name.

/// Port of the serving listener (inference, `/lamplighter/identity`).
pub const SERVING_PORT: u16 = 8080;
/// Port of the admin listener (probes, `/status`, `/metrics`).
pub const ADMIN_PORT: u16 = 8081;
/// The manifest, mounted read-only from the revision's immutable ConfigMap.
pub const MANIFEST: &str = "/etc/lamplighter/manifest.json";
/// Folder of the manifest's mount.
pub const MANIFEST_DIR: &str = "/etc/lamplighter";
/// One folder per model that has a `secretRef`: files named like the environment variables of
/// the store's own tools (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …).
pub const CREDENTIALS_DIR: &str = "/var/run/lamplighter/credentials";
/// One folder per mounted `PersistentVolumeClaim`, named like the claim.
pub const CLAIMS_DIR: &str = "/mnt/lamplighter/claims";
/// Where fetched artifacts are kept.
pub const CACHE_DIR: &str = "/var/cache/lamplighter";
/// Where the kubelet reads the last words of a container.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Longest termination message that the kubelet keeps of one container, in bytes
/// (`MaxContainerTerminationMessageLength` of the kubelet).
pub const TERMINATION_LOG_LIMIT: usize = 4096;
/// Environment variable: the pod's uid, by the downward API.
pub const ENV_POD_UID: &str = "POD_UID";
/// Environment variable: the pod's name, by the downward API.
pub const ENV_POD_NAME: &str = "POD_NAME";
/// Response header that names the pod which answered.
pub const POD_HEADER: &str = "x-lamplighter-pod";
/// Route on the serving port: revision, digests and pod uid, without credentials.
pub const IDENTITY_ROUTE: &str = "/lamplighter/identity";
/// Route on the admin port: the whole [`crate::Report`].
pub const STATUS_ROUTE: &str = "/status";
/// Route on the admin port: 200 when every model passed its gates, else 503 with a reason.
pub const READY_ROUTE: &str = "/readyz";
/// Route on the admin port: 200 while the process lives.
pub const LIVE_ROUTE: &str = "/livez";
