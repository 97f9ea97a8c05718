//! What is wrong with a configuration, and where: every fault at once.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a configuration: all of it, in the order of the text.
///
/// ```
/// let text = "readres = 4\ncheckout_timeout = 5";
/// let error = tenure::PoolConfig::from_toml_str(text).unwrap_err();
/// assert_eq!(error.faults().len(), 2);
/// assert!(error.to_string().contains("did you mean `readers`?"));
/// ```
#[derive(Debug)]
pub struct ConfigError {
    file: Option<PathBuf>,
    faults: Vec<ConfigFault>,
    source: Option<std::io::Error>,
}

/// One thing that is wrong with a configuration.
///
/// ```
/// let error = tenure::PoolConfig::from_toml_str("readers = 0").unwrap_err();
/// let fault = &error.faults()[0];
/// assert_eq!((fault.line(), fault.column(), fault.key()), (Some(1), Some(11), Some("readers")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    pub(super) key: Option<String>,
    /// Line and column, from 1, in characters.
    pub(super) place: Option<(usize, usize)>,
    pub(super) message: String,
}

impl ConfigFault {
    pub(super) fn of_key(key: &str, message: String) -> Self {
        Self { key: Some(key.to_owned()), place: None, message }
    }

    /// The key that is meant, when one is.
    ///
    /// ```
    /// let error = tenure::PoolConfig::from_toml_str("name = ''").unwrap_err();
    /// assert_eq!(error.faults()[0].key(), Some("name"));
    /// ```
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The line, from 1; `None` for a value that was not read from a text.
    ///
    /// ```
    /// let error = tenure::PoolConfig::from_toml_str("create = 1").unwrap_err();
    /// assert_eq!(error.faults()[0].line(), Some(1));
    /// ```
    pub fn line(&self) -> Option<usize> {
        self.place.map(|(line, _)| line)
    }

    /// The column, in characters from 1; `None` for a value that was not read from a text.
    ///
    /// ```
    /// let error = tenure::PoolConfig::from_toml_str("create = 1").unwrap_err();
    /// assert_eq!(error.faults()[0].column(), Some(10));
    /// ```
    pub fn column(&self) -> Option<usize> {
        self.place.map(|(_, column)| column)
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl ConfigError {
    pub(super) fn unless_empty(faults: Vec<ConfigFault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self { file: None, faults, source: None }) }
    }

    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        let message = format!("it cannot be read: {source}");
        let fault = ConfigFault { key: None, place: None, message };
        Self { file: Some(path.to_owned()), faults: vec![fault], source: Some(source) }
    }

    pub(crate) fn no_database() -> Self {
        let message = "`database` is missing; give the path of the database file".to_owned();
        let faults = vec![ConfigFault::of_key("database", message)];
        Self { file: None, faults, source: None }
    }

    pub(super) fn in_file(self, path: &Path) -> Self {
        Self { file: Some(path.to_owned()), ..self }
    }

    /// Every fault, in the order of the text. There is at least one.
    ///
    /// ```
    /// let text = "readers = 0\nmax_waiters = -1";
    /// for fault in tenure::PoolConfig::from_toml_str(text).unwrap_err().faults() {
    ///     eprintln!("{fault}");
    /// }
    /// ```
    pub fn faults(&self) -> &[ConfigFault] {
        &self.faults
    }
}

/// A line for each fault.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration ")?;
        if let Some(file) = &self.file {
            write!(f, "{} ", file.display())?;
        }
        match &*self.faults {
            [only] => write!(f, "is wrong: {only}"),
            faults => {
                write!(f, "is wrong in {} places:", faults.len())?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
