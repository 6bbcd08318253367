//! What was measured of a model, in a small GGUF file beside it: `<model>.sparse.gguf`.
//!
//! The file is bound to the model by [`Fingerprint`]; one that belongs to another model, or is
//! damaged, is left alone with a line in the log.
//!
//! To add something to it: an optional part in [`Sidecar`], a line in `from_meta` and in `bytes`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::beside::{self, FileError};
use super::magnitude::Magnitude;
use super::tuning::Tuning;
use crate::gguf::{self, Magic, Metadata, Value, Writer};
use crate::model::Fingerprint;
use crate::{log_info, log_warn};

const MODEL: &str = "powerinfer.sidecar.model";
const VERSION: &str = "powerinfer.sidecar.version";
/// Raised when old readers would take a file wrongly; new keys alone are no reason.
const THIS_VERSION: u32 = 1;
/// Larger files are none of ours.
const MAX_BYTES: u64 = 64 << 20;

/// What a sidecar holds. Everything is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// Thresholds of the mode `magnitude`.
    pub magnitude: Option<Magnitude>,
    /// How the layers run fastest on a machine.
    pub tuning: Option<Tuning>,
}

/// Why a sidecar cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] FileError),
    /// No GGUF file, or not with the right types.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// Another version of the format.
    #[error("{path}: version {found} of the format, expected {THIS_VERSION}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It was made for another model.
    #[error("{path}: made for model {found}, this one is {expected}", path = path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// The fingerprint of the model.
        expected: Fingerprint,
    },
    /// The model was not opened by its path, and there is no folder for caches.
    #[error("there is no place for the sidecar: give its path")]
    NoPlace,
}

/// Where a model's sidecar may be.
#[derive(Clone, Debug)]
pub struct Places {
    fingerprint: Fingerprint,
    paths: Vec<PathBuf>,
}

impl Places {
    /// At `explicit` and nowhere else, or beside the model (`None` when it has no path) and in the
    /// caches' folder.
    pub fn new(fingerprint: Fingerprint, model: Option<&Path>, explicit: Option<&Path>) -> Self {
        let paths = beside::places(fingerprint, model, explicit, ".sparse.gguf");
        Self { fingerprint, paths }
    }

    /// What the newest sidecar of the model says; nothing when there is none. One that cannot be
    /// used is named in the log.
    pub fn read(&self) -> Sidecar {
        for path in beside::newest_first(&self.paths) {
            match Sidecar::read(path, self.fingerprint) {
                Ok(sidecar) => return sidecar,
                Err(error) => log_warn!("sidecar ignored: {error}"),
            }
        }
        Sidecar::default()
    }

    /// Writes the sidecar to the first place that takes it, and says where that is.
    pub fn write(&self, sidecar: &Sidecar) -> Result<PathBuf, SidecarError> {
        let mut failed = SidecarError::NoPlace;
        for path in &self.paths {
            match sidecar.write(path, self.fingerprint) {
                Ok(()) => {
                    log_info!("sidecar written to {}", path.display());
                    return Ok(path.clone());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Sidecar {
    /// Reads the file of the model with this fingerprint.
    pub fn read(path: &Path, fingerprint: Fingerprint) -> Result<Self, SidecarError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(FileError::at(path, "open"))?;
        let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
        read.map_err(FileError::at(path, "read"))?;
        let meta = gguf::parse(&bytes, &path.to_string_lossy())?.meta;
        let found = meta.require_u32(VERSION)?;
        if found != THIS_VERSION {
            return Err(SidecarError::Version { path: path.to_owned(), found });
        }
        let found = meta.require_str(MODEL)?;
        if found != fingerprint.to_string() {
            let (path, found) = (path.to_owned(), found.to_owned());
            return Err(SidecarError::OtherModel { path, found, expected: fingerprint });
        }
        Ok(Self::from_meta(&meta)?)
    }

    fn from_meta(meta: &Metadata) -> Result<Self, gguf::Error> {
        Ok(Self { magnitude: Magnitude::from_meta(meta)?, tuning: Tuning::from_meta(meta)? })
    }

    fn bytes(&self, fingerprint: Fingerprint) -> Result<Vec<u8>, gguf::Error> {
        let mut out = Writer::new(Magic::Gguf);
        out.set("general.type", Value::Str("powerinfer-sidecar".into()))?;
        out.set(VERSION, Value::U32(THIS_VERSION))?;
        out.set(MODEL, Value::Str(fingerprint.to_string().as_str().into()))?;
        self.magnitude.as_ref().map_or(Ok(()), |magnitude| magnitude.put(&mut out))?;
        self.tuning.as_ref().map_or(Ok(()), |tuning| tuning.put(&mut out))?;
        out.header()
    }

    /// Writes the file, in place of what is there.
    pub fn write(&self, path: &Path, fingerprint: Fingerprint) -> Result<(), SidecarError> {
        Ok(beside::replace(path, &self.bytes(fingerprint)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    const OWN: Fingerprint = Fingerprint(0x0123_4567_89ab_cdef);

    fn some() -> Sidecar {
        let magnitude = Magnitude {
            thresholds: vec![0.25, 0.0, f32::INFINITY],
            target_sparsity: Some(0.5),
            sparsity: Some(0.496),
            perplexity_dense: Some(16.18),
            perplexity_sparse: Some(20.37),
        };
        let tuning = Tuning {
            machine: "a machine".into(),
            all_rows_from: 0.5,
            layers: vec![Mode::Exact, Mode::Predictor, Mode::Off],
        };
        Sidecar { magnitude: Some(magnitude), tuning: Some(tuning) }
    }

    fn folder(name: &str) -> PathBuf {
        let name = format!("powerinfer-sidecar-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn comes_back_as_it_went() {
        let dir = folder("round");
        let places = Places::new(OWN, Some(&dir.join("m.gguf")), None);
        for sidecar in [some(), Sidecar::default()] {
            assert_eq!(places.write(&sidecar).unwrap(), dir.join("m.gguf.sparse.gguf"));
            assert_eq!(places.read(), sidecar);
        }
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary files");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn of_another_model_or_damaged_is_ignored() {
        let dir = folder("bad");
        let path = dir.join("own.gguf");
        some().write(&path, OWN).unwrap();
        let other = Fingerprint(OWN.0 + 1);
        assert!(matches!(Sidecar::read(&path, other), Err(SidecarError::OtherModel { .. })));
        assert_eq!(Places::new(other, None, Some(&path)).read(), Sidecar::default());

        let bytes = std::fs::read(&path).unwrap();
        for n in 0..bytes.len() {
            std::fs::write(&path, &bytes[..n]).unwrap();
            assert!(Sidecar::read(&path, OWN).is_err(), "{n} of {} bytes", bytes.len());
        }
        assert_eq!(Places::new(OWN, None, Some(&path)).read(), Sidecar::default());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_makes_way() {
        let dir = folder("way");
        // A file where a folder should be: not even root writes there.
        std::fs::write(dir.join("file"), "").unwrap();
        let second = dir.join("cache/own.gguf");
        let paths = vec![dir.join("file/m.gguf"), second.clone()];
        let places = Places { fingerprint: OWN, paths };
        assert_eq!(places.write(&some()).unwrap(), second);
        assert_eq!(places.read(), some());
        assert!(Places { fingerprint: OWN, paths: vec![] }.write(&some()).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
