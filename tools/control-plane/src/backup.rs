//! Backups of etcd, and how they are restored. Stops and starts the servers of a control plane.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::server::{ControlPlane, StartError};

/// A copy of etcd's data. It is removed with the control plane that it is of.
#[derive(Debug)]
pub struct Backup {
    data: PathBuf,
}

impl ControlPlane {
    /// Stops both servers, copies etcd's data, and starts them again at the same addresses, which takes about 10 seconds.
    ///
    /// # Errors
    /// [`StartError`]: a server does not stop or start, or the data cannot be copied.
    pub fn back_up(&mut self) -> Result<Backup, StartError> {
        let data = tempfile::Builder::new()
            .prefix("backup-")
            .tempdir_in(self.folder())
            .map_err(StartError::Folder)?
            .keep();
        self.stop_servers()?;
        copy(&self.data(), &data)?;
        self.start_servers(|_| {})?;
        Ok(Backup { data })
    }

    /// Restores a backup as Kubernetes' documentation describes it: the API server is stopped, the data of etcd is replaced,
    /// and both are started again, at the same addresses. What was written since the backup is lost, and revisions count
    /// from there again. `prepare` is called with etcd's address before the API server is started.
    ///
    /// # Errors
    /// [`StartError`]: a server does not stop or start, or the data cannot be replaced.
    pub fn restore(&mut self, backup: &Backup, prepare: impl FnOnce(&str)) -> Result<(), StartError> {
        self.stop_servers()?;
        let data = self.data();
        fs::remove_dir_all(&data).map_err(at(&data))?;
        copy(&backup.data, &data)?;
        self.start_servers(prepare)
    }
}

/// Copies a folder, whose copy may exist and be empty. Only this user can read the copy, as etcd demands of its data.
fn copy(from: &Path, to: &Path) -> Result<(), StartError> {
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(at(&to))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Write { path, source }
}
