//! The cluster's keys and certificates, and the kubeconfigs made of them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::error::Error;
use crate::layout::{self, API_PORT, API_SERVICE_IP, Layout, NODE, NODE_IP};

/// The administrator, who also is the API server when it calls the kubelet.
pub(crate) const ADMIN: &str = "admin";

const VALID_DAYS: i64 = 365;
/// A cluster that is left running for months gets new certificates at some `up`, long
/// before the old ones end.
const RENEW_AFTER: Duration = Duration::from_hours(300 * 24);

struct Leaf {
    name: &'static str,
    common_name: String,
    group: Option<&'static str>,
    /// Names under which it serves; none for a client.
    serves: Vec<String>,
}

impl Leaf {
    fn client(name: &'static str, common_name: &str, group: Option<&'static str>) -> Self {
        Self { name, common_name: common_name.to_owned(), group, serves: Vec::new() }
    }

    fn server(name: &'static str, serves: &[&str]) -> Self {
        let serves = serves.iter().map(ToString::to_string).collect();
        Self { name, common_name: name.to_owned(), group: None, serves }
    }
}

fn leaves() -> Vec<Leaf> {
    vec![
        Leaf::server(
            "kube-apiserver",
            &[
                "127.0.0.1",
                NODE_IP,
                API_SERVICE_IP,
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ],
        ),
        Leaf::server("kubelet-server", &[NODE_IP, NODE]),
        Leaf::client(ADMIN, "kubernetes-admin", Some("system:masters")),
        Leaf::client("kubelet", &format!("system:node:{NODE}"), Some("system:nodes")),
        Leaf::client("kube-controller-manager", "system:kube-controller-manager", None),
        Leaf::client("kube-scheduler", "system:kube-scheduler", None),
        Leaf::client("kube-proxy", "system:kube-proxy", None),
    ]
}

/// Makes all keys, certificates and kubeconfigs unless they are there and fresh.
pub(crate) fn ensure(layout: &Layout) -> Result<(), Error> {
    if !is_fresh(layout) {
        // Made aside and renamed: an interrupted run must not leave half a set behind.
        let aside = layout.data.join("pki.unfinished");
        layout::remove(&aside)?;
        generate(&aside)?;
        let place = layout.pki("");
        layout::remove(&place)?;
        fs::rename(&aside, &place).map_err(Error::file("rename", &aside))?;
    }
    for leaf in leaves().iter().filter(|leaf| leaf.serves.is_empty()) {
        layout::write(&layout.kubeconfig(leaf.name), &kubeconfig(layout, leaf.name), 0o600)?;
    }
    Ok(())
}

fn is_fresh(layout: &Layout) -> bool {
    let made = fs::metadata(layout.pki("ca.crt")).and_then(|found| found.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < RENEW_AFTER))
}

fn generate(into: &Path) -> Result<(), Error> {
    let authority = KeyPair::generate().map_err(failed("the authority"))?;
    let mut params = params("lamplighter-cluster", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&authority).map_err(failed("the authority"))?;
    layout::write(&into.join("ca.crt"), &certificate.pem(), 0o644)?;
    let issuer = Issuer::new(params, authority);
    for leaf in leaves() {
        sign(into, &leaf, &issuer)?;
    }

    // The tokens of service accounts are signed with a pair of its own.
    let tokens = KeyPair::generate().map_err(failed("service accounts"))?;
    layout::write(&into.join("service-accounts.key"), &tokens.serialize_pem(), 0o600)?;
    layout::write(&into.join("service-accounts.pub"), &tokens.public_key_pem(), 0o644)?;
    Ok(())
}

fn sign(into: &Path, leaf: &Leaf, issuer: &Issuer<'_, KeyPair>) -> Result<(), Error> {
    let key = KeyPair::generate().map_err(failed(leaf.name))?;
    let mut params = params(&leaf.common_name, &leaf.serves)?;
    if let Some(group) = leaf.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if leaf.serves.is_empty() {
        ExtendedKeyUsagePurpose::ClientAuth
    } else {
        ExtendedKeyUsagePurpose::ServerAuth
    }];
    let certificate = params.signed_by(&key, issuer).map_err(failed(leaf.name))?;
    layout::write(&into.join(format!("{}.crt", leaf.name)), &certificate.pem(), 0o644)?;
    layout::write(&into.join(format!("{}.key", leaf.name)), &key.serialize_pem(), 0o600)?;
    Ok(())
}

fn params(common_name: &str, serves: &[String]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(serves).map_err(failed("a server"))?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = time::OffsetDateTime::now_utc();
    // Clocks of a machine that was just resumed may step back a little.
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(VALID_DAYS);
    Ok(params)
}

fn failed(name: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |source| Error::Certificate { name, source }
}

fn kubeconfig(layout: &Layout, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: lamplighter
clusters:
- name: lamplighter
  cluster:
    server: https://127.0.0.1:{API_PORT}
    certificate-authority: {authority}
users:
- name: {user}
  user:
    client-certificate: {certificate}
    client-key: {key}
contexts:
- name: lamplighter
  context:
    cluster: lamplighter
    user: {user}
",
        authority = layout.pki("ca.crt").display(),
        certificate = layout.pki(&format!("{user}.crt")).display(),
        key = layout.pki(&format!("{user}.key")).display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn layout(folder: &Path) -> Layout {
        Layout { repo: PathBuf::from("/"), run: folder.join("run"), data: folder.join("data") }
    }

    #[test]
    fn a_second_call_keeps_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        ensure(&layout).unwrap();
        let before = fs::read(layout.pki("kube-apiserver.key")).unwrap();
        ensure(&layout).unwrap();
        assert_eq!(fs::read(layout.pki("kube-apiserver.key")).unwrap(), before);
        assert!(!layout.data.join("pki.unfinished").exists());
    }

    #[test]
    fn a_kubeconfig_names_files_that_exist() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        ensure(&layout).unwrap();
        let text = fs::read_to_string(layout.kubeconfig(ADMIN)).unwrap();
        for line in
            text.lines().filter(|line| line.contains("certificate") || line.contains("-key"))
        {
            let (_, path) = line.split_once(": ").unwrap();
            assert!(Path::new(path).exists(), "{path}");
        }
    }
}
