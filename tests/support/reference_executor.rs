//! An executor that computes each launch with the plain loops of reference.rs, in its own memory.
//! It sees a launch's name, defines and arguments but not its op, so a kernel can compute whatever
//! it can.
//!
//! Sizes and strides are taken from the scalars, as in a kernel; they must agree with the matrices.

use crate::reference::{self, AdamWConstants, rms_norm};
use std::any::Any;
use std::collections::BTreeMap;
use stockpot::engine::device::{Arg, Buffer, DType, Executor, Launch, Matrix};
use stockpot::engine::ops::AttentionShape;
use stockpot::error::Result;

#[derive(Default)]
pub struct Reference {
    /// Allocations by address; addresses are artificial and never reused.
    memory: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Reference {
    fn bytes(&mut self, address: u64, len: usize) -> &mut [u8] {
        let (start, memory) = self.memory.range_mut(..=address).next_back().expect("an address in an allocation");
        &mut memory[(address - start) as usize..][..len]
    }
    fn read(&mut self, m: &Matrix, rows: usize, cols: usize, stride: usize) -> Vec<f64> {
        assert_eq!((m.rows(), m.cols(), m.dtype()), (rows, cols, DType::F32), "scalars that agree with the operand");
        assert!(rows <= 1 || m.stride() == stride, "a stride that agrees with the operand");
        let mut values = Vec::with_capacity(rows * cols);
        for r in 0..rows {
            let row = self.bytes(m.address() + (r * stride) as u64 * 4, cols * 4);
            values.extend(row.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x) as f64));
        }
        values
    }
    fn read_u32(&mut self, m: &Matrix, len: usize) -> Vec<u32> {
        assert_eq!((m.elements(), m.dtype()), (len, DType::U32));
        let bytes = self.bytes(m.address(), len * 4);
        bytes.as_chunks::<4>().0.iter().map(|&x| u32::from_le_bytes(x)).collect()
    }
    fn read_f64(&mut self, m: &Matrix, rows: usize, cols: usize, stride: usize) -> Vec<f64> {
        assert_eq!((m.rows(), m.cols(), m.dtype()), (rows, cols, DType::F64), "scalars that agree with the operand");
        assert!(rows <= 1 || m.stride() == stride, "a stride that agrees with the operand");
        let mut values = Vec::with_capacity(rows * cols);
        for r in 0..rows {
            let row = self.bytes(m.address() + (r * stride) as u64 * 8, cols * 8);
            values.extend(row.as_chunks::<8>().0.iter().map(|&x| f64::from_le_bytes(x)));
        }
        values
    }
    fn write_f64(&mut self, m: &Matrix, rows: usize, cols: usize, stride: usize, values: &[f64]) {
        assert_eq!((m.rows(), m.cols(), m.dtype()), (rows, cols, DType::F64), "scalars that agree with the operand");
        assert!(rows <= 1 || m.stride() == stride, "a stride that agrees with the operand");
        assert_eq!(values.len(), rows * cols);
        for (r, values) in values.chunks(cols).enumerate() {
            let row: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.bytes(m.address() + (r * stride) as u64 * 8, row.len()).copy_from_slice(&row);
        }
    }
    fn write(&mut self, m: &Matrix, rows: usize, cols: usize, stride: usize, values: &[f64]) {
        assert_eq!((m.rows(), m.cols(), m.dtype()), (rows, cols, DType::F32), "scalars that agree with the operand");
        assert!(rows <= 1 || m.stride() == stride, "a stride that agrees with the operand");
        assert_eq!(values.len(), rows * cols);
        for (r, values) in values.chunks(cols).enumerate() {
            let row: Vec<u8> = values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
            self.bytes(m.address() + (r * stride) as u64 * 4, row.len()).copy_from_slice(&row);
        }
    }
}

impl Executor for Reference {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        let address = (self.next + 4096).next_multiple_of(256);
        self.next = address + bytes as u64;
        self.memory.insert(address, vec![0; bytes]);
        Ok((address, Box::new(())))
    }
    fn launch(&mut self, launch: &Launch) -> Result<()> {
        assert!(launch.grid.iter().all(|&n| n > 0) && launch.block.is_multiple_of(32));
        let mut call = Call::of(launch);
        match launch.kernel {
            "gemm" => self.gemm(&mut call),
            "rms_norm_forward" => self.rms_norm_forward(&mut call),
            "rms_norm_backward" => self.rms_norm_backward(&mut call),
            "rms_norm_backward_weight" => self.rms_norm_backward_weight(&mut call),
            "rope" => self.rope(&mut call),
            "swiglu_forward" => self.swiglu_forward(&mut call),
            "swiglu_backward" => self.swiglu_backward(&mut call),
            "attention_forward" => self.attention_forward(&mut call),
            "attention_delta" => self.attention_delta(&mut call),
            "attention_backward_kv" => self.attention_backward(&mut call, true),
            "attention_backward_q" => self.attention_backward(&mut call, false),
            "cross_entropy" => self.cross_entropy(&mut call),
            "embedding_forward" => self.embedding_forward(&mut call),
            "embedding_backward" => self.embedding_backward(&mut call),
            "grad_norm_partial" => self.grad_norm_partial(&mut call),
            "grad_norm" => self.grad_norm(&mut call),
            "adamw_step" => self.adamw_step(&mut call),
            "adamw" => self.adamw(&mut call),
            "merge" => self.merge(&mut call),
            "loss_sum" => self.loss_sum(&mut call),
            "inner_products_partial" => self.inner_products_partial(&mut call),
            "inner_products" => self.inner_products(&mut call),
            "fill" => self.fill(&mut call),
            other => panic!("no kernel is named {other}"),
        }
        assert!(call.scalars.is_empty(), "{}: scalars that nothing reads", launch.kernel);
        Ok(())
    }
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.bytes(to.address(), bytes.len()).copy_from_slice(bytes);
        Ok(())
    }
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        let len = bytes.len();
        bytes.copy_from_slice(self.bytes(from.address(), len));
        Ok(())
    }
}

/// A launch split into matrices and scalars; scalars are consumed in order.
struct Call<'a> {
    launch: &'a Launch,
    matrices: Vec<&'a Matrix>,
    scalars: std::collections::VecDeque<&'a Arg>,
}

impl<'a> Call<'a> {
    fn of(launch: &'a Launch) -> Call<'a> {
        let matrices = launch.args.iter().map_while(|a| if let Arg::Matrix(m) = a { Some(m) } else { None });
        let matrices: Vec<&Matrix> = matrices.collect();
        let scalars = launch.args[matrices.len()..].iter().collect();
        Call { launch, matrices, scalars }
    }
    fn n(&mut self) -> usize {
        match self.scalars.pop_front() {
            Some(Arg::U32(n)) => *n as usize,
            _ => panic!("{}: expected a U32 here", self.launch.kernel),
        }
    }
    fn counts<const N: usize>(&mut self) -> [usize; N] {
        std::array::from_fn(|_| self.n())
    }
    fn x(&mut self) -> f64 {
        match self.scalars.pop_front() {
            Some(Arg::F32(x)) => *x as f64,
            Some(Arg::F64(x)) => *x,
            _ => panic!("{}: expected a float here", self.launch.kernel),
        }
    }
    fn define(&self, name: &str) -> usize {
        let found = self.launch.defines.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("no define {name}")).1.parse().expect("a number")
    }
    fn flag(&self, name: &str) -> bool {
        self.define(name) == 1
    }
}

impl Reference {
    fn fill(&mut self, call: &mut Call) {
        let (n, value) = (call.n(), call.x());
        let x = call.matrices[0];
        self.write(x, x.rows(), x.cols(), x.stride(), &vec![value; n]);
    }
    fn gemm(&mut self, call: &mut Call) {
        let (ta, tb, epilogue) = (call.flag("TRANSPOSE_A"), call.flag("TRANSPOSE_B"), call.define("EPILOGUE"));
        let [m, n, k, stride_a, stride_b, stride_c] = call.counts();
        let (a_rows, a_cols) = if ta { (k, m) } else { (m, k) };
        let (b_rows, b_cols) = if tb { (n, k) } else { (k, n) };
        let a = self.read(call.matrices[0], a_rows, a_cols, stride_a);
        let b = self.read(call.matrices[1], b_rows, b_cols, stride_b);
        let base = match epilogue {
            0 => vec![0.0; m * n],
            1 => self.read(call.matrices[2], m, n, stride_c),
            _ => {
                let stride = call.n();
                self.read(call.matrices[3], m, n, stride)
            }
        };
        let product = reference::gemm(&a, &b, (m, n, k), ta, tb);
        let sum: Vec<f64> = base.iter().zip(&product).map(|(x, y)| x + y).collect();
        self.write(call.matrices[2], m, n, stride_c, &sum);
    }

    fn rms_norm_forward(&mut self, call: &mut Call) {
        let [rows, n, stride_x, stride_out] = call.counts();
        let base = if call.flag("RESIDUAL") {
            let stride = call.n();
            self.read(call.matrices[4], rows, n, stride)
        } else {
            vec![0.0; rows * n]
        };
        let epsilon = call.x();
        let x = self.read(call.matrices[0], rows, n, stride_x);
        let weight = self.read(call.matrices[1], 1, n, n);
        let (out, rstd) = rms_norm(&x, &weight, epsilon);
        let out: Vec<f64> = base.iter().zip(&out).map(|(x, y)| x + y).collect();
        self.write(call.matrices[2], rows, n, stride_out, &out);
        self.write(call.matrices[3], 1, rows, rows, &rstd);
    }

    /// Puts the weight's whole gradient into the first part.
    fn rms_norm_backward(&mut self, call: &mut Call) {
        let [rows, n, stride_x, stride_dout, stride_dx] = call.counts();
        let [x, weight, rstd, dout, dx, parts] = call.matrices[..] else { panic!("six operands") };
        let weights = self.read(weight, 1, n, n);
        let (x, rstd) = (self.read(x, rows, n, stride_x), self.read(rstd, 1, rows, rows));
        let dout = self.read(dout, rows, n, stride_dout);
        let (mut gradient, mut sums) = reference::rms_norm_backward(&x, &weights, &rstd, &dout);
        if call.flag("ACCUMULATE") {
            let before = self.read(dx, rows, n, stride_dx);
            gradient.iter_mut().zip(&before).for_each(|(x, y)| *x += y);
        }
        self.write(dx, rows, n, stride_dx, &gradient);
        let blocks = call.launch.grid[0] as usize;
        sums.resize(blocks * n, 0.0);
        self.write(parts, blocks, n, n, &sums);
    }

    fn rms_norm_backward_weight(&mut self, call: &mut Call) {
        let [blocks, n] = call.counts();
        let [parts, dweight] = call.matrices[..] else { panic!("two operands") };
        let parts = self.read(parts, blocks, n, n);
        let mut sum = self.read(dweight, 1, n, n);
        parts.chunks(n).for_each(|part| sum.iter_mut().zip(part).for_each(|(x, y)| *x += y));
        self.write(dweight, 1, n, n, &sum);
    }

    fn rope(&mut self, call: &mut Call) {
        let width = call.define("HEAD_WIDTH");
        let [rows, cols, stride, context, table_stride] = call.counts();
        let x = self.read(call.matrices[0], rows, cols, stride);
        let table = self.read(call.matrices[1], context, width, table_stride);
        let out = reference::rope(&x, cols, &table, width, call.flag("INVERSE"));
        self.write(call.matrices[0], rows, cols, stride, &out);
    }

    fn swiglu_forward(&mut self, call: &mut Call) {
        let [rows, n, stride_in, stride_out] = call.counts();
        let gate_up = self.read(call.matrices[0], rows, 2 * n, stride_in);
        self.write(call.matrices[1], rows, n, stride_out, &reference::swiglu(&gate_up, n));
    }

    fn swiglu_backward(&mut self, call: &mut Call) {
        let [rows, n, stride_in, stride_dout, stride_din] = call.counts();
        let gate_up = self.read(call.matrices[0], rows, 2 * n, stride_in);
        let dout = self.read(call.matrices[1], rows, n, stride_dout);
        let gradient = reference::swiglu_backward(&gate_up, &dout, n);
        self.write(call.matrices[2], rows, 2 * n, stride_din, &gradient);
    }

    /// The shape, and q, k and v; leaves the other operands' strides and the scale in the scalars.
    fn attention_inputs(&mut self, call: &mut Call) -> (AttentionShape, [Vec<f64>; 3]) {
        let head_width = call.define("HEAD_WIDTH");
        let [batch, context, heads, kv_heads, stride_q, stride_k, stride_v] = call.counts();
        let shape = AttentionShape { batch, context, heads, kv_heads, head_width };
        let (rows, kv_width) = (batch * context, kv_heads * head_width);
        let q = self.read(call.matrices[0], rows, heads * head_width, stride_q);
        let k = self.read(call.matrices[1], rows, kv_width, stride_k);
        let v = self.read(call.matrices[2], rows, kv_width, stride_v);
        (shape, [q, k, v])
    }

    fn attention_forward(&mut self, call: &mut Call) {
        let (s, [q, k, v]) = self.attention_inputs(call);
        let [stride_out, stride_lse] = call.counts();
        assert_eq!(call.x(), (1.0 / (s.head_width as f32).sqrt()) as f64);
        let (out, lse) = reference::attention(&s, &q, &k, &v);
        self.write(call.matrices[3], s.batch * s.context, s.heads * s.head_width, stride_out, &out);
        self.write(call.matrices[4], s.batch * s.heads, s.context, stride_lse, &lse);
    }

    fn attention_delta(&mut self, call: &mut Call) {
        let width = call.define("HEAD_WIDTH");
        let [batch, context, heads, stride_out, stride_dout, stride_delta] = call.counts();
        let [out, dout, delta] = call.matrices[..] else { panic!("three operands") };
        let out = self.read(out, batch * context, heads * width, stride_out);
        let dout = self.read(dout, batch * context, heads * width, stride_dout);
        let products = out.chunks(width).zip(dout.chunks(width));
        let sums: Vec<f64> = products.map(|(x, y)| x.iter().zip(y).map(|(x, y)| x * y).sum()).collect();
        let mut by_head = vec![0.0; sums.len()];
        for (i, sum) in sums.into_iter().enumerate() {
            let (row, head) = (i / heads, i % heads);
            by_head[(row / context * heads + head) * context + row % context] = sum;
        }
        self.write(delta, batch * heads, context, stride_delta, &by_head);
    }

    fn attention_backward(&mut self, call: &mut Call, kv: bool) {
        let (s, [q, k, v]) = self.attention_inputs(call);
        let [stride_lse, stride_dout, stride_delta] = call.counts();
        let strides: [usize; 2] = if kv { call.counts() } else { [call.n(), 0] };
        assert_eq!(call.x(), (1.0 / (s.head_width as f32).sqrt()) as f64);
        let [_, _, _, lse, dout, delta, ..] = call.matrices[..] else { panic!("six inputs") };
        let (rows, width, kv_width) = (s.batch * s.context, s.heads * s.head_width, s.kv_heads * s.head_width);
        self.read(lse, s.batch * s.heads, s.context, stride_lse);
        self.read(delta, s.batch * s.heads, s.context, stride_delta);
        let dout = self.read(dout, rows, width, stride_dout);
        let gradient = reference::attention_backward(&s, &q, &k, &v, &dout);
        if kv {
            self.write(call.matrices[6], rows, kv_width, strides[0], &gradient.dk);
            self.write(call.matrices[7], rows, kv_width, strides[1], &gradient.dv);
        } else {
            self.write(call.matrices[6], rows, width, strides[0], &gradient.dq);
        }
    }

    fn cross_entropy(&mut self, call: &mut Call) {
        let [rows, cols, stride] = call.counts();
        let scale = call.x();
        let logits = self.read(call.matrices[0], rows, cols, stride);
        let targets = self.read_u32(call.matrices[1], rows);
        self.write(call.matrices[2], 1, rows, rows, &reference::cross_entropy(&logits, &targets));
        if call.flag("GRADIENT") {
            let gradient = reference::cross_entropy_gradient(&logits, &targets, scale);
            self.write(call.matrices[0], rows, cols, stride, &gradient);
        }
    }

    fn embedding_forward(&mut self, call: &mut Call) {
        let [rows, n, stride_weight, stride_out] = call.counts();
        let tokens = self.read_u32(call.matrices[0], rows);
        // The kernel is not passed the table's height; tokens are below it.
        let weight = self.read(call.matrices[1], call.matrices[1].rows(), n, stride_weight);
        self.write(call.matrices[2], rows, n, stride_out, &reference::embedding(&tokens, &weight, n));
    }

    fn embedding_backward(&mut self, call: &mut Call) {
        let [rows, n, height, stride_dout, stride_dweight] = call.counts();
        let tokens = self.read_u32(call.matrices[0], rows);
        let dout = self.read(call.matrices[1], rows, n, stride_dout);
        let table = call.matrices[2];
        let before = self.read(table, height, n, stride_dweight);
        let sum = reference::embedding_backward(&tokens, &dout, &before, n);
        self.write(table, height, n, stride_dweight, &sum);
    }

    /// Puts the whole sum into the first part.
    fn grad_norm_partial(&mut self, call: &mut Call) {
        let p = call.n();
        let grads = self.read(call.matrices[0], 1, p, p);
        let mut parts = vec![0.0; call.launch.grid[0] as usize];
        parts[0] = grads.iter().map(|x| x * x).sum();
        self.write_f64(call.matrices[1], 1, parts.len(), parts.len(), &parts);
    }

    fn grad_norm(&mut self, call: &mut Call) {
        let (blocks, max_norm) = (call.n(), call.x());
        let parts = self.read_f64(call.matrices[0], 1, blocks, blocks);
        let norm = parts.iter().sum::<f64>().sqrt();
        self.write(call.matrices[1], 1, 3, 3, &reference::grad_norm(&[norm], max_norm));
    }

    fn adamw_step(&mut self, call: &mut Call) {
        let [beta1, beta2, weight_decay] = std::array::from_fn(|_| call.x());
        let [norm, rate, updates, constants] = call.matrices[..] else { panic!("four operands") };
        if self.read(norm, 1, 3, 3)[2] == 0.0 {
            return;
        }
        let t = self.read_u32(updates, 1)[0] + 1;
        self.bytes(updates.address(), 4).copy_from_slice(&t.to_le_bytes());
        let (rate, t) = (self.read(rate, 1, 1, 1)[0], t as f64);
        let values = [1.0 - rate * weight_decay, rate / (1.0 - beta1.powf(t)), (1.0 - beta2.powf(t)).sqrt()];
        self.write(constants, 1, 3, 3, &values);
    }

    fn adamw(&mut self, call: &mut Call) {
        let p = call.n();
        let [grad_weight, beta2, square_weight, epsilon] = std::array::from_fn(|_| call.x());
        let norm = self.read(call.matrices[4], 1, 3, 3);
        if norm[2] == 0.0 {
            return;
        }
        let constants = self.read(call.matrices[5], 1, 3, 3);
        let [decay, step_size, correction] = constants[..] else { panic!("three constants") };
        let c = AdamWConstants { decay, grad_weight, beta2, square_weight, step_size, correction, epsilon };
        let [mut params, grads, mut m, mut v] = [0, 1, 2, 3].map(|i| self.read(call.matrices[i], 1, p, p));
        for (i, g) in grads.iter().enumerate() {
            (params[i], m[i], v[i]) = reference::adamw(&c, params[i], g * norm[1], m[i], v[i]);
        }
        for (i, values) in [(0, &params), (2, &m), (3, &v)] {
            self.write(call.matrices[i], 1, p, p, values);
        }
        if call.flag("HAS_COPY") {
            self.write(call.matrices[6], 1, p, p, &params);
        }
    }

    fn merge(&mut self, call: &mut Call) {
        let [terms, p, stride] = call.counts();
        let [pool, rows, weights, out] = call.matrices[..4] else { panic!("four operands and perhaps a copy") };
        let (rows, weights) = (self.read_u32(rows, terms), self.read_f64(weights, 1, terms, terms));
        let values = self.read(pool, pool.rows(), p, stride);
        let term = |i: usize, e: usize| weights[i] * values[rows[i] as usize * p + e];
        let sum: Vec<f64> = (0..p).map(|e| (1..terms).fold(term(0, e), |sum, i| sum + term(i, e))).collect();
        self.write(out, 1, p, p, &sum);
        if call.flag("HAS_COPY") {
            self.write(call.matrices[4], 1, p, p, &sum);
        }
    }

    fn loss_sum(&mut self, call: &mut Call) {
        let [rows, n, stride] = call.counts();
        let losses = self.read(call.matrices[0], rows, n, stride);
        let mut sums: Vec<f64> = losses.chunks(n).map(|row| row.iter().sum()).collect();
        if call.flag("ACCUMULATE") {
            let before = self.read_f64(call.matrices[1], 1, rows, rows);
            sums.iter_mut().zip(before).for_each(|(x, y)| *x += y);
        }
        self.write_f64(call.matrices[1], 1, rows, rows, &sums);
    }

    /// Puts the whole sums into the first part.
    fn inner_products_partial(&mut self, call: &mut Call) {
        let [d, k, p, stride_gradients, stride_pool, part] = call.counts();
        let [gradients, pool, parts] = call.matrices[..] else { panic!("three operands") };
        let (gradients, pool) = (self.read(gradients, d, p, stride_gradients), self.read(pool, k, p, stride_pool));
        let mut sums = reference::inner_products(&gradients, &pool, p);
        let count = p.div_ceil(part);
        assert_eq!(call.launch.grid[1] as usize, count, "a row of blocks for each part");
        sums.resize(count * d * k, 0.0);
        self.write_f64(parts, count, d * k, d * k, &sums);
    }

    fn inner_products(&mut self, call: &mut Call) {
        let [count, d, k, stride_out] = call.counts();
        let [parts, out] = call.matrices[..] else { panic!("two operands") };
        let mut sums = vec![0.0; d * k];
        if call.flag("ACCUMULATE") {
            sums = self.read_f64(out, d, k, stride_out);
        }
        let parts = self.read_f64(parts, count, d * k, d * k);
        parts.chunks(d * k).for_each(|part| sums.iter_mut().zip(part).for_each(|(x, y)| *x += y));
        self.write_f64(out, d, k, stride_out, &sums);
    }
}
