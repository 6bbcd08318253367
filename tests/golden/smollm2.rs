//! SmolLM2-135M-Instruct Q4_1. The truth was checked against PyTorch in float32: all logits within
//! 0.0001.

use super::Truth;
use super::common::{context, model, model_with_vocab};

/// Mean |logit - truth| of llama.cpp 0c1e570 itself on the quantised file, over the same numbers.
const LLAMACPP_MEAN_ERROR: f64 = 0.168;

fn truth() -> Truth {
    let truth = Truth::new(include_str!("../data/golden/truth-smollm2.json"));
    assert_eq!((truth.n_steps(), truth.nll.len()), (676, 16));
    truth
}

#[test]
fn reference_mode_equals_the_truth() {
    let Some(model) = model() else { return };
    let worst = truth().largest_difference(&mut context(&model, |p| p.reference = true));
    assert!(worst < 0.002, "largest difference {worst}");
}

#[test]
fn normal_mode_is_as_close_to_the_truth_as_llama_cpp() {
    let Some(model) = model() else { return };
    let (mean, clear) = truth().mean_difference(&mut context(&model, |_| {}));
    assert_eq!(clear, 529);
    assert!(mean <= 1.15 * LLAMACPP_MEAN_ERROR, "mean difference {mean}");
}

#[test]
fn perplexity_is_the_truths() {
    let Some(model) = model_with_vocab() else { return };
    let ratio = truth().perplexity_ratio(&model, include_str!("../data/golden/text.txt"));
    assert!((ratio - 1.0).abs() < 0.005, "{ratio} of the truth");
}

#[test]
fn prompts_tokenize_to_the_truths_ids() {
    let Some(model) = model_with_vocab() else { return };
    truth().check_prompt_ids(&model);
}
