//! Whose an object is. Only what carries the uid of our `ModelDeployment` is ever written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Whose an object is, from the view of one `ModelDeployment`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ownership {
    /// Ours.
    Ours,
    /// It belonged to a deleted `ModelDeployment` of the same name and will be collected.
    Predecessor,
    /// Somebody else's; the owner in words.
    Foreign(String),
}

/// Whose the object with this metadata is.
pub fn ownership(object: &ObjectMeta, owner: &OwnerReference) -> Ownership {
    let references = object.owner_references.as_deref().unwrap_or_default();
    let controller = references.iter().find(|reference| reference.controller == Some(true));
    match controller {
        Some(found) if found.uid == owner.uid => Ownership::Ours,
        Some(found) if found.kind == owner.kind && found.name == owner.name => {
            Ownership::Predecessor
        }
        Some(found) => Ownership::Foreign(format!("{} {}", found.kind, found.name)),
        None => Ownership::Foreign("nobody".to_owned()),
    }
}

/// Whether the object is controlled by the owner with this uid.
pub fn is_controlled_by(object: &ObjectMeta, uid: &str) -> bool {
    object
        .owner_references
        .iter()
        .flatten()
        .any(|reference| reference.controller == Some(true) && reference.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(kind: &str, name: &str, uid: &str, controller: Option<bool>) -> OwnerReference {
        OwnerReference {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller,
            ..OwnerReference::default()
        }
    }

    fn owned_by(references: Vec<OwnerReference>) -> ObjectMeta {
        ObjectMeta { owner_references: Some(references), ..ObjectMeta::default() }
    }

    #[test]
    fn the_uid_decides_and_not_the_name() {
        let me = reference("ModelDeployment", "search", "uid-2", Some(true));
        let ours = owned_by(vec![reference("Other", "x", "uid-9", None), me.clone()]);
        assert_eq!(ownership(&ours, &me), Ownership::Ours);
        let before = owned_by(vec![reference("ModelDeployment", "search", "uid-1", Some(true))]);
        assert_eq!(ownership(&before, &me), Ownership::Predecessor);
        let other = owned_by(vec![reference("Deployment", "web", "uid-3", Some(true))]);
        assert_eq!(ownership(&other, &me), Ownership::Foreign("Deployment web".to_owned()));
        let plain = owned_by(vec![reference("ModelDeployment", "search", "uid-2", None)]);
        assert_eq!(ownership(&plain, &me), Ownership::Foreign("nobody".to_owned()));
    }
}
