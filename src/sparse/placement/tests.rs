use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Owned layers, of which problems are made.
#[derive(Clone, Debug)]
struct Case {
    counts: Vec<Option<LayerCounts>>,
    /// Neurons, bytes of one, always read, home.
    shapes: Vec<(usize, u64, f64, Home)>,
    machine: Machine,
    cap: u64,
}

impl Case {
    fn problem(&self) -> Problem<'_> {
        let layers = self.shapes.iter().zip(&self.counts).map(|(shape, counts)| {
            let &(n_ff, neuron_bytes, always_read, home) = shape;
            Layer { n_ff, neuron_bytes, always_read, home, counts: counts.as_ref() }
        });
        Problem { layers: layers.collect(), machine: self.machine, cap: self.cap }
    }
}

fn total(problem: &Problem<'_>, hot: Vec<Vec<u32>>) -> f64 {
    check(problem, &hot);
    Placement { hot, basis: Basis::Counts }.predict(problem).time().unwrap().total()
}

/// Lists are ascending, of the layers' neurons, and within the cap.
fn check(problem: &Problem<'_>, hot: &[Vec<u32>]) {
    assert_eq!(hot.len(), problem.layers.len());
    let mut bytes = 0;
    for (layer, ids) in problem.layers.iter().zip(hot) {
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.last().is_none_or(|&id| (id as usize) < layer.n_ff));
        bytes += layer.neuron_bytes * ids.len() as u64;
    }
    assert!(bytes <= problem.cap, "{bytes} bytes, cap {}", problem.cap);
}

/// The least sum of times over all ways to pick one of each layer's (bytes, seconds).
fn least(layers: &[Vec<(u64, f64)>], cap: u64) -> f64 {
    let Some((first, rest)) = layers.split_first() else { return 0.0 };
    let fits = first.iter().filter(|(bytes, _)| *bytes <= cap);
    fits.map(|(bytes, seconds)| seconds + least(rest, cap - bytes)).fold(f64::INFINITY, f64::min)
}

/// Time of a layer with these hot neurons, worked out anew.
fn seconds(problem: &Problem<'_>, il: usize, hot: impl Fn(u32) -> bool) -> f64 {
    let shares = Shares::of(problem).unwrap();
    let (layer, machine) = (&problem.layers[il], &problem.machine);
    let (mut gpu, mut cpu, mut n_hot) = (0.0, 0.0, 0);
    for id in 0..layer.n_ff as u32 {
        let load = shares.load(problem, il, id);
        if hot(id) {
            n_hot += 1;
            gpu += load / machine.gpu_bytes_per_s;
        } else {
            cpu += load / machine.cpu_bytes_per_s;
        }
    }
    let crosses = match layer.home {
        Home::Gpu => n_hot < layer.n_ff,
        Home::Cpu => n_hot > 0,
    };
    f64::max(gpu, cpu) + if crosses { machine.crossing_s } else { 0.0 }
}

/// All choices of whole groups in their order.
fn by_groups(problem: &Problem<'_>, group: usize) -> Vec<Vec<(u64, f64)>> {
    let shares = Shares::of(problem).unwrap();
    let layers = 0..problem.layers.len();
    let layers = layers.map(|il| {
        let layer = &problem.layers[il];
        let order = Curve::new(problem, il, &shares, group).order;
        let n_hot = (0..layer.n_ff).step_by(group).chain([layer.n_ff]);
        let choice = |n: usize| {
            let time = seconds(problem, il, |id| order[..n].contains(&id));
            (n as u64 * layer.neuron_bytes, time)
        };
        n_hot.map(choice).collect()
    });
    layers.collect()
}

/// All sets of neurons.
fn by_sets(problem: &Problem<'_>) -> Vec<Vec<(u64, f64)>> {
    let layers = 0..problem.layers.len();
    let layers = layers.map(|il| {
        let layer = &problem.layers[il];
        let sets = 0..1u32 << layer.n_ff;
        sets.map(|set| {
            let bytes = u64::from(set.count_ones()) * layer.neuron_bytes;
            (bytes, seconds(problem, il, |id| set >> id & 1 == 1))
        })
        .collect()
    });
    layers.collect()
}

prop_compose! {
    /// Counts of many kinds: even, steep, zero, near one another.
    fn counts(n_ff: usize, tokens: u64)
        (kind in 0..4, seen in prop::collection::vec(0.0f64..1.0, n_ff)) -> LayerCounts
    {
        let share = |x: f64| match kind {
            0 => x,
            1 => x.powi(8),
            2 => (x * 3.0).floor() / 3.0,
            _ => if x < 0.5 { 0.0 } else { 0.5 },
        };
        let counts = seen.iter().map(|&x| (share(x) * tokens as f64) as u32).collect();
        LayerCounts { tokens, counts }
    }
}

fn layer(
    n_ff: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = ((usize, u64, f64, Home), Option<LayerCounts>)> {
    let facts = (
        n_ff,
        prop::sample::select(vec![7u64, 16, 16, 16, 24]),
        0usize..5,
        any::<bool>(),
        any::<bool>(),
    );
    facts.prop_flat_map(|(n_ff, bytes, always, on_gpu, known)| {
        let always_read = [0.0, 0.0, 1.0 / 3.0, 0.5, 1.0][always];
        let home = if on_gpu { Home::Gpu } else { Home::Cpu };
        counts(n_ff, 1000).prop_map(move |mut counts| {
            // Sometimes the tokens are not known.
            counts.tokens *= u64::from(known);
            ((n_ff, bytes, always_read, home), Some(counts))
        })
    })
}

/// Layers of so many neurons; budgets from nothing to all, crossings from free to dear.
fn case(
    n_layers: std::ops::RangeInclusive<usize>,
    n_ff: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = Case> {
    let layers = prop::collection::vec(layer(n_ff), n_layers);
    let machine = (0.5f64..20.0, 0.0f64..200.0);
    (layers, machine, 0.0f64..1.1, any::<bool>()).prop_map(|(layers, machine, share, same)| {
        let (mut shapes, counts): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        if same {
            shapes.iter_mut().for_each(|shape| (shape.1, shape.2, shape.3) = (16, 0.0, Home::Gpu));
        }
        let all: u64 = shapes.iter().map(|shape| shape.0 as u64 * shape.1).sum();
        let machine =
            Machine { gpu_bytes_per_s: machine.0, cpu_bytes_per_s: 1.0, crossing_s: machine.1 };
        Case { counts, shapes, machine, cap: (all as f64 * share) as u64 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Without tolerance the choice of groups is the best there is.
    #[test]
    fn is_the_optimum_of_groups(case in case(1..=5, 0..=9), group in 1usize..=3) {
        let problem = case.problem();
        prop_assume!(Shares::of(&problem).is_some());
        let shares = Shares::of(&problem).unwrap();
        let found = total(&problem, place_by(&problem, &shares, group, 0.0, 20_000));
        let best = least(&by_groups(&problem, group), problem.cap);
        prop_assert!(found <= best * (1.0 + 1e-12) + 1e-12, "{found}, optimum {best}");
    }

    /// With it, and with as few nodes as in use, the choice is as near as promised.
    #[test]
    fn is_as_near_as_promised(case in case(1..=5, 0..=9)) {
        let problem = case.problem();
        prop_assume!(Shares::of(&problem).is_some());
        let shares = Shares::of(&problem).unwrap();
        let found = total(&problem, place_by(&problem, &shares, 1, TOLERANCE, MAX_NODES));
        let best = least(&by_groups(&problem, 1), problem.cap);
        prop_assert!(found <= best * (1.0 + 1.01 * TOLERANCE), "{found}, optimum {best}");
    }

    /// Against the best sets of single neurons a layer loses what its dearest group is worth: for
    /// groups of one when both devices share it, for larger ones on the CPU.
    #[test]
    fn groups_in_order_lose_little(case in case(1..=2, 1..=8), group in 1usize..=3) {
        let problem = case.problem();
        prop_assume!(Shares::of(&problem).is_some());
        let shares = Shares::of(&problem).unwrap();
        let found = total(&problem, place_by(&problem, &shares, group, 0.0, 20_000));
        let best = least(&by_sets(&problem), problem.cap);
        let Machine { gpu_bytes_per_s, cpu_bytes_per_s, .. } = problem.machine;
        let speed = cpu_bytes_per_s + if group == 1 { gpu_bytes_per_s } else { 0.0 };
        let dearest = |(il, layer): (usize, &Layer<'_>)| -> f64 {
            let ids = 0..layer.n_ff as u32;
            let mut loads: Vec<f64> = ids.map(|id| shares.load(&problem, il, id)).collect();
            loads.sort_by(|a, b| b.total_cmp(a));
            loads.iter().take(group).sum()
        };
        let loss = problem.layers.iter().enumerate().map(dearest).sum::<f64>() / speed;
        prop_assert!(found <= best + loss + 1e-9, "{found}, optimum {best}, loss {loss}");
        prop_assert!(found >= best - 1e-9, "{found} below the optimum {best}");
    }

    /// PowerInfer's rule is never better.
    #[test]
    fn top_k_is_never_better(case in case(1..=6, 256..=1500)) {
        let problem = case.problem();
        prop_assume!(Shares::of(&problem).is_some());
        let placed = place(&problem).unwrap();
        prop_assert_eq!(&placed, &place(&problem).unwrap());
        let (found, rule) = (total(&problem, placed.hot), total(&problem, by_top_k(&problem)));
        prop_assert!(found <= rule * (1.0 + 1e-12), "{found}, global top-K {rule}");
    }

    /// Without counts, what is hot is the beginning of each layer, the same share of all.
    #[test]
    fn even_splits_are_even(case in case(1..=6, 0..=300), group in 1usize..=32) {
        let mut case = case;
        case.counts.iter_mut().for_each(|counts| *counts = None);
        case.shapes.iter_mut().for_each(|shape| shape.2 = 0.0);
        let problem = case.problem();
        let hot = even::split(&problem, group);
        check(&problem, &hot);
        let all: u64 = problem.layers.iter().map(|l| l.n_ff as u64 * l.neuron_bytes).sum();
        let share = problem.cap as f64 / all.max(1) as f64;
        for (layer, hot) in problem.layers.iter().zip(&hot) {
            prop_assert!(hot.iter().copied().eq(0..hot.len() as u32));
            prop_assert!(hot.len() == layer.n_ff || hot.len() % group == 0);
            let fair = (layer.n_ff as f64 * share).min(layer.n_ff as f64);
            prop_assert!((hot.len() as f64 - fair).abs() <= group as f64, "{} of {fair}", hot.len());
        }
        prop_assert_eq!(place(&problem).unwrap().basis, Basis::Even);
    }
}

/// What PowerInfer's rule makes hot.
fn by_top_k(problem: &Problem<'_>) -> Vec<Vec<u32>> {
    let shares = Shares::of(problem).unwrap();
    let curve = |il| Curve::new(problem, il, &shares, GROUP);
    let curves: Vec<Curve> = (0..problem.layers.len()).map(curve).collect();
    let n_hot = top_k::n_hot(problem, &curves);
    let hot = curves.iter().zip(n_hot).map(|(curve, n)| {
        let mut hot = curve.order[..n].to_vec();
        hot.sort_unstable();
        hot
    });
    hot.collect()
}

/// A model whose layers' neurons fire by power laws of different steepness, at this mean share.
fn realistic(n_layers: usize, n_ff: usize, neuron_bytes: u64, active: f64, budget: f64) -> Case {
    let tokens = 100_000;
    let counts = (0..n_layers).map(|il| {
        // Early layers are steep, late ones flat and busier.
        let at = il as f64 / (n_layers - 1).max(1) as f64;
        let (steep, busy) = (1.6 - 1.2 * at, active * (0.4 + 1.2 * at));
        let law = |rank: usize| (rank as f64 + 10.0).powf(-steep);
        let scale = busy * n_ff as f64 / (0..n_ff).map(law).sum::<f64>();
        // Ids are not in the order of ranks.
        let rank = |id: usize| id.wrapping_mul(7919) % n_ff;
        let share = |id: usize| (law(rank(id)) * scale).min(1.0);
        Some(LayerCounts {
            tokens,
            counts: (0..n_ff).map(|id| (share(id) * tokens as f64) as u32).collect(),
        })
    });
    let all = n_layers as u64 * n_ff as u64 * neuron_bytes;
    Case {
        counts: counts.collect(),
        shapes: vec![(n_ff, neuron_bytes, 0.0, Home::Gpu); n_layers],
        machine: Machine { gpu_bytes_per_s: 700e9, cpu_bytes_per_s: 45e9, crossing_s: 25e-6 },
        cap: (all as f64 * budget) as u64,
    }
}

#[test]
fn beats_top_k_on_what_models_are_like() {
    for active in [0.05, 0.1, 0.2] {
        for budget in [0.1, 0.25, 0.5, 0.75] {
            for crossing_s in [5e-6, 25e-6, 100e-6] {
                let mut case = realistic(8, 4096, 6912, active, budget);
                case.machine.crossing_s = crossing_s;
                let problem = case.problem();
                let placed = total(&problem, place(&problem).unwrap().hot);
                let gain = total(&problem, by_top_k(&problem)) / placed;
                // Where layers can be freed of their crossings the gain is large.
                let least = if budget == 0.5 && crossing_s > 2e-5 { 1.07 } else { 1.0 };
                assert!(gain >= least, "{active} {budget} {crossing_s}: {gain}");
            }
        }
    }
}

#[test]
fn solves_the_largest_models() {
    let mut case = realistic(80, 28672, 13824, 0.1, 0.4);
    // Some layers are of another type, as in mixtures of K-quants.
    (0..80).step_by(3).for_each(|il| case.shapes[il].1 = 16128);
    let problem = case.problem();
    let placed = place(&problem).unwrap();
    let predicted = placed.predict(&problem);
    check(&problem, &placed.hot);
    assert!(predicted.bytes() > problem.cap - (4 << 20), "{predicted}");

    // At all budgets the choice is near a bound that no choice can be below.
    let shares = Shares::of(&problem).unwrap();
    let curve = |il| Curve::new(&problem, il, &shares, GROUP);
    let curves: Vec<Curve> = (0..80).into_par_iter().map(curve).collect();
    for percent in (0..=100).step_by(5) {
        let (cap, none) = (problem.cap / 40 * percent, vec![0; 80]);
        let solved = solve::solve(&curves, cap, &none, TOLERANCE, MAX_NODES);
        let points = || curves.iter().zip(&solved.choice).map(|(curve, &at)| curve.points[at]);
        let seconds: f64 = points().map(|point| point.seconds).sum();
        assert!(points().map(|point| point.bytes).sum::<u64>() <= cap);
        let gap = seconds / solved.bound - 1.0;
        assert!(gap <= 5e-3, "{percent} % of the model: {gap} above the bound");
    }
}

/// Two layers of 64 neurons, 10 bytes each.
fn small(counts: [Vec<u32>; 2], cap: u64) -> Case {
    let counts = counts.map(|counts| Some(LayerCounts { tokens: 100, counts }));
    Case {
        counts: counts.to_vec(),
        shapes: vec![(64, 10, 0.0, Home::Gpu); 2],
        machine: Machine { gpu_bytes_per_s: 10.0, cpu_bytes_per_s: 1.0, crossing_s: 1.0 },
        cap,
    }
}

fn n_hot(case: &Case) -> Vec<usize> {
    let placed = place(&case.problem()).unwrap();
    check(&case.problem(), &placed.hot);
    placed.hot.iter().map(Vec::len).collect()
}

#[test]
fn ends_of_the_scale() {
    let half = || (0..64).map(|id| if id % 2 == 0 { 90 } else { 10 }).collect::<Vec<u32>>();
    // No memory, or none for a group.
    assert_eq!(n_hot(&small([half(), half()], 0)), [0, 0]);
    assert_eq!(n_hot(&small([half(), half()], 319)), [0, 0]);
    // Enough for all: no layer crosses.
    assert_eq!(n_hot(&small([half(), half()], 1280)), [64, 64]);
    assert_eq!(n_hot(&small([half(), half()], u64::MAX)), [64, 64]);
    // One group: of equal layers the first, and the neurons that fire.
    let case = small([half(), half()], 320);
    let placed = place(&case.problem()).unwrap();
    assert_eq!(placed.hot, [(0..64).step_by(2).collect(), vec![]]);
    // Two groups: one layer without its crossing or both without most of their work.
    assert_eq!(n_hot(&small([half(), half()], 640)), [32, 32]);
    let mut dear = small([half(), half()], 640);
    dear.machine.crossing_s = 1e3;
    assert_eq!(n_hot(&dear), [64, 0]);
    // Nothing ever fired, which is not to say that nothing will.
    assert_eq!(n_hot(&small([vec![0; 64], vec![0; 64]], 1000)), [64, 32]);
    // No layers, layers without neurons.
    let mut none = small([vec![], vec![]], 100);
    none.shapes.iter_mut().for_each(|shape| shape.0 = 0);
    assert_eq!(none.problem().layers.len(), 2);
    assert_eq!(n_hot(&none), [0, 0]);
    none.shapes.clear();
    assert_eq!(n_hot(&none), [0; 0]);
}

#[test]
fn a_layer_that_cannot_skip_is_worth_the_most() {
    let busy = vec![50; 64];
    let mut case = small([busy.clone(), busy], 320);
    case.counts[1] = None;
    case.shapes[1].2 = 1.0;
    let placed = place(&case.problem()).unwrap();
    assert_eq!((placed.basis, &placed.hot[..]), (Basis::Counts, &[vec![], (0..32).collect()][..]));
    // Alone there is nothing to count.
    case.counts[0] = None;
    case.shapes[0].2 = 1.0;
    assert_eq!(place(&case.problem()).unwrap().basis, Basis::Counts);
    // A layer at home on the CPU is left there rather than made to cross.
    case.shapes.iter_mut().for_each(|shape| shape.3 = Home::Cpu);
    case.machine.crossing_s = 1e3;
    assert_eq!(n_hot(&case), [0, 0]);
}

#[test]
fn problems_that_make_no_sense() {
    let case = || small([vec![1; 64], vec![2; 64]], 100);
    let error = |change: fn(&mut Case)| {
        let mut case = case();
        change(&mut case);
        place(&case.problem()).unwrap_err().to_string()
    };
    let text = error(|case| case.machine.gpu_bytes_per_s = 0.0);
    assert_eq!(text, "placement: bytes per second of the GPU is 0, expected a number above 0");
    assert!(error(|case| case.machine.cpu_bytes_per_s = f64::INFINITY).contains("CPU is inf"));
    assert!(error(|case| case.machine.crossing_s = f64::NAN).contains("crossing is NaN"));
    let text = error(|case| case.shapes[1].0 = 65);
    assert_eq!(text, "placement: layer 1 has counts of 64 neurons, expected of 65");
    assert!(error(|case| case.shapes[0].1 = 0).contains("layer 0 has 64 neurons of 0 bytes"));
    assert!(error(|case| case.shapes[1].1 = u64::MAX / 64).contains("layer 1"));
    assert!(error(|case| case.shapes[1].2 = 1.5).contains("a share of 1.5"));
}

#[test]
fn words_and_figures() {
    let half = |n: u32| (0..64).map(|id| if id < n { 100 } else { 0 }).collect::<Vec<u32>>();
    let case = small([half(32), half(64)], 640);
    let mut placed = Placement { hot: vec![(0..32).collect(), vec![]], basis: Basis::Counts };
    let predicted = placed.predict(&case.problem());
    assert_eq!((predicted.bytes(), predicted.layers[0].n_hot), (320, 32));
    assert!((predicted.hot_share().unwrap() - 1.0 / 3.0).abs() < 1e-9);
    let time = predicted.time().unwrap();
    // 32 neurons on the GPU, 64 on the CPU, two crossings; next to nothing of the others.
    assert!((time.gpu / 32.0 - 1.0).abs() < 0.01, "{time:?}");
    assert!((time.cpu / 640.0 - 1.0).abs() < 0.01, "{time:?}");
    assert!((time.total() / 674.0 - 1.0).abs() < 0.01, "{time:?}");
    let line = predicted.to_string();
    let begin =
        "32 of 128 neurons are hot: 0.0 of 0.0 MiB, 0 of 2 layers whole, 33.3 % of activations";
    assert!(line.starts_with(begin), "{line}");
    let table = predicted.table();
    assert_eq!(table.lines().count(), 3);
    assert!(table.lines().nth(1).unwrap().contains("100.0 %"), "{table}");

    let mut unknown = case;
    unknown.counts = vec![None, None];
    placed.basis = Basis::Even;
    let predicted = placed.predict(&unknown.problem());
    assert_eq!((predicted.time(), predicted.hot_share()), (None, None));
    assert!(predicted.to_string().ends_with("nothing is predicted"), "{predicted}");
}
