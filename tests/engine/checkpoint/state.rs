//! The state of optimizer and trainer.

use super::{random, refused, small};
use safetensors::SafeTensors;
use serde_json::json;
use std::fs;
use stockpot::engine::checkpoint::{OptimizerState, TrainerState};
use stockpot::engine::model::Table;

#[test]
fn optimizer_state_reads_back() {
    let config = small(true);
    let table = Table::new(&config);
    let dir = tempfile::tempdir().unwrap();
    let state = OptimizerState { m: random(table.len, 4), v: random(table.len, 5).iter().map(|x| x * x).collect() };
    state.write(dir.path(), &table).unwrap();
    assert_eq!(OptimizerState::read(dir.path(), &table).unwrap(), state);
    let bytes = fs::read(dir.path().join("optimizer.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let p = table.find("model.layers.1.mlp.down_proj.weight").unwrap();
    let v = theirs.tensor("exp_avg_sq.model.layers.1.mlp.down_proj.weight").unwrap();
    assert_eq!((v.shape(), v.data()), (&p.shape[..], bytemuck::cast_slice(&state.v[p.range()])));

    let name = "exp_avg_sq.model.norm.weight";
    let mut wrong = state.clone();
    wrong.v[table.final_norm.start] = -1.0;
    wrong.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["optimizer.safetensors", name, "-1"]);
    let mut wrong = state.clone();
    wrong.m[table.final_norm.start] = f32::NAN;
    wrong.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["exp_avg.model.norm.weight", "NaN"]);
    let other = Table::new(&small(false));
    state.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &other), &["exp_avg.lm_head.weight", "missing"]);
    OptimizerState::zeros(&other).write(dir.path(), &other).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["exp_avg.lm_head.weight", "no such parameter"]);
}

#[test]
fn trainer_state_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = TrainerState { step: 12, tokens: u64::MAX, run: json!({"seed": 7, "rate": 0.1}) };
    state.write(dir.path()).unwrap();
    assert_eq!(TrainerState::read(dir.path()).unwrap(), state);
    let path = dir.path().join("trainer.json");
    fs::write(&path, r#"{"step": 1, "tokens": 2, "run": {}, "more": 3}"#).unwrap();
    refused(TrainerState::read(dir.path()), &["trainer.json", "more"]);
    fs::write(&path, r#"{"step": 1, "run": {}}"#).unwrap();
    refused(TrainerState::read(dir.path()), &["trainer.json", "tokens"]);
}
