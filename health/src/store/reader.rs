//! The store as others read it: beside an agent, or when none runs.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::database;
use super::open::{self, sql};
use super::{Page, Query, SCHEMA, StoreError};

/// A store that is only read.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the file in a state directory.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is of another version.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = super::file(directory);
        let connection = open::read_only(&path)?;
        Ok(Self { connection, path })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The events that are asked for, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(&self, query: &Query) -> Result<Page, StoreError> {
        let failed = |source| sql("read", &self.path, source);
        let mut events = database::events(&self.connection, query).map_err(failed)?;
        let more = query.cut(&mut events);
        Ok(Page {
            schema: SCHEMA,
            events,
            more,
            last_id: database::last_id(&self.connection).map_err(failed)?,
            forgotten_through: database::forgotten_through(&self.connection).map_err(failed)?,
        })
    }
}
