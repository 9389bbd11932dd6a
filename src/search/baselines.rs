//! Mixtures that every search is compared with.

/// Weights in proportion to `tokens`.
pub fn natural(tokens: &[f64]) -> Vec<f64> {
    let total: f64 = tokens.iter().sum();
    tokens.iter().map(|tokens| tokens / total).collect()
}

/// Equal weights, except where a partition would then be repeated more than `epochs` times in a
/// training of `total` tokens: such partitions get what their tokens allow, the others share the
/// rest equally (UniMax, Chung et al. 2023). `None` if all together allow too little.
pub fn unimax(tokens: &[f64], total: f64, epochs: f64) -> Option<Vec<f64>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&a, &b| tokens[a].total_cmp(&tokens[b]).then(a.cmp(&b)));
    let (mut weights, mut left) = (vec![0.0; tokens.len()], 1.0);
    for (done, &i) in order.iter().enumerate() {
        weights[i] = (left / (tokens.len() - done) as f64).min(epochs * tokens[i] / total);
        left -= weights[i];
    }
    (left < 1e-9).then_some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unimax_caps_small_partitions() {
        let tokens = [100.0, 10.0, 1000.0];
        let equal = unimax(&tokens, 300.0, 1e9).expect("no cap");
        assert!(equal.iter().all(|w| (w - 1.0 / 3.0).abs() < 1e-15));
        let capped = unimax(&tokens, 300.0, 1.0).expect("enough");
        assert!((capped[1] - 10.0 / 300.0).abs() < 1e-12 && (capped[0] - 100.0 / 300.0).abs() < 1e-12);
        assert!((capped.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(unimax(&tokens, 2000.0, 1.0), None);
        assert_eq!(natural(&[1.0, 3.0]), [0.25, 0.75]);
    }
}
