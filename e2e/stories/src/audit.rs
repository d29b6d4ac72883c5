//! What the apiserver's audit log says about who wrote what.
//!
//! The log has one event a line (<https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>)
//! and is written before a request is answered, so that whatever a story has seen is in it.
//! The local cluster's log has the writes and leaves out the reads.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// A place in the log: what comes after it is younger.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// The log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// A request that was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The user's name.
    pub user: String,
    /// The pod whose token was used, if it was a pod's.
    pub pod: Option<String>,
    /// What was asked for, as `namespace/resource/name/subresource`, empty parts left out.
    pub object: String,
    /// The resource alone, for example `leases`.
    pub resource: String,
    /// The namespace; empty for what has none.
    pub namespace: String,
    /// The status code of the answer.
    pub code: u16,
}

impl Request {
    /// Whether it changed something or tried to.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether it is about a leader's lease.
    pub fn is_about_a_lease(&self) -> bool {
        self.resource == "leases"
    }
}

impl AuditLog {
    /// The log in a file.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The end of the log as it is now.
    pub fn mark(&self) -> anyhow::Result<Mark> {
        let length = std::fs::metadata(&self.path)
            .with_context(|| format!("there is no audit log {}", self.path.display()))?
            .len();
        Ok(Mark(length))
    }

    /// All requests of a user that were answered since a mark.
    ///
    /// Fails when the log was rotated meanwhile, or has a line that is not an event.
    pub fn since(&self, mark: Mark, user: &str) -> anyhow::Result<Vec<Request>> {
        let path = self.path.display();
        let mut file =
            std::fs::File::open(&self.path).with_context(|| format!("{path} cannot be read"))?;
        let length = file.metadata()?.len();
        ensure!(
            length >= mark.0,
            "{path} was rotated: it shrank from {} to {length} bytes",
            mark.0
        );
        file.seek(SeekFrom::Start(mark.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written; its request has not been answered then.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut requests = Vec::new();
        for line in complete.lines() {
            let event: Event = serde_json::from_str(line)
                .with_context(|| format!("{path} has a line that is not an audit event: {line}"))?;
            if event.stage == "ResponseComplete" && event.user.username == user {
                requests.push(event.into_request());
            }
        }
        Ok(requests)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Event {
    fn into_request(self) -> Request {
        let object = self.object_ref;
        let parts = [&object.namespace, &object.resource, &object.name, &object.subresource];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        Request {
            object: parts.join("/"),
            verb: self.verb,
            user: self.user.username,
            pod: self
                .user
                .extra
                .get("authentication.kubernetes.io/pod-name")
                .and_then(|names| names.first().cloned()),
            resource: object.resource,
            namespace: object.namespace,
            code: self.response_status.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(stage: &str, verb: &str, user: &str, resource: &str) -> String {
        serde_json::json!({
            "kind": "Event", "stage": stage, "verb": verb,
            "user": {"username": user, "groups": ["g"],
                "extra": {"authentication.kubernetes.io/pod-name": ["p-1"]}},
            "objectRef": {"resource": resource, "namespace": "n", "name": "x", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
        })
        .to_string()
    }

    #[test]
    fn only_answered_requests_of_the_user_after_the_mark_count() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let log = AuditLog::at(file.path());
        writeln!(file, "{}", line("ResponseComplete", "patch", "me", "services")).unwrap();
        let mark = log.mark().unwrap();
        writeln!(file, "{}", line("RequestReceived", "patch", "me", "services")).unwrap();
        writeln!(file, "{}", line("ResponseComplete", "patch", "me", "services")).unwrap();
        writeln!(file, "{}", line("ResponseComplete", "get", "me", "leases")).unwrap();
        writeln!(file, "{}", line("ResponseComplete", "create", "you", "pods")).unwrap();
        write!(file, "{{\"stage\":").unwrap();
        let requests = log.since(mark, "me").unwrap();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert_eq!(requests[0].object, "n/services/x");
        assert_eq!(requests[0].pod.as_deref(), Some("p-1"));
        assert!(requests[0].is_write() && !requests[1].is_write());
        assert!(requests[1].is_about_a_lease());
    }

    #[test]
    fn a_log_that_was_rotated_is_not_taken_for_a_quiet_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = AuditLog::at(file.path()).since(Mark(10), "me").unwrap_err();
        assert!(error.to_string().contains("rotated"), "{error}");
    }
}
