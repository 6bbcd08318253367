//! Shows the nodes of a run to somebody who looks on, under llama.cpp's names.
//!
//! The plan is then [`Plan::unfused`], all buffers are in f32, and no neuron is skipped. Views and
//! the stored cache are no nodes here: what is shown is what somebody computed.

mod nodes;

use std::collections::HashMap;
use std::ops::Range;

use nodes::{Part, Spec};

use super::{Abort, Job, Run, Runner, Stop};
use crate::backend::cpu::pool::Pool;
use crate::engine::batch::Input;
use crate::model::{Layout, Weight};
use crate::plan::{Plan, Rows, SlotId, StepKind, TensorId};
use crate::quant::QuantType;
use crate::tensor::Activation;

/// What makes a node of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in ggml")]
pub enum Op {
    GetRows,
    Norm,
    RmsNorm,
    Add,
    Mul,
    Scale,
    Tanh,
    /// Weight, activations.
    MulMat,
    /// Weights of all experts, activations, which experts.
    MulMatId,
    Rope,
    Attention,
    /// Of gate and up.
    Glu(Activation),
    Unary(Activation),
    TopK,
}

/// Numbers of a node or a source.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Contiguous.
    F32(&'a [f32]),
    /// Contiguous.
    I32(&'a [i32]),
    /// A weight as it lies in the file; empty where it was laid out anew.
    Weight(QuantType, &'a [u8]),
}

/// A node or a source.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// Name of a node or weight.
    pub name: &'a str,
    /// Extents, the contiguous one first.
    pub ne: [usize; 4],
    /// Empty, unless it is a weight, when somebody is asked whether they want the node.
    pub content: Content<'a>,
}

/// What a step made.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// How.
    pub op: Op,
    /// The result.
    pub value: Value<'a>,
    /// At least one. The source of a change in place is the result.
    pub sources: &'a [Value<'a>],
}

/// Somebody who looks on.
pub trait Observer: Send {
    /// Whether they want to see this node, which comes next.
    fn wants(&mut self, node: &Node<'_>) -> bool;
    /// Shows it; false ends the run.
    fn see(&mut self, node: &Node<'_>) -> bool;
}

/// Name of what was last written to a buffer from a column on.
type Names = HashMap<(SlotId, usize), String>;

impl Runner {
    /// From now on buffers can be read after each step, and no neuron is skipped.
    pub fn make_readable(&mut self) {
        self.readable = true;
    }

    /// Computes a ubatch step by step. What a step made is shown before the next one.
    pub(super) fn run_observed(
        &mut self,
        pool: &mut Pool,
        job: &Job<'_>,
        abort: Option<&dyn Abort>,
        observer: &mut dyn Observer,
    ) -> Result<(), Stop> {
        {
            let run = Run::new(self, job);
            pool.run(&|worker| run.rope_tables(worker));
        }
        let mut names = Names::new();
        for step in &job.plan.steps {
            if abort.is_some_and(Abort::should_abort) {
                return Err(Stop::Aborted);
            }
            let mut specs = nodes::of_step(job, step).into_iter().peekable();
            // They are asked about the first node before it is computed. The others of a step are
            // there by then, which nobody can tell.
            let wanted = specs.peek().map(|spec| {
                Shown::new(self, job, &names, spec, false).with(|node| observer.wants(&node))
            });
            {
                let run = Run::new(self, job);
                pool.run(&|worker| run.alone(worker, &step.kind));
            }
            if let StepKind::Copy { src, dst } | StepKind::ToExperts { src, dst } = step.kind {
                let name = name_of(&names, job.plan, src, 0).to_owned();
                names.insert((dst, 0), name);
            }
            for (i, spec) in specs.enumerate() {
                let wants = match (i, wanted) {
                    (0, Some(wanted)) => wanted,
                    _ => Shown::new(self, job, &names, &spec, false)
                        .with(|node| observer.wants(&node)),
                };
                let seen = !wants
                    || Shown::new(self, job, &names, &spec, true).with(|node| observer.see(&node));
                if !seen {
                    return Ok(());
                }
                if let Some((slot, first)) = spec.out.place() {
                    names.insert((slot, first), spec.name);
                }
            }
        }
        Ok(())
    }
}

/// Name of what is in a buffer from this column on.
fn name_of<'a>(names: &'a Names, plan: &'a Plan, slot: SlotId, first: usize) -> &'a str {
    let known = names.get(&(slot, first)).or_else(|| names.get(&(slot, 0)));
    known.map_or(plan.slot(slot).name, String::as_str)
}

/// A node with copies of the numbers.
struct Shown<'a> {
    op: Op,
    value: (&'a str, [usize; 4], Held<'a>),
    sources: Vec<(&'a str, [usize; 4], Held<'a>)>,
}

/// Numbers that are kept, or weights where they lie.
enum Held<'a> {
    F32(Vec<f32>),
    I32(Vec<i32>),
    Weight(&'a Weight),
}

impl<'a> Shown<'a> {
    /// With the numbers, or without.
    fn new(
        runner: &mut Runner,
        job: &'a Job<'_>,
        names: &'a Names,
        spec: &'a Spec,
        with_numbers: bool,
    ) -> Self {
        let mut hold = |part: &Part| {
            let (name, ne) = described(job, names, part);
            let held = match part {
                Part::Weight(id) => Held::Weight(weight(job, *id)),
                Part::Tokens => match (job.input, with_numbers) {
                    (Input::Tokens(ids), true) => Held::I32(ids.to_vec()),
                    _ => Held::I32(Vec::new()),
                },
                Part::Positions => Held::I32(match with_numbers {
                    true => job.ubatch.pos.clone(),
                    false => Vec::new(),
                }),
                Part::Experts { n_used, n } => Held::I32(match with_numbers {
                    true => runner.chosen(n * n_used),
                    false => Vec::new(),
                }),
                Part::Columns { slot, cols, .. } => Held::F32(match with_numbers {
                    true => runner.columns(job, *slot, cols.clone(), None),
                    false => Vec::new(),
                }),
                Part::Sorted { slot, cols, n_used, each } => Held::F32(match with_numbers {
                    true => runner.columns(job, *slot, cols.clone(), Some((*n_used, *each))),
                    false => Vec::new(),
                }),
            };
            (name, ne, held)
        };
        let (_, ne, held) = hold(&spec.out);
        let sources = spec.sources.iter().map(&mut hold).collect();
        Self { op: spec.op, value: (&spec.name, ne, held), sources }
    }

    fn with<R>(&self, look: impl FnOnce(Node<'_>) -> R) -> R {
        fn value<'v>((name, ne, held): &'v (&str, [usize; 4], Held<'_>)) -> Value<'v> {
            let content = match held {
                Held::F32(x) => Content::F32(x),
                Held::I32(x) => Content::I32(x),
                Held::Weight(w) => {
                    let there = w.layout == Layout::Rows;
                    let data = w.data.as_deref().filter(|_| there);
                    Content::Weight(w.ty, data.unwrap_or(&[]))
                }
            };
            Value { name, ne: *ne, content }
        }
        let sources: Vec<_> = self.sources.iter().map(value).collect();
        look(Node { op: self.op, value: value(&self.value), sources: &sources })
    }
}

fn weight<'a>(job: &'a Job<'_>, id: TensorId) -> &'a Weight {
    let model = job.model.weights();
    model.get(id.0).unwrap_or_else(|| &job.added[id.0 - model.len()])
}

/// Name and extents.
fn described<'a>(job: &'a Job<'_>, names: &'a Names, part: &Part) -> (&'a str, [usize; 4]) {
    match part {
        Part::Weight(id) => {
            let weight = weight(job, *id);
            (&weight.name, weight.shape.ne().map(|n| n as usize))
        }
        Part::Tokens => ("inp_tokens", [job.ubatch.n_rows(Rows::Tokens), 1, 1, 1]),
        Part::Positions => ("inp_pos", [job.ubatch.n_rows(Rows::Tokens), 1, 1, 1]),
        Part::Experts { n_used, n } => ("ffn_moe_topk", [*n_used, *n, 1, 1]),
        Part::Columns { slot, cols, head_dim } => {
            let n_rows = job.n_rows(*slot);
            let ne = match cols.len() == *head_dim {
                true => [cols.len(), n_rows, 1, 1],
                false => [*head_dim, cols.len() / head_dim, n_rows, 1],
            };
            (name_of(names, job.plan, *slot, cols.start), ne)
        }
        Part::Sorted { slot, cols, n_used, each } => {
            let n_rows = job.n_rows(*slot) / n_used;
            let name = name_of(names, job.plan, *slot, cols.start);
            (name, [cols.len(), if *each { *n_used } else { 1 }, n_rows, 1])
        }
    }
}

impl Runner {
    /// Some columns of all rows of a buffer. Rows sorted by expert come in the order of tokens:
    /// with `(n_used, each)`, all of a token's or the first of them.
    fn columns(
        &mut self,
        job: &Job<'_>,
        slot: SlotId,
        cols: Range<usize>,
        sorted: Option<(usize, bool)>,
    ) -> Vec<f32> {
        let (n_rows, buffer) = (job.n_rows(slot), &mut self.slots[slot.0]);
        let width = buffer.width;
        let x = buffer.get();
        let row = |at: usize| &x[at * width..][..width][cols.clone()];
        match sorted {
            None => (0..n_rows).flat_map(|at| row(at).iter().copied()).collect(),
            Some((n_used, each)) => {
                let places = self.routing.places.as_mut().map_or(&[][..], |p| p.get());
                let places = places[..n_rows].iter().enumerate();
                let shown = places.filter(|(i, _)| each || i % n_used == 0);
                shown.flat_map(|(_, &at)| row(at as usize).iter().copied()).collect()
            }
        }
    }

    /// The first `n` experts that were chosen.
    fn chosen(&mut self, n: usize) -> Vec<i32> {
        let experts = self.routing.experts.as_mut().map_or(&[][..], |e| e.get());
        experts[..n].iter().map(|&e| e as i32).collect()
    }
}
