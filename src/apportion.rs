//! Division of a whole number by weights.

/// Divides `total` by weight into whole numbers, by largest remainders, so that they sum to `total`.
pub fn apportion(total: usize, weights: &[f64]) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|w| total as f64 * w / sum).collect();
    let mut shares: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..exact.len()).collect();
    by_remainder
        .sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())).then(a.cmp(&b)));
    let missing = total.saturating_sub(shares.iter().sum());
    by_remainder.iter().cycle().take(missing).for_each(|&i| shares[i] += 1);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_by_largest_remainders() {
        assert_eq!(apportion(4, &[0.5, 0.26, 0.24]), [2, 1, 1]);
        assert_eq!(apportion(3, &[1.0, 0.0]), [3, 0]);
        assert_eq!(apportion(10, &[0.5, 0.5]), [5, 5]);
        assert_eq!(apportion(10, &[1.0 / 3.0; 3]), [4, 3, 3]);
        assert_eq!(apportion(7, &[0.9, 0.1]), [6, 1]);
        assert_eq!(apportion(1, &[0.5, 0.5]), [1, 0]);
    }
}
