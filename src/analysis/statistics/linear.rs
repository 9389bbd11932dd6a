//! Least-squares lines, and dense linear algebra for fits with a few tens of unknowns: symmetric positive definite systems
//! by Cholesky factorization. Written here because the fits need nothing else of a library.

/// The least-squares line `mean_y + slope (x - mean_x)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineFit {
    /// Rise of y for each unit of x.
    pub slope: f64,
    /// Mean of x.
    pub mean_x: f64,
    /// Mean of y.
    pub mean_y: f64,
    /// Sum of squares of x around its mean.
    pub sxx: f64,
    /// Sum of squares of y around the line.
    pub squares: f64,
}

impl LineFit {
    /// `None` where x does not vary.
    pub fn of(x: &[f64], y: &[f64]) -> Option<LineFit> {
        let n = x.len() as f64;
        let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let sxx: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
        if x.is_empty() || sxx <= 0.0 {
            return None;
        }
        let slope = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / sxx;
        let squares = x.iter().zip(y).map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        Some(LineFit { slope, mean_x, mean_y, sxx, squares })
    }

    /// The line's height at x.
    pub fn at(&self, x: f64) -> f64 {
        self.mean_y + self.slope * (x - self.mean_x)
    }
}

/// The lower triangle L of `A = L L^T`.
pub struct Cholesky {
    /// Row i holds i + 1 numbers.
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    /// Factors of the symmetric `a` (p x p; its lower triangle is read); `None` when it is not
    /// positive definite.
    pub fn new(a: &[Vec<f64>]) -> Option<Cholesky> {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(a.len());
        for (i, line) in a.iter().enumerate() {
            let mut row: Vec<f64> = Vec::with_capacity(i + 1);
            for (j, &value) in line.iter().take(i + 1).enumerate() {
                let above = if j < i { &rows[j] } else { &row };
                let rest = value - dot(&row, &above[..j]);
                if j < i {
                    row.push(rest / rows[j][j]);
                } else if rest > 0.0 && rest.is_finite() {
                    row.push(rest.sqrt());
                } else {
                    return None;
                }
            }
            rows.push(row);
        }
        Some(Cholesky { rows })
    }

    /// `L^-1 b`; its square is `b^T A^-1 b`.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(b.len());
        for (row, &b) in self.rows.iter().zip(b) {
            let i = x.len();
            x.push((b - dot(&row[..i], &x)) / row[i]);
        }
        x
    }

    /// `A^-1 b`
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..x.len()).rev() {
            x[i] /= self.rows[i][i];
            for j in 0..i {
                x[j] -= self.rows[i][j] * x[i];
            }
        }
        x
    }
}

/// The dot product, over the length of the shorter slice.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `X^T X` (p x p) and `X^T y` (p) of n rows `x[i]` of p numbers.
pub fn normal_equations(x: &[Vec<f64>], y: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let p = x.first().map_or(0, Vec::len);
    let (mut square, mut right) = (vec![vec![0.0; p]; p], vec![0.0; p]);
    for (row, y) in x.iter().zip(y) {
        for i in 0..p {
            right[i] += row[i] * y;
            for j in 0..p {
                square[i][j] += row[i] * row[j];
            }
        }
    }
    (square, right)
}

/// `a` with `add` on its diagonal.
pub fn with_diagonal(a: &[Vec<f64>], add: impl Fn(usize) -> f64) -> Vec<Vec<f64>> {
    let mut a = a.to_vec();
    a.iter_mut().enumerate().for_each(|(i, row)| row[i] += add(i));
    a
}

/// The largest number on the diagonal.
pub fn largest_diagonal(a: &[Vec<f64>]) -> f64 {
    a.iter().enumerate().map(|(i, row)| row[i]).fold(0.0, f64::max)
}
