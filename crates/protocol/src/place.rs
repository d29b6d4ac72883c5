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
/// Folder of the mounted file of API keys.
pub const API_KEYS_DIR: &str = "/var/run/lamplighter/api-keys";
/// Its name there.
pub const API_KEYS: &str = "keys";
/// Environment variable: the file of API keys.
pub const ENV_API_KEYS_FILE: &str = "LAMPLIGHTER_API_KEYS_FILE";
/// One folder per mounted `PersistentVolumeClaim`, named like the claim.
pub const CLAIMS_DIR: &str = "/mnt/lamplighter/claims";
/// One folder per mounted image of an `oci://` address, numbered.
pub const IMAGES_DIR: &str = "/mnt/lamplighter/images";
/// Where fetched artifacts are kept.
pub const CACHE_DIR: &str = "/var/cache/lamplighter";
/// Where the kubelet reads the last words of a container.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Longest termination message that the kubelet keeps of one container, in bytes
/// (`MaxContainerTerminationMessageLength` of the kubelet).
pub const TERMINATION_LOG_LIMIT: usize = 4096;
/// Longest termination message of a container that resolves an artifact, in bytes. The kubelet
/// keeps 12 KiB of a whole pod, in equal shares (`MaxPodTerminationMessageLogLength`), and a pod
/// has up to 8 such containers; what is left is room for two that others add.
pub const RESOLVE_RECORD_LIMIT: usize = 1200;
/// Environment variable: the pod's uid, by the downward API.
pub const ENV_POD_UID: &str = "POD_UID";
/// Environment variable: the pod's name, by the downward API.
pub const ENV_POD_NAME: &str = "POD_NAME";
/// Environment variable: the digests that the models had when they were resolved, as
/// `name:version=sha256:…`, separated by commas. A worker loads no other bytes.
pub const ENV_DIGESTS: &str = "LAMPLIGHTER_EXPECTED_DIGESTS";
/// Environment variable: the commits that the references of models stood for when they were
/// resolved, as `name:version=commit`, separated by commas; without those models whose store has
/// none. Beside the digests and not in them, so that a worker that does not know it starts.
pub const ENV_COMMITS: &str = "LAMPLIGHTER_EXPECTED_COMMITS";
/// Environment variable: a file with the token for changing the models of a running worker. The
/// operator never sets it: what a pod of a revision serves does not change.
pub const ENV_ADMIN_TOKEN_FILE: &str = "LAMPLIGHTER_ADMIN_TOKEN_FILE";
/// Environment variable: where downloads are kept.
pub const ENV_CACHE_DIR: &str = "LAMPLIGHTER_CACHE_DIR";
/// Response header that names the pod which answered. In a request to the admin port, the pod
/// that is meant: addresses of pods are reused, so a command says for whom it is. It is a
/// precondition and no secret; who may reach the admin port is for a `NetworkPolicy` to say.
pub const POD_HEADER: &str = "x-lamplighter-pod";
/// Route on the serving port: revision, digests and pod uid, without credentials.
pub const IDENTITY_ROUTE: &str = "/lamplighter/identity";
/// Route on the admin port: the whole [`crate::Report`].
pub const STATUS_ROUTE: &str = "/status";
/// Route on the admin port, for POST with [`POD_HEADER`]: every connection of the serving
/// listener that is open now closes with its next answer, an idle one at once.
pub const SHED_ROUTE: &str = "/shed";
/// Route on the admin port, for POST with [`POD_HEADER`]: the validation cases are asked again at
/// once.
pub const VALIDATE_ROUTE: &str = "/validate";
/// Route on the admin port: 200 when every model passed its gates, else 503 with a reason.
pub const READY_ROUTE: &str = "/readyz";
/// Route on the admin port: 200 while the process lives.
pub const LIVE_ROUTE: &str = "/livez";

/// How many seconds the program with code for GPUs may take to start, which reads a gigabyte of libraries.
/// It is started twice: to see whether it starts, and to go on as it.
pub const GPU_PROGRAM_SECONDS: u16 = 120;
