//! What holds for every sampler, whatever its arguments and the logits are.

mod vocab_support;

use std::sync::{Arc, LazyLock};

use powerinfer::sampler::*;
use powerinfer::vocab::Vocab;
use proptest::prelude::*;

/// For infill, which looks at texts.
static GPT2: LazyLock<Arc<Vocab>> = LazyLock::new(|| {
    let file = vocab_support::repository().join("tests/data/vocabs/ggml-vocab-gpt-2.gguf");
    Arc::new(vocab_support::vocab(&file))
});

/// Arguments as users and fuzzers give them.
fn any_param() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -0.5f32..2.0,
        1 => prop::num::f32::ANY,
        1 => prop::sample::select(vec![
            0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE,
        ]),
    ]
}

fn any_int() -> impl Strategy<Value = i32> {
    prop_oneof![4 => -2i32..300, 1 => any::<i32>(), 1 => Just(i32::MAX), 1 => Just(i32::MIN)]
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        20 => -15.0f32..15.0,
        4 => (-3i8..3).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
        1 => prop::num::f32::ANY,
    ];
    let tame = prop::collection::vec(-15.0f32..15.0, 0..1500);
    prop_oneof![prop::collection::vec(logit, 0..1500), tame]
}

/// Which sampler, with which arguments.
#[derive(Clone, Copy, Debug)]
struct Wish {
    kind: usize,
    floats: (f32, f32, f32),
    ints: (i32, i32),
    seed: u32,
}

prop_compose! {
    fn any_sampler()(
        kind in 0..17usize,
        floats in (any_param(), any_param(), any_param()),
        ints in (any_int(), any_int()),
        seed in any::<u32>(),
    ) -> Wish {
        Wish { kind, floats, ints, seed }
    }
}

fn build(Wish { kind, floats: (a, b, c), ints: (i, j), seed }: Wish) -> Box<dyn Sampler> {
    let keep = usize::try_from(i).unwrap_or(usize::MAX);
    match kind {
        0 => Box::new(Greedy::new()),
        1 => Box::new(Dist::new(seed)),
        2 => Box::new(TopK::new(i)),
        3 => Box::new(TopP::new(a, keep)),
        4 => Box::new(MinP::new(a, keep)),
        5 => Box::new(Typical::new(a, keep)),
        6 => Box::new(Temp::new(a)),
        7 => Box::new(TempExt::new(a, b, c)),
        8 => Box::new(Xtc::new(a, b, keep, seed)),
        9 => Box::new(TopNSigma::new(a)),
        10 => Box::new(Mirostat::new(i, seed, a, b, j)),
        11 => Box::new(MirostatV2::new(seed, a, b)),
        12 => Box::new(Penalties::new(i, a, b, c)),
        13 => Box::new(AdaptiveP::new(a, b, seed)),
        14 => Box::new(Dry::new(a, b, i, j, Breakers::default())),
        15 => Box::new(Infill::new(Arc::clone(&GPT2))),
        _ => Box::new(LogitBias::new(vec![(i, a), (j, b), (3, c)])),
    }
}

proptest! {
    #[test]
    fn no_sampler_panics_invents_or_lies(
        wish in any_sampler(),
        logits in any_logits(),
        sort_first in any::<bool>(),
    ) {
        let mut sampler = build(wish);
        for step in 0..6 {
            let mut buffer = Vec::new();
            let mut list = Candidates::from_logits(&mut buffer, &logits);
            if sort_first {
                list.sort();
            }
            sampler.apply(&mut list);

            prop_assert!(list.is_empty() == logits.is_empty(), "a list never runs empty");
            if let Some(selected) = list.selected() {
                prop_assert!(selected < list.len(), "{selected} of {}", list.len());
            }
            // NaN has no place in any order. Adaptive-p and biases leave the mark as they found it, as
            // llama.cpp's do.
            let leaves_mark = matches!(wish.kind, 13 | 16);
            if list.is_sorted() && !leaves_mark && !list.iter().any(|c| c.logit.is_nan()) {
                prop_assert!(list.is_sorted_by(|a, b| a.logit >= b.logit));
            }
            let mut ids: Vec<Token> = list.iter().map(|c| c.id).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), list.len(), "every token once");
            // Infill may end the text with a token of its own choice.
            let known = |id| (0..logits.len() as Token).contains(&id) || GPT2.is_eog(id);
            prop_assert!(ids.iter().all(|&id| known(id)));
            sampler.accept(list.selected_token().unwrap_or(step % 2));
        }
    }

    #[test]
    fn selecting_samplers_select_and_clones_select_the_same(
        logits in prop::collection::vec(-15.0f32..15.0, 1..600),
        seed in 0..u32::MAX,
        kind in 0..5,
    ) {
        let mut chain = Chain::new(true);
        chain.push(Box::new(Penalties::new(16, 1.2, 0.1, 0.1)) as Box<dyn Sampler>);
        chain.push(Box::new(TopP::new(0.9, 1)));
        chain.push(match kind {
            0 => Box::new(Greedy::new()) as Box<dyn Sampler>,
            1 => Box::new(Dist::new(seed)),
            2 => Box::new(Mirostat::new(600, seed, 4.0, 0.2, 100)),
            3 => Box::new(MirostatV2::new(seed, 4.0, 0.2)),
            _ => Box::new(AdaptiveP::new(0.3, 0.8, seed)),
        });
        let run = |chain: &mut Chain| -> Vec<Option<Token>> {
            let mut buffer = Vec::new();
            (0..8)
                .map(|_| sample(chain, &mut Candidates::from_logits(&mut buffer, &logits)))
                .collect()
        };
        let first = run(&mut chain);
        prop_assert!(first.iter().all(Option::is_some));
        let mut twin = chain.clone();
        let (next, copied) = (run(&mut chain), run(&mut twin));
        // A clone of adaptive-p draws from its seed again, as llama.cpp's does.
        prop_assert!(next == copied || kind == 4, "a clone goes on alike: {next:?} {copied:?}");
        chain.reset();
        prop_assert_eq!(run(&mut chain), first, "reset starts over");
    }

    #[test]
    fn probabilities_sum_to_one(logits in prop::collection::vec(-30.0f32..30.0, 1..3000)) {
        let mut buffer = Vec::new();
        let mut list = Candidates::from_logits(&mut buffer, &logits);
        list.softmax();
        let sum: f64 = list.iter().map(|c| f64::from(c.p)).sum();
        prop_assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }
}
