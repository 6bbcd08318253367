//! A model with its vocabulary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{Context, ContextError, ContextParams};
use crate::gguf::{self, LoadOptions, Metadata, ModelFiles, Progress};
use crate::model::{self, Ftype, Hparams};
use crate::plan::RopeStyle;
use crate::sparse::{BadMagnitude, BadOption, Mode, Options, Places, Request, Sparse};
use crate::vocab::{self, Vocab};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container is damaged, or not what it says.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// No model that runs here.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// An open file cannot be used.
    #[error("the file cannot be used: {0}")]
    File(String),
    /// An option of sparse execution that makes no sense.
    #[error(transparent)]
    Sparse(#[from] BadOption),
    /// Thresholds of the gate that cannot be used.
    #[error(transparent)]
    Magnitude(#[from] BadMagnitude),
    /// No tokenizer that works here.
    #[error(transparent)]
    Vocab(#[from] vocab::Error),
}

/// An immutable model: weights, hyper-parameters, vocabulary, metadata.
pub struct Model {
    pub(super) inner: Arc<model::Model>,
    sparse: Arc<Sparse>,
    pub(super) vocab: Vocab,
    /// Where it was loaded from; the first file of a set.
    pub(super) path: Option<PathBuf>,
}

impl Model {
    /// Loads a file, or a whole set of splits from its first one.
    pub fn load(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        Self::load_sparse(path, options, &Request::default(), progress)
    }

    /// The same with options of sparse execution.
    pub fn load_sparse(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        sparse: &Request,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let files = ModelFiles::open(&path, options)?;
        Self::from_files(files, Some(path.as_ref()), options, sparse, progress)
    }

    /// Loads a set of splits given one by one.
    pub fn load_splits<P: AsRef<Path>>(
        paths: &[P],
        options: &LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let files = ModelFiles::open_splits(paths, options)?;
        let path = paths.first().map(AsRef::as_ref);
        Self::from_files(files, path, options, &Request::default(), progress)
    }

    /// Loads from an open file; `name` is for messages.
    pub fn load_file(
        file: File,
        name: &str,
        options: &LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let files = ModelFiles::open_file(file, name, options)?;
        Self::from_files(files, None, options, &Request::default(), progress)
    }

    fn from_files(
        files: ModelFiles,
        path: Option<&Path>,
        options: &LoadOptions,
        sparse: &Request,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let vocab = Vocab::from_meta(files.meta())?;
        let mut sparse = Options::read(files.meta(), sparse)?;
        let skipping = sparse.skipping();
        let inner = model::Model::load(files, options.vocab_only, skipping, progress)?;
        if sparse.mode == Mode::Magnitude {
            let places = places(&inner, path, sparse.sidecar.as_deref());
            sparse.find_thresholds(&inner, places.as_ref())?;
        }
        let sparse = Sparse::new(inner.plan(), &sparse);
        let path = path.map(Path::to_owned);
        Ok(Self { inner: Arc::new(inner), sparse: Arc::new(sparse), vocab, path })
    }

    /// The tokenizer.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// The file's key-value pairs.
    pub fn meta(&self) -> &Metadata {
        self.inner.meta()
    }

    /// Sizes and constants; `None` for a model loaded for its vocabulary only.
    pub fn hparams(&self) -> Option<&Hparams> {
        self.inner.hparams()
    }

    /// Pairs of the architecture's rotary embedding, if it has one.
    pub fn rope_style(&self) -> Option<RopeStyle> {
        self.inner.rope_style()
    }

    /// `general.architecture`.
    pub fn arch_name(&self) -> &str {
        self.inner.arch_name()
    }

    /// Overall quantisation.
    pub fn ftype(&self) -> Ftype {
        self.inner.ftype()
    }

    /// Architecture, size and quantisation in a few words.
    pub fn description(&self) -> String {
        self.inner.description()
    }

    /// Bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        self.inner.n_bytes()
    }

    /// Elements of all tensors.
    pub fn n_params(&self) -> u64 {
        self.inner.n_params()
    }

    /// The model's chat template: the default one, or the one of this name.
    pub fn chat_template(&self, name: Option<&str>) -> Option<&gguf::ByteStr> {
        let key = match name {
            None => "tokenizer.chat_template".to_owned(),
            Some(name) => format!("tokenizer.chat_template.{name}"),
        };
        self.meta().get(&key)?.as_byte_str()
    }

    /// Name of a classifier's output, with a NUL at its end.
    pub fn classifier_label(&self, i: usize) -> Option<&[u8]> {
        let labels = self.meta().get_strs(&model::classifier_labels(self.arch_name())).ok()??;
        labels.get_with_nul(i)
    }

    /// A context over this model.
    pub fn context(&self, params: ContextParams) -> Result<Context, ContextError> {
        Context::new(Arc::clone(&self.inner), Arc::clone(&self.sparse), params)
    }
}

/// Where the sidecar of a model may be; `None` for a model without weights.
pub(super) fn places(
    model: &model::Model,
    path: Option<&Path>,
    explicit: Option<&Path>,
) -> Option<Places> {
    Some(Places::new(model.fingerprint()?, path, explicit))
}
