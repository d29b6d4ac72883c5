//! Asking the cluster's API, as the administrator, through kubectl.

use serde_json::Value;

use crate::command::Run;
use crate::error::Error;
use crate::layout::Layout;
use crate::pki::ADMIN;

/// kubectl with the administrator's credentials.
pub(crate) fn kubectl<'a>(layout: &Layout, args: impl IntoIterator<Item = &'a str>) -> Run {
    Run::new(layout, layout.kubernetes())
        .args(["kubectl", "--request-timeout=10s"])
        .args(args)
        .env("KUBECONFIG", layout.kubeconfig(ADMIN))
}

/// One object, as the API server has it.
pub(crate) fn get(layout: &Layout, path: &str) -> Result<Value, Error> {
    let text = kubectl(layout, ["get", "--raw", path]).output()?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Applies objects on the server's side, so that a second time changes nothing.
pub(crate) fn apply(layout: &Layout, objects: &[Value]) -> Result<(), Error> {
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    kubectl(
        layout,
        [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=lamplighter-cluster",
            "-f",
            "-",
        ],
    )
    .input(list.to_string())
    .output()
    .map(|_| ())
}

/// A time as the API writes it.
pub(crate) fn time(time: time::OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// A condition, such as `Ready`, of an object.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of an object is `True`.
pub(crate) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}
