//! A training with progress output: opens its device, reports the memory it takes, and shows loss,
//! speed and time left.

use super::run::{TrainingRun, memory_plan, train};
use crate::engine::device::DeviceSpec;
use crate::error::Result;
use crate::progress::Progress;

/// [`train`] on a device of `spec`, with a bar of `progress`. `after_step` is called with the
/// number of each step.
pub fn train_observed(
    name: &str,
    spec: &DeviceSpec,
    run: &TrainingRun,
    progress: &Progress,
    after_step: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut device = spec.open()?;
    if spec.is_shared() {
        let plan = memory_plan(run.config, run.settings, device.compute_dtype())?;
        progress.line(&format!("{name}: memory {plan}, micro-batches of {}", run.settings.micro_batch()));
    }
    let task = progress.task(name, run.settings.steps);
    let tokens_per_step = (run.settings.batch * run.config.context) as f64;
    let (mut steps_here, mut loss) = (0u64, None);
    let rate = |steps: u64| steps as f64 * tokens_per_step / task.elapsed().as_secs_f64() / 1e3;
    let trained = device.range(name, |device| {
        train(device, run, &mut |m| {
            steps_here += 1;
            loss = Some(m.loss);
            task.update(m.step, &format!("loss {:.3} {:.1}k tok/s", m.loss, rate(steps_here)));
            after_step(m.step);
            if m.skipped {
                progress.line(&format!("{name}: step {} skipped, its gradient is not finite", m.step));
            }
        })
    });
    trained?;
    let loss = loss.map_or(String::new(), |l| format!(", loss {l:.3}"));
    let detail = format!("{} steps{loss}, {:.1}k tok/s", run.settings.steps, rate(steps_here));
    task.finish(&detail);
    Ok(())
}
