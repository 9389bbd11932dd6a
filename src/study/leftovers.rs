//! What runs that were killed left in a study's directory, so that a study ends in the same files however often it was
//! killed. Called with the study's lock held. Partial checkpoints of trainings that are not finished stay: they are
//! what a run goes on from, be it of these settings or of earlier ones that the user goes back to.

use super::layout::{Layout, WRITING};
use crate::engine::train;
use crate::error::Result;
use crate::files;

pub fn remove(layout: &Layout) -> Result<()> {
    let report = [layout.root.clone(), layout.root.join("plots")];
    let mut curves = Vec::new();
    if layout.tensorboard().exists() {
        curves.extend(files::names_in(&layout.tensorboard())?.iter().map(|name| layout.tensorboard().join(name)));
    }
    for directory in layout.directories().iter().chain(&report).chain(&curves).filter(|d| d.is_dir()) {
        files::remove_abandoned(directory, |_| true)?;
    }
    let shards = layout.shards();
    for name in files::names_in(&shards)?.iter().filter(|name| name.starts_with(WRITING)) {
        files::remove_directory(&shards.join(name))?;
    }
    let models = layout.models();
    for name in files::names_in(&models)?.iter().filter_map(|name| name.strip_suffix(".old")) {
        files::recover_directory(&models.join(name))?;
    }
    for name in files::names_in(&models)? {
        let model = models.join(&name);
        // Killed between the finished checkpoint and the removal of the last partial one.
        if train::partial_path(&model).exists() {
            files::remove_directory(&train::partial_path(&model))?;
        }
    }
    Ok(())
}
