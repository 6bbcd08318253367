//! What a placement is worth, in figures and in words.

use std::fmt;

use super::{LayerTime, Placement, Problem, Shares};

/// One layer of a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerPrediction {
    /// Neurons on the GPU.
    pub n_hot: usize,
    /// All of them.
    pub n_ff: usize,
    /// Bytes of the hot ones.
    pub bytes: u64,
    /// How many neurons fire per token, and how many of these are hot; `None` without counts.
    pub fired: Option<(f64, f64)>,
    /// Its time for one token; `None` where nothing is known of its activity.
    pub time: Option<LayerTime>,
}

/// What a placement takes and saves.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Its layers.
    pub layers: Vec<LayerPrediction>,
    /// Bytes that it may take.
    pub cap: u64,
}

/// Times of all layers for one token, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenTime {
    /// In which the GPU works.
    pub gpu: f64,
    /// In which the CPU works.
    pub cpu: f64,
    /// In which the GPU waits for the CPU or for what crosses.
    pub exposed: f64,
}

impl TokenTime {
    /// From begin to end.
    pub fn total(&self) -> f64 {
        self.gpu + self.exposed
    }
}

impl Placement {
    /// What the placement is worth by the problem's figures and counts, whatever it was made by.
    pub fn predict(&self, problem: &Problem<'_>) -> Prediction {
        let shares = Shares::of(problem);
        let layers = problem.layers.iter().zip(&self.hot).enumerate();
        let layers = layers.map(|(il, (layer, hot))| LayerPrediction {
            n_hot: hot.len(),
            n_ff: layer.n_ff,
            bytes: layer.neuron_bytes.saturating_mul(hot.len() as u64),
            fired: shares.as_ref().and_then(|shares| {
                let tokens = shares.tokens[il].max(1) as f64;
                let counts = &layer.known()?.counts;
                let all: f64 = counts.iter().copied().map(f64::from).sum();
                let hot: f64 = hot.iter().map(|&id| f64::from(counts[id as usize])).sum();
                Some((all / tokens, hot / tokens))
            }),
            time: shares.as_ref().map(|shares| {
                let load = |id: u32| shares.load(problem, il, id);
                let all: f64 = (0..layer.n_ff as u32).map(load).sum();
                let hot_bytes: f64 = hot.iter().copied().map(load).sum();
                let cold = if hot.len() == layer.n_ff { 0.0 } else { (all - hot_bytes).max(0.0) };
                problem.time(il, hot.len(), hot_bytes, cold)
            }),
        });
        Prediction { layers: layers.collect(), cap: problem.cap }
    }
}

impl Prediction {
    /// Bytes of all hot neurons.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// The time of a token; `None` where nothing is known of the activity.
    pub fn time(&self) -> Option<TokenTime> {
        self.layers.iter().try_fold(TokenTime::default(), |sum, layer| {
            let time = layer.time?;
            Some(TokenTime {
                gpu: sum.gpu + time.gpu,
                cpu: sum.cpu + time.cpu,
                exposed: sum.exposed + time.total() - time.gpu,
            })
        })
    }

    /// Share of the activations that are of hot neurons; `None` without counts.
    pub fn hot_share(&self) -> Option<f64> {
        let fired = self.layers.iter().filter_map(|layer| layer.fired);
        let (all, hot) = fired.fold((0.0, 0.0), |sum, fired| (sum.0 + fired.0, sum.1 + fired.1));
        (all > 0.0).then(|| hot / all)
    }

    /// One line per layer, for tools.
    pub fn table(&self) -> String {
        let mut table =
            "layer    hot neurons         MiB  activations  GPU us  CPU us  exposed us\n"
                .to_owned();
        for (il, layer) in self.layers.iter().enumerate() {
            let share = layer.fired.filter(|fired| fired.0 > 0.0).map(|(all, hot)| hot / all);
            let share = share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
            let time = |of: &dyn Fn(&LayerTime) -> f64| {
                layer.time.map_or("-".into(), |time| format!("{:.1}", of(&time) * 1e6))
            };
            table += &format!(
                "{il:5} {:>6} of {:>6} {:>9.2} {share:>12} {:>7} {:>7} {:>11}\n",
                layer.n_hot,
                layer.n_ff,
                mib(layer.bytes),
                time(&|t| t.gpu),
                time(&|t| t.cpu),
                time(&|t| t.total() - t.gpu),
            );
        }
        table
    }
}

/// One line for the log.
impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_hot: usize = self.layers.iter().map(|layer| layer.n_hot).sum();
        let n_ff: usize = self.layers.iter().map(|layer| layer.n_ff).sum();
        let whole = self.layers.iter().filter(|layer| layer.n_hot == layer.n_ff).count();
        write!(
            f,
            "{n_hot} of {n_ff} neurons are hot: {:.1} of {:.1} MiB, {whole} of {} layers whole",
            mib(self.bytes()),
            mib(self.cap),
            self.layers.len(),
        )?;
        if let Some(share) = self.hot_share() {
            write!(f, ", {:.1} % of activations", share * 100.0)?;
        }
        match self.time() {
            Some(time) => write!(
                f,
                "; predicted for a token: {:.3} ms (GPU {:.3}, CPU {:.3}, exposed {:.3})",
                time.total() * 1e3,
                time.gpu * 1e3,
                time.cpu * 1e3,
                time.exposed * 1e3
            ),
            None => write!(f, "; without counts of activations nothing is predicted"),
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
