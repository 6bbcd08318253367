//! A model with its vocabulary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::offload::Offload;
use crate::adapter::{self, Lora};
use crate::backend::cuda::{Budget, CudaError};
use crate::engine::card::{CardModel, CardRequest};
use crate::engine::{Context, ContextError, ContextParams};
use crate::gguf::{self, LoadOptions, Metadata, ModelFiles, Progress};
use crate::model::{self, Ftype, Hparams, Layout, SaveError, Wanted, Weight};
use crate::plan::RopeStyle;
use crate::quant::dequantize_row;
use crate::sparse::{
    BadMagnitude, BadOption, Mode, Options, Places, Request, Sidecar, Sparse, Tuning,
};
use crate::tools::tune::{TuneError, tune};
use crate::vocab::{self, Vocab};
use crate::{log_info, log_warn};
use once_cell::sync::OnceCell;

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

/// Smaller models, in bytes, stay in caches and run well in every way.
const LEAST_MEASURED: u64 = 32 << 20;

/// An immutable model: weights, hyper-parameters, vocabulary, metadata.
pub struct Model {
    pub(super) inner: Arc<model::Model>,
    sparse: Arc<Sparse>,
    /// What the caller, the file and the environment say about that.
    pub(super) options: Options,
    tuned: OnceCell<Arc<Sparse>>,
    pub(super) vocab: Vocab,
    /// Where it was loaded from; the first file of a set.
    pub(super) path: Option<PathBuf>,
    /// Layers that are on a card.
    card: Option<Arc<CardModel>>,
    /// Those that would be, of a model without weights.
    planned: Option<CardRequest>,
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

    /// The weights of a model with the metadata of this file, which may have some in its table;
    /// see [`model::wanted`].
    pub fn wanted(file: File, name: &str, options: &LoadOptions) -> Result<Vec<Wanted>, Error> {
        let options = LoadOptions { no_alloc: true, ..options.clone() };
        Ok(model::wanted(&ModelFiles::open_file(file, name, &options)?)?)
    }

    /// Writes the model to a file, in place of what is there.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        self.inner.save(path)
    }

    fn from_files(
        files: ModelFiles,
        path: Option<&Path>,
        options: &LoadOptions,
        sparse: &Request,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let vocab = Vocab::from_meta(files.meta())?;
        let mut sparse_options = Options::read(files.meta(), sparse)?;
        let skipping = sparse_options.skipping();
        let inner = model::Model::load(files, options.vocab_only, skipping, progress)?;
        if sparse_options.mode == Mode::Magnitude {
            let places = places(&inner, path, sparse_options.sidecar.as_deref());
            sparse_options.find_thresholds(&inner, places.as_ref())?;
        }
        let mut sparse = Sparse::new(inner.plan(), &sparse_options);
        if sparse_options.mode == Mode::Sign && inner.has_data() {
            sparse = sparse.with_signs(&inner);
        }
        let (sparse, inner) = (Arc::new(sparse), Arc::new(inner));
        let (path, tuned) = (path.map(Path::to_owned), OnceCell::new());
        Ok(Self {
            inner,
            sparse,
            options: sparse_options,
            tuned,
            vocab,
            path,
            card: None,
            planned: None,
        })
    }

    /// Brings layers to a card, for contexts that are made from now on. Says how many went there, the
    /// output counted as one. What may be used of the card's memory is the request's budget, or
    /// what the options of sparse execution say.
    ///
    /// Without weights nothing is brought anywhere; contexts then say what they would take of the
    /// card ([`Context::memory_use`]).
    pub fn offload(&mut self, request: &CardRequest) -> Result<usize, CudaError> {
        let by_options = self.options.vram_budget.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let request = CardRequest { budget: request.budget.or(by_options), ..*request };
        (self.card, self.planned) = (None, None);
        if !self.inner.has_data() {
            self.planned = Some(request);
            return Ok(0);
        }
        let offload = Offload {
            model: &self.inner,
            sparse: &self.sparse,
            options: &self.options,
            path: self.path.as_deref(),
        };
        self.card = offload.bring(&request)?.map(Arc::new);
        let n_layers = self.hparams().map_or(0, |hp| hp.n_layer);
        Ok(self.card.as_ref().map_or(0, |card| n_layers + 1 - card.first_layer()))
    }

    /// Neurons that are on the card and those of all networks that are split between it and the
    /// processor; `None` when none is.
    pub fn hot_neurons(&self) -> Option<(usize, usize)> {
        self.card.as_ref()?.hot_neurons()
    }

    /// Names of the options of sparse execution that say something of a GPU.
    pub fn gpu_options(&self) -> Vec<&'static str> {
        self.options.of_gpus()
    }

    /// What the model and its contexts may use of a card and what they do; `None` when no layer is
    /// there.
    pub fn card_budget(&self) -> Option<&Arc<Budget>> {
        self.card.as_ref().map(|card| card.budget())
    }

    /// Whether it was loaded without its weights.
    pub fn is_without_weights(&self) -> bool {
        !self.inner.has_data()
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

    /// Elements of the table of token embeddings; `None` when it is not in memory.
    pub fn n_token_embeddings(&self) -> Option<usize> {
        Some(self.token_embeddings()?.shape.n_elements() as usize)
    }

    /// Writes the table of token embeddings, `[n_vocab, n_embd]`, row after row; false when `out` has
    /// another length or the table is not in memory.
    pub fn read_token_embeddings(&self, out: &mut [f32]) -> bool {
        let read = self.token_embeddings().filter(|table| table.layout == Layout::Rows);
        let read = read.and_then(|table| dequantize_row(table.ty, table.data.as_ref()?, out).ok());
        read.is_some()
    }

    fn token_embeddings(&self) -> Option<&Weight> {
        let mut all = self.inner.weights().iter();
        all.find(|weight| weight.name == "token_embd.weight" && weight.data.is_some())
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

    /// Loads a LoRA adapter for contexts over this model.
    pub fn lora(&self, path: impl AsRef<Path>) -> Result<Lora, adapter::Error> {
        Lora::load(ModelFiles::open(path, &Lora::load_options())?, &self.inner)
    }

    /// The same from an open file; `name` is for messages.
    pub fn lora_from_file(&self, file: File, name: &str) -> Result<Lora, adapter::Error> {
        Lora::load(ModelFiles::open_file(file, name, &Lora::load_options())?, &self.inner)
    }

    /// A context over this model.
    pub fn context(&self, params: ContextParams) -> Result<Context, ContextError> {
        let sparse = match params.reference {
            true => &self.sparse,
            false => self.tuned(params.n_threads),
        };
        let card = params.card.clone().or_else(|| self.card.clone());
        let params = ContextParams { card, planned: self.planned, ..params };
        Context::new(Arc::clone(&self.inner), Arc::clone(sparse), params)
    }

    /// How the layers choose their neurons, after what was measured on this machine: when the first
    /// context is made, unless an earlier run left it in the sidecar.
    fn tuned(&self, n_threads: usize) -> &Arc<Sparse> {
        let auto = self.sparse.mode() == Mode::Auto && self.sparse.can_be_tuned();
        let is_large = self.inner.n_bytes() >= LEAST_MEASURED;
        if !auto || !is_large || !self.inner.has_data() {
            return &self.sparse;
        }
        self.tuned.get_or_init(|| {
            let places = places(&self.inner, self.path.as_deref(), self.options.sidecar.as_deref());
            let mut sidecar = places.as_ref().map(Places::read).unwrap_or_default();
            let n_layer = self.hparams().map_or(0, |hp| hp.n_layer);
            let known = sidecar.tuning.take().filter(|tuning| tuning.is_for(n_layer));
            let tuning = known.map_or_else(|| self.measure(n_threads, sidecar, places), Ok);
            tuning.map_or_else(
                |error| {
                    log_warn!("sparse layers run as they are, not measured: {error}");
                    Arc::clone(&self.sparse)
                },
                |tuning| Arc::new(self.sparse.tuned(&tuning)),
            )
        })
    }

    /// Measures, and keeps the result in the sidecar.
    fn measure(
        &self,
        n_threads: usize,
        sidecar: Sidecar,
        places: Option<Places>,
    ) -> Result<Tuning, TuneError> {
        log_info!("measuring how the sparse layers run fastest, once");
        let tuning = tune(&self.inner, &self.options, &self.sample(), n_threads)?;
        let n_of = |mode: Mode| tuning.layers.iter().filter(|m| **m == mode).count();
        log_info!(
            "sparse layers: {} by predictors, {} by exact gates, {} whole; lists of rows pay below \
             {:.0} % of them",
            n_of(Mode::Predictor),
            n_of(Mode::Exact),
            n_of(Mode::Off),
            100.0 * tuning.all_rows_from
        );
        let sidecar = Sidecar { tuning: Some(tuning.clone()), ..sidecar };
        if let Some(Err(error)) = places.map(|places| places.write(&sidecar)) {
            log_warn!("it will be measured again, nothing keeps it: {error}");
        }
        Ok(tuning)
    }

    /// Tokens of ordinary text, or any tokens.
    fn sample(&self) -> Vec<i32> {
        const TEXT: &[u8] = b"The river was high that spring, and nobody crossed it without need.";
        let n_vocab = self.hparams().map_or(1, |hp| hp.n_vocab) as i32;
        let tokens = self.vocab.tokenize(TEXT, true, false).unwrap_or_default();
        match tokens.len() >= 8 && tokens.iter().all(|t| (0..n_vocab).contains(t)) {
            true => tokens,
            false => (0..8).map(|i| i * 7919 % n_vocab).collect(),
        }
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
