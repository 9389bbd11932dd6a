//! One error type for everything a user can cause: what happened, where (path, line, tensor), what
//! was expected, what was found, and what to do. `main.rs` alone prints it and picks the exit code.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything that can fail for a user's reason.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure; decides the exit code (2 for `Usage`, 1 for the rest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a settings file asks for something that cannot be.
    Usage,
    /// A document, checkpoint or shard is not what it should be.
    Input,
    /// The file system or another process refused.
    Io,
    /// A number that should be finite is not.
    Numeric,
}

/// One failure, filled in by the methods below. `Display` prints each part that is known.
#[derive(Debug)]
pub struct Error(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: Kind,
    what: String,
    path: Option<PathBuf>,
    line: Option<u64>,
    tensor: Option<String>,
    expected: Option<String>,
    got: Option<String>,
    fix: Option<String>,
}

impl Error {
    /// A failure of this kind, without a place or a remedy yet.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error(Box::new(Details {
            kind,
            what: what.into(),
            path: None,
            line: None,
            tensor: None,
            expected: None,
            got: None,
            fix: None,
        }))
    }
    /// The command line or a settings file is at fault ([`Kind::Usage`]).
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Kind::Usage, what)
    }
    /// A document, checkpoint or shard is at fault ([`Kind::Input`]).
    pub fn input(what: impl Into<String>) -> Error {
        Error::new(Kind::Input, what)
    }
    /// A number is not finite ([`Kind::Numeric`]).
    pub fn numeric(what: impl Into<String>) -> Error {
        Error::new(Kind::Numeric, what)
    }
    /// A failed call of the operating system on `path`; full disks and missing permissions name
    /// their remedy.
    pub fn io(doing: &str, path: impl AsRef<Path>, source: &std::io::Error) -> Error {
        use std::io::ErrorKind as E;
        let error = Error::new(Kind::Io, format!("cannot {doing}: {source}")).at(path);
        match source.kind() {
            E::StorageFull | E::QuotaExceeded => error.fix(
                "free some space or choose another --out, then run the same command again: finished stages are kept",
            ),
            E::FileTooLarge => error.fix("raise the limit on file sizes (ulimit -f), then run the same command again"),
            E::ReadOnlyFilesystem => error.fix("choose another --out"),
            E::PermissionDenied => error.fix("check the permissions, or choose another path"),
            E::NotADirectory | E::AlreadyExists => error.fix("a part of this path is a file: choose another path"),
            E::NotFound => error.fix("check the path"),
            _ => error,
        }
    }
    /// The file at fault; replaces an earlier one.
    pub fn at(mut self, path: impl AsRef<Path>) -> Error {
        self.0.path = Some(path.as_ref().to_path_buf());
        self
    }
    /// 1-based line within the file.
    pub fn line(mut self, line: u64) -> Error {
        self.0.line = Some(line);
        self
    }
    /// The tensor at fault, as the checkpoint names it.
    pub fn tensor(mut self, name: impl Into<String>) -> Error {
        self.0.tensor = Some(name.into());
        self
    }
    /// A valid value or state, in the user's terms.
    pub fn expected(mut self, what: impl Into<String>) -> Error {
        self.0.expected = Some(what.into());
        self
    }
    /// What was found instead.
    pub fn got(mut self, what: impl Into<String>) -> Error {
        self.0.got = Some(what.into());
        self
    }
    /// What the user can do about it.
    pub fn fix(mut self, what: impl Into<String>) -> Error {
        self.0.fix = Some(what.into());
        self
    }
    /// What happened, without the rest.
    pub fn summary(&self) -> &str {
        &self.0.what
    }
    /// Whether a path has been named.
    pub fn has_place(&self) -> bool {
        self.0.path.is_some()
    }
    /// The same fault, caused by the command line or a settings file.
    pub fn into_usage(mut self) -> Error {
        self.0.kind = Kind::Usage;
        self
    }
    /// Which kind of failure; see [`Error::exit_code`].
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    /// 2 for [`Kind::Usage`], 1 for all others.
    pub fn exit_code(&self) -> u8 {
        if self.0.kind == Kind::Usage { 2 } else { 1 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &*self.0;
        if let Some(path) = &d.path {
            write!(f, "{}", path.display())?;
            if let Some(line) = d.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": ")?;
        }
        if let Some(tensor) = &d.tensor {
            write!(f, "tensor `{tensor}`: ")?;
        }
        write!(f, "{}", d.what)?;
        if let Some(expected) = &d.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(got) = &d.got {
            write!(f, "\n  got: {got}")?;
        }
        if let Some(fix) = &d.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
