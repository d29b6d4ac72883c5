//! An apiserver of a few lines behind tower-test's mock: it keeps objects, records what was asked,
//! and fails when told to. It knows what the pipeline relies on: resourceVersions and uids as
//! preconditions, that an apply owns its fields and removes those that it no longer names, that
//! what changes nothing is not written, and what the operator's roles allow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use lamplighter_operator::rbac::{cluster_role_rules, leader_election_rules};
use serde_json::{Map, Value, json};

use crate::fixtures::now;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// A clone is another handle to the same apiserver.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// The body of the last apply, by path and manager.
    applied: BTreeMap<(String, String), Value>,
    asked: Vec<Asked>,
    failures: Vec<Failure>,
    /// Requests whose path has this part are never answered.
    silent: Option<&'static str>,
    version: u64,
    writes_left: Option<usize>,
}

struct Failure {
    method: Method,
    path_end: &'static str,
    answer: (u16, &'static str),
}

type Answer = Result<Value, (u16, String)>;

impl ApiServer {
    /// An empty apiserver and a client of it. Must be called inside a runtime.
    pub(crate) fn start() -> (Self, Client) {
        let server = Self(Arc::default());
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let state = server.clone();
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some((request, send)) = handle.next_request().await {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a body that can be read");
                if state.state().silent.is_some_and(|part| head.uri.path().contains(part)) {
                    // Dropping it would be an answer: that the service failed.
                    unanswered.push(send);
                } else {
                    send.send_response(state.answer(&head, &body));
                }
            }
        });
        (server, Client::new(service, "default"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// Puts an object there, as if somebody else had written it.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        let stamped = state.stamped(path, object);
        state.objects.insert(path.to_owned(), stamped);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path).expect("the object is there");
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// Changes an object, as if somebody else had written it.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("the object is there");
        edit(&mut object);
        self.put(path, object);
    }

    /// The objects of a kind, by the plural in their paths.
    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let infix = format!("/{plural}/");
        let state = self.state();
        let found = state.objects.iter().filter(|(path, _)| path.contains(&infix));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// The next such request fails.
    pub(crate) fn fail(
        &self,
        method: Method,
        path_end: &'static str,
        code: u16,
        message: &'static str,
    ) {
        self.state().failures.push(Failure { method, path_end, answer: (code, message) });
    }

    /// From now on a request whose path has this part is never answered.
    pub(crate) fn fall_silent(&self, part: &'static str) {
        self.state().silent = Some(part);
    }

    /// After so many writes each further one fails, as if its sender had gone; without a number none
    /// does.
    pub(crate) fn take_writes(&self, most: Option<usize>) {
        self.state().writes_left = most;
    }

    /// What was asked since the last time.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> Response<Body> {
        let mut state = self.state();
        let content_type = head.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let asked = Asked {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: serde_json::from_slice(body).unwrap_or_default(),
        };
        state.asked.push(asked.clone());
        let outcome = if is_granted(&asked) {
            state.handle(&asked)
        } else {
            Err((403, format!("{asked} is forbidden")))
        };
        let (code, answer) = match outcome {
            Ok(object) => (StatusCode::OK, object),
            Err((code, message)) => {
                let reason = if code == 404 { "NotFound" } else { "" };
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "code": code, "reason": reason, "message": message,
                });
                (StatusCode::from_u16(code).expect("a status code"), status)
            }
        };
        Response::builder()
            .status(code)
            .body(Body::from(answer.to_string().into_bytes()))
            .expect("a response")
    }
}

impl State {
    fn handle(&mut self, asked: &Asked) -> Answer {
        if asked.method != Method::GET && !asked.path.contains("/events") {
            match &mut self.writes_left {
                Some(0) => return Err((503, "the sender is gone".to_owned())),
                Some(left) => *left -= 1,
                None => {}
            }
        }
        let failing = self.failures.iter().position(|failure| {
            failure.method == asked.method && asked.path.ends_with(failure.path_end)
        });
        if let Some(position) = failing {
            let (code, message) = self.failures.remove(position).answer;
            return Err((code, message.to_owned()));
        }
        match asked.method {
            Method::GET => self.found(&asked.path),
            Method::POST => self.post(asked),
            Method::PUT => self.write(&asked.path, &asked.body, asked.body.clone()),
            Method::PATCH if asked.content_type.contains("apply-patch") => self.apply(asked),
            Method::PATCH => {
                let mut object = self.found(&asked.path)?;
                merge(&mut object, &asked.body);
                without_nulls(&mut object, &asked.body);
                self.write(&asked.path, &asked.body, object)
            }
            Method::DELETE => {
                let preconditions = json!({"metadata": asked.body["preconditions"]});
                self.check(&asked.path, &preconditions)?;
                let gone = self.found(&asked.path)?;
                self.objects.remove(&asked.path);
                Ok(gone)
            }
            _ => Err((405, format!("{} is not known here", asked.method))),
        }
    }

    fn found(&self, path: &str) -> Answer {
        self.objects.get(path).cloned().ok_or((404, format!("{path} not found")))
    }

    fn post(&mut self, asked: &Asked) -> Answer {
        let name = asked.body["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}", asked.path);
        if self.objects.contains_key(&path) {
            return Err((409, format!("{path} already exists")));
        }
        self.write(&path, &Value::Null, asked.body.clone())
    }

    fn apply(&mut self, asked: &Asked) -> Answer {
        let path = asked.path.strip_suffix("/status").unwrap_or(&asked.path).to_owned();
        let mut object = if path == asked.path {
            self.objects.get(&path).cloned().unwrap_or_else(|| json!({}))
        } else {
            self.found(&path)?
        };
        let owner = (asked.path.clone(), manager(&asked.query));
        if let Some(before) = self.applied.get(&owner) {
            prune(&mut object, before, &asked.body);
        }
        merge(&mut object, &asked.body);
        if path == asked.path {
            object["metadata"]["managedFields"] = json!([{
                "manager": owner.1, "operation": "Apply", "time": crate::fixtures::ago(0),
                "fieldsType": "FieldsV1", "fieldsV1": fields(&asked.body),
            }]);
        }
        let written = self.write(&path, &asked.body, object)?;
        self.applied.insert(owner, asked.body.clone());
        Ok(written)
    }

    fn write(&mut self, path: &str, request: &Value, object: Value) -> Answer {
        self.check(path, request)?;
        let mut stamped = self.stamped(path, object);
        if let Some(live) = self.objects.get(path) {
            let version = stamped["metadata"]["resourceVersion"].take();
            stamped["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            // What changes nothing is not written.
            if stamped == *live {
                return Ok(stamped);
            }
            stamped["metadata"]["resourceVersion"] = version;
        }
        self.objects.insert(path.to_owned(), stamped.clone());
        Ok(stamped)
    }

    /// Refuses a request that was made for another object, or another version of it.
    fn check(&self, path: &str, request: &Value) -> Result<(), (u16, String)> {
        let Some(live) = self.objects.get(path) else { return Ok(()) };
        for field in ["uid", "resourceVersion"] {
            let wanted = &request["metadata"][field];
            if !wanted.is_null() && *wanted != live["metadata"][field] {
                return Err((409, format!("{path}: {field} has changed")));
            }
        }
        Ok(())
    }

    fn stamped(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        // Like every boolean of Go that is not a pointer: what is false is not kept.
        if object["spec"]["publishNotReadyAddresses"] == false {
            object["spec"].as_object_mut().map(|spec| spec.remove("publishNotReadyAddresses"));
        }
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!(now().to_string());
        }
        if metadata["uid"].is_null() {
            let name = path.rsplit('/').next().unwrap_or_default();
            let revision = &metadata["labels"]["lamplighter.dev/revision"];
            metadata["uid"] = match revision.as_str() {
                Some(revision) if path.contains("/replicasets/") => {
                    json!(format!("set-{revision}"))
                }
                _ => json!(format!("uid-{name}")),
            };
        }
        object
    }
}

/// Whether the operator's roles allow a request.
fn is_granted(asked: &Asked) -> bool {
    let mut path = asked.path.trim_start_matches('/').split('/');
    let group = match path.next() {
        Some("api") => "",
        _ => path.next().expect("a group"),
    };
    // The version; "namespaces" and the namespace, or what is in none.
    let mut path = path.skip(1);
    let plural = match path.next().expect("a resource") {
        "namespaces" => path.nth(1).expect("a resource of a namespace"),
        of_the_cluster => of_the_cluster,
    };
    let resource = match path.nth(1) {
        Some(subresource) => format!("{plural}/{subresource}"),
        None => plural.to_owned(),
    };
    let verb = match asked.method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "patch",
    };
    let names = |list: &Option<Vec<String>>, name: &str| list.iter().flatten().any(|n| n == name);
    [cluster_role_rules(), leader_election_rules()].concat().iter().any(|rule| {
        names(&rule.api_groups, group)
            && names(&rule.resources, &resource)
            && rule.verbs.iter().any(|granted| granted == verb)
    })
}

fn manager(query: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
    value.unwrap_or_default().to_owned()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What a merge patch sets to null is no more.
fn without_nulls(object: &mut Value, patch: &Value) {
    let (Some(object), Some(patch)) = (object.as_object_mut(), patch.as_object()) else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else if let Some(inner) = object.get_mut(key) {
            without_nulls(inner, value);
        }
    }
}

/// Removes from `object` what the last apply named and this one does not.
fn prune(object: &mut Value, before: &Value, after: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else { return };
    for (key, value) in before {
        match after.get(key) {
            None => drop(object.remove(key)),
            Some(after) => {
                if let Some(inner) = object.get_mut(key) {
                    prune(inner, value, after);
                }
            }
        }
    }
}

/// The `fieldsV1` of an applied body; lists by the keys that the schema of the kind gives them.
fn fields(body: &Value) -> Value {
    let Value::Object(object) = body else { return json!({}) };
    let identity = ["apiVersion", "kind", "name", "namespace", "uid", "resourceVersion"];
    let mut tree = Map::new();
    for (key, value) in object.iter().filter(|(key, _)| !identity.contains(&key.as_str())) {
        let below = match (key.as_str(), value) {
            ("ports", Value::Array(items)) => keyed(items, &["port", "protocol"]),
            ("ownerReferences", Value::Array(items)) => keyed(items, &["uid"]),
            _ => fields(value),
        };
        tree.insert(format!("f:{key}"), below);
    }
    Value::Object(tree)
}

fn keyed(items: &[Value], keys: &[&str]) -> Value {
    let key = |item: &Value| {
        let key: Map<_, _> = keys.iter().map(|&key| (key.to_owned(), item[key].clone())).collect();
        format!("k:{}", Value::Object(key))
    };
    items.iter().map(|item| (key(item), fields(item))).collect::<Map<_, _>>().into()
}

/// One line: method, path, and what makes an apply an apply.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.content_type.as_str() {
            kind if kind.contains("apply-patch") && self.query.contains("force=true") => {
                " (apply, forced)"
            }
            kind if kind.contains("apply-patch") => " (apply)",
            kind if kind.contains("merge-patch") => " (merge)",
            _ => "",
        };
        write!(f, "{} {}{how}", self.method, self.path)
    }
}
