//! Credentials and settings of a store: files of a mounted Secret, and the environment.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::ArtifactError;

/// A certificate authority that vouches for the store, beside those of the system; PEM. The name
/// is the one that Kubernetes' own Secrets have for it
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets>).
pub(crate) const AUTHORITY: &str = "ca.crt";

/// Reads an environment variable; none if it is empty.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is known of a store beside its address. Not printable: it holds secrets.
pub(crate) struct Settings<'a> {
    files: BTreeMap<&'static str, String>,
    environment: Environment<'a>,
}

impl<'a> Settings<'a> {
    /// Reads those of the files of `folder` that are named, and [`AUTHORITY`].
    ///
    /// A folder with none of them is an error: whoever mounted it meant something by it, and
    /// going on without would ask the store as nobody.
    pub(crate) fn read(
        folder: Option<&Path>,
        names: &[&'static str],
        environment: Environment<'a>,
    ) -> Result<Self, ArtifactError> {
        let mut files = BTreeMap::new();
        let Some(folder) = folder else {
            return Ok(Self { files, environment });
        };
        for name in names.iter().copied().chain([AUTHORITY]) {
            let path = folder.join(name);
            match fs::read_to_string(&path) {
                Ok(value) if value.trim().is_empty() => {}
                Ok(value) => {
                    files.insert(name, value.trim().to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ArtifactError::reading(&path, error)),
            }
        }
        if files.is_empty() {
            return Err(ArtifactError::SettingInvalid {
                setting: folder.display().to_string(),
                problem: format!("it holds none of {}, {AUTHORITY}", names.join(", ")),
            });
        }
        Ok(Self { files, environment })
    }

    /// A setting: of the folder, else of the environment.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.file(name).or_else(|| self.variable(name))
    }

    /// A setting of the folder alone.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        self.files.get(name).cloned()
    }

    /// A setting of the environment alone.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name)
    }

    /// Settings that belong together, all of one place: no key of one account is ever paired with
    /// another's secret. Of the folder if it holds any of them.
    pub(crate) fn together<const N: usize>(&self, names: [&str; N]) -> [Option<String>; N] {
        let files = names.map(|name| self.file(name));
        if files.iter().any(Option::is_some) {
            return files;
        }
        names.map(|name| self.variable(name))
    }

    /// A setting that is an address of a store.
    pub(crate) fn endpoint(&self, name: &str) -> Result<Option<String>, ArtifactError> {
        match self.get(name) {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(ArtifactError::SettingInvalid {
                    setting: name.to_owned(),
                    problem: format!("{url:?} does not start with http:// or https://"),
                })
            }
            url => Ok(url.map(|url| url.trim_end_matches('/').to_owned())),
        }
    }

    /// A setting that is true or false; false if it is not set.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ArtifactError> {
        match self.get(name).as_deref() {
            Some("true" | "1") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(other) => Err(ArtifactError::SettingInvalid {
                setting: name.to_owned(),
                problem: format!("it is {other:?}; write true or false"),
            }),
        }
    }

    /// The certificate authority of the folder; PEM.
    pub(crate) fn authority(&self) -> Option<String> {
        self.file(AUTHORITY)
    }
}

/// Two settings of which one is useless without the other.
pub(crate) fn both(
    first: (&str, Option<String>),
    second: (&str, Option<String>),
) -> Result<Option<(String, String)>, ArtifactError> {
    let missing = |setting: &str, other: &str| ArtifactError::SettingInvalid {
        setting: setting.to_owned(),
        problem: format!("it is missing although there is {other}"),
    };
    match (first, second) {
        ((_, Some(first)), (_, Some(second))) => Ok(Some((first, second))),
        ((_, None), (_, None)) => Ok(None),
        ((there, Some(_)), (name, None)) | ((name, None), (there, Some(_))) => {
            Err(missing(name, there))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with these files.
    pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            fs::write(folder.path().join(name), value).unwrap();
        }
        folder
    }

    /// An environment of these variables.
    pub(crate) fn variables(
        variables: &[(&'static str, &'static str)],
    ) -> impl Fn(&str) -> Option<String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        move |name| variables.get(name).map(|value| (*value).to_owned())
    }

    #[test]
    fn files_go_before_the_environment_and_what_belongs_together_is_never_mixed() {
        let folder = folder(&[("ID", "file-id\n"), ("URL", "http://minio:9000/\n")]);
        let environment = variables(&[("ID", "env-id"), ("SECRET", "env"), ("REGION", "eu-1")]);
        let names = ["ID", "SECRET", "URL", "REGION"];
        let settings = Settings::read(Some(folder.path()), &names, &environment).unwrap();
        assert_eq!(settings.get("ID").as_deref(), Some("file-id"));
        assert_eq!(settings.get("REGION").as_deref(), Some("eu-1"));
        assert_eq!(settings.endpoint("URL").unwrap().as_deref(), Some("http://minio:9000"));
        assert_eq!(settings.together(["ID", "SECRET"]), [Some("file-id".to_owned()), None]);

        let settings = Settings::read(None, &names, &environment).unwrap();
        assert_eq!(
            settings.together(["ID", "SECRET"]),
            [Some("env-id"), Some("env")].map(|s| s.map(str::to_owned))
        );
    }

    #[test]
    fn a_folder_with_other_names_is_an_error_not_anonymous_access() {
        let folder = folder(&[("accesskey", "id")]);
        let error = Settings::read(Some(folder.path()), &["ID"], &variables(&[])).err().unwrap();
        assert!(matches!(error, ArtifactError::SettingInvalid { .. }), "{error}");
        assert!(error.to_string().contains("none of ID, ca.crt"), "{error}");
    }

    #[test]
    fn incomplete_or_malformed_settings_are_named() {
        let environment = variables(&[("URL", "minio:9000"), ("FLAG", "perhaps")]);
        let settings = Settings::read(None, &[], &environment).unwrap();
        for (error, setting) in [
            (settings.endpoint("URL").unwrap_err(), "URL"),
            (settings.flag("FLAG").unwrap_err(), "FLAG"),
            (both(("A", Some("secret".into())), ("B", None)).unwrap_err(), "B"),
            (both(("A", None), ("B", Some("secret".into()))).unwrap_err(), "A"),
        ] {
            assert!(error.to_string().contains(&format!("setting {setting} ")), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
