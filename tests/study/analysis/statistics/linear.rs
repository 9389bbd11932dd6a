//! Linear systems.

use super::close;
use stockpot::analysis::statistics::linear::Cholesky;

#[test]
fn cholesky_solves_and_refuses() {
    let a = [vec![4.0, 2.0, 0.6], vec![2.0, 5.0, 1.0], vec![0.6, 1.0, 3.0]];
    let x = [1.0, -2.0, 0.5];
    let b: Vec<f64> = a.iter().map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
    let factors = Cholesky::new(&a).unwrap();
    factors.solve(&b).iter().zip(&x).for_each(|(got, want)| close(*got, *want, "solve"));
    let half = factors.forward(&b);
    close(half.iter().map(|v| v * v).sum(), b.iter().zip(&x).map(|(b, x)| b * x).sum(), "b A^-1 b");
    assert!(Cholesky::new(&[vec![1.0, 2.0], vec![2.0, 1.0]]).is_none(), "not positive definite");
    assert!(Cholesky::new(&[vec![f64::NAN]]).is_none());
}
