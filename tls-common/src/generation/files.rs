//! The files of a bundle as they were at one moment, and the passwords among them.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{MaterialError, Password, Secret, StoreOptions, error::StorePart, store::ResolvedPasswords};

/// Every file of a bundle with the content it had at one moment.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) map: BTreeMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// Paths of the bundle that are directories, with the files in them that count.
    pub(crate) directories: BTreeMap<PathBuf, Vec<PathBuf>>,
}

impl Files {
    /// The content of one file of the bundle.
    pub(super) fn get(&self, path: &Path) -> Result<&[u8], MaterialError> {
        let content = self.map.get(path).ok_or_else(|| MaterialError::Unreadable {
            path: path.to_owned(),
            error: match self.directories.contains_key(path) {
                true => std::io::ErrorKind::IsADirectory.into(),
                false => std::io::ErrorKind::NotFound.into(),
            },
        })?;
        Ok(content)
    }

    /// The files in one of the bundle's directories; `None` if `path` is no directory.
    pub(super) fn directory(&self, path: &Path) -> Option<impl Iterator<Item = (&Path, &[u8])>> {
        let listed = self.directories.get(path)?;
        Some(listed.iter().filter_map(|path| Some((path.as_path(), self.map.get(path)?.as_slice()))))
    }

    /// The passwords of one store, password files read.
    pub(super) fn passwords(
        &self,
        part: StorePart,
        options: &StoreOptions,
    ) -> Result<ResolvedPasswords, MaterialError> {
        Ok(ResolvedPasswords {
            store: self.password(part, &options.password)?,
            key: options.key_password.as_ref().map_or(Ok(None), |password| self.password(part, password))?,
        })
    }

    fn password(&self, part: StorePart, password: &Password) -> Result<Option<Secret>, MaterialError> {
        let path = match password {
            Password::None => return Ok(None),
            Password::Inline(secret) => return Ok(Some(secret.clone())),
            Password::File(path) => path,
        };
        let fault = |reason| MaterialError::PasswordFile { part, path: path.clone(), reason };
        let text = std::str::from_utf8(self.get(path)?).map_err(|_| fault("is not UTF-8"))?;
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(fault("is empty"));
        }
        Ok(Some(Secret::new(text.to_owned())))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.map.keys()).finish()
    }
}
