//! Rows of the embedding table by token, and the scatter of their gradient in a fixed order.

use super::launch_args::{OperandLayout, expect_shape, launch, number, stride, type_of, vector};
use super::{Op, parallel};
use crate::engine::device::{Host, Launch, Matrix, Operands};

/// Columns of the gradient that one task scatters: eight cache lines.
const COLUMNS: usize = 128;
/// Threads of a block of the forward kernel: a warp for each row.
const FORWARD_BLOCK: usize = 256;
/// Threads of a block of the backward kernel, each of which adds up eight neighbouring columns.
const BACKWARD_BLOCK: usize = 128;
/// Vocabulary tokens whose gradients one block of the kernel sums.
const BLOCK_TOKENS: usize = 64;

/// `out[r] = weight[tokens[r]]`
pub struct Embedding {
    /// (1, R) u32, each below V
    pub tokens: Matrix,
    /// (V, C)
    pub weight: Matrix,
    /// (R, C)
    pub out: Matrix,
}

/// `dweight[tokens[r]] += dout[r]`, one row after the other.
pub struct EmbeddingBackward {
    /// (1, R) u32
    pub tokens: Matrix,
    /// (R, C)
    pub dout: Matrix,
    /// (V, C) f32, always accumulated into, rows of a token in the order of R
    pub dweight: Matrix,
}

fn check(tokens: &Matrix, weight: &Matrix, rows: &Matrix) {
    expect_shape("tokens", tokens, 1, rows.rows());
    expect_shape("embedding", weight, weight.rows(), rows.cols());
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding_forward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.tokens).read(&self.weight).write(&self.out)
    }
    fn flops(&self) -> u64 {
        0
    }
    fn cpu(&self, host: &Host) {
        check(&self.tokens, &self.weight, &self.out);
        let tokens = host.read::<u32>(&self.tokens).flat();
        let weight = host.read::<f32>(&self.weight);
        let size = parallel::rows_per_chunk(weight.cols());
        let out = host.write::<f32>(&self.out).chunks(size);
        parallel::for_each(out.into_iter().zip(tokens.chunks(size)).collect(), |(mut out, tokens)| {
            for (i, &token) in tokens.iter().enumerate() {
                out.row(i).copy_from_slice(weight.row(token as usize));
            }
        });
    }
    /// A warp a row. Scalars: R, C, strides of the table and of the output.
    fn launches(&self) -> Vec<Launch> {
        check(&self.tokens, &self.weight, &self.out);
        let (rows, cols) = (self.out.rows(), self.out.cols());
        let block = ("BLOCK", FORWARD_BLOCK.to_string());
        let defines = vec![("TYPE", type_of(&self.out)), block, vector(&[&self.weight, &self.out])];
        let grid = [rows.div_ceil(FORWARD_BLOCK / 32), 1, 1];
        let layout = OperandLayout { grid, block: FORWARD_BLOCK as u32, shared: 0, defines };
        let operands = [&self.tokens, &self.weight, &self.out];
        let scalars = [number(rows), number(cols), stride(&self.weight), stride(&self.out)];
        vec![launch("embedding", "embedding_forward", layout, &operands, scalars)]
    }
}

impl Op for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.tokens).read(&self.dout).update(&self.dweight)
    }
    fn flops(&self) -> u64 {
        self.dout.elements() as u64
    }
    fn cpu(&self, host: &Host) {
        check(&self.tokens, &self.dweight, &self.dout);
        let tokens = host.read::<u32>(&self.tokens).flat();
        let dout = host.read::<f32>(&self.dout);
        // Columns are distributed among threads, so each thread adds the rows of a token in order.
        let dweight = host.write::<f32>(&self.dweight).col_chunks(COLUMNS);
        parallel::for_each(dweight.into_iter().enumerate().collect(), |(chunk, mut dweight)| {
            for (r, &token) in tokens.iter().enumerate() {
                let sums = dweight.row(token as usize);
                let dout = &dout.row(r)[chunk * COLUMNS..][..sums.len()];
                sums.iter_mut().zip(dout).for_each(|(sum, d)| *sum += d);
            }
        });
    }
    /// One block per `BLOCK_TOKENS` tokens of the vocabulary finds their rows and adds them in
    /// order. Scalars: R, C, V, strides of dout and dweight.
    fn launches(&self) -> Vec<Launch> {
        check(&self.tokens, &self.dweight, &self.dout);
        let (rows, cols) = (self.dout.rows(), self.dout.cols());
        let height = self.dweight.rows();
        let layout = OperandLayout {
            grid: [height.div_ceil(BLOCK_TOKENS), cols.div_ceil(8 * BACKWARD_BLOCK), 1],
            block: BACKWARD_BLOCK as u32,
            shared: 0,
            defines: vec![
                ("TYPE", type_of(&self.dout)),
                ("BLOCK", BACKWARD_BLOCK.to_string()),
                ("TOKENS", BLOCK_TOKENS.to_string()),
                vector(&[&self.dout, &self.dweight]),
            ],
        };
        let operands = [&self.tokens, &self.dout, &self.dweight];
        let sizes = [rows, cols, height].map(number);
        let scalars = sizes.into_iter().chain([stride(&self.dout), stride(&self.dweight)]);
        vec![launch("embedding", "embedding_backward", layout, &operands, scalars)]
    }
}
