//! Activations to 8 bits.

use super::data::Random;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_floats_quantise_alike(x in proptest::collection::vec(any::<f32>(), 320)) {
        let scalar = Act::new(KernelTable::for_isa(Isa::Scalar).unwrap(), 32, &x);
        for table in tables() {
            assert_same_act(table, &scalar, &Act::new(table, 32, &x));
        }
    }
}

fn assert_same_act(table: &KernelTable, expected: &Act, act: &Act) {
    assert_eq!(act.q, expected.q, "{}", table.isa());
    assert_eq!(act.s, expected.s, "{}", table.isa());
    assert!(act.d.iter().zip(&expected.d).all(|(&a, &b)| same(a, b)), "{}", table.isa());
}

#[test]
fn quantise_special_blocks() {
    let mut random = Random(77);
    // (block, expected scale, expected codes when they are all the same)
    let mut blocks: Vec<([f32; 32], Option<f32>)> = vec![
        ([0.0; 32], Some(0.0)),
        ([-0.0; 32], Some(0.0)),
        ([f32::from_bits(1); 32], Some(0.0)),
        ([f32::MIN_POSITIVE; 32], Some(0.0)),
        ([f32::MAX; 32], Some(f32::MAX / 127.0)),
        ([f32::MIN; 32], Some(f32::MAX / 127.0)),
        ([1e-36; 32], Some(1e-36 / 127.0)),
        (std::array::from_fn(|i| if i == 31 { f32::INFINITY } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 16 { f32::NEG_INFINITY } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 0 { f32::NAN } else { 1.0 }), Some(f32::NAN)),
        (std::array::from_fn(|i| if i == 15 { -f32::NAN } else { 0.0 }), Some(f32::NAN)),
        // Ties: the scale is 1, so the values are the codes before rounding.
        (std::array::from_fn(|i| if i == 0 { -127.0 } else { i as f32 - 16.5 }), Some(1.0)),
    ];
    for exponent in -140..127 {
        let scale = 2f32.powi(exponent);
        blocks.push((std::array::from_fn(|_| scale * random.unit()), None));
    }
    let x: Vec<f32> = blocks.iter().flat_map(|b| b.0).collect();
    let scalar = Act::new(KernelTable::for_isa(Isa::Scalar).unwrap(), 32, &x);
    for (i, (block, d)) in blocks.iter().enumerate() {
        let Some(d) = *d else { continue };
        assert!(same(scalar.d[i], d), "block {i} {block:?}: scale {}", scalar.d[i]);
        let q = &scalar.q[32 * i..32 * i + 32];
        let sums = [&q[..16], &q[16..]].map(|q| q.iter().map(|&q| i16::from(q)).sum::<i16>());
        assert_eq!(scalar.s[i], sums);
        if d == 0.0 || d.is_nan() {
            assert_eq!(q, [0; 32], "block {i}");
        }
    }
    let ties = &scalar.q[32 * 11..32 * 12];
    assert_eq!(&ties[..4], [-127, -16, -14, -14]);
    assert_eq!(&ties[14..20], [-2, -2, 0, 0, 2, 2]);
    assert_eq!(&scalar.q[32 * 4..32 * 4 + 2], [127, 127]);
    assert_eq!(&scalar.q[32 * 5..32 * 5 + 2], [-127, -127]);
    for table in tables() {
        assert_same_act(table, &scalar, &Act::new(table, 32, &x));
    }
}
