//! A study: its settings, the stages that follow from them, running what is missing, and what is known so far.

mod clock;
mod history;
mod late;
mod layout;
mod leftovers;
mod lock;
mod merges;
mod mixtures;
mod opened;
mod plan;
mod prepare;
mod progress;
mod report;
mod run;
mod selection;
mod settings;
mod shards;
mod speed;
mod stages;
mod status;
mod workers;

pub use layout::{Layout, checkpoint_key};
pub use lock::Lock;
pub use mixtures::{Mixture, mixtures};
pub use plan::Plan;
pub use progress::Progress;
pub use report::report;
pub use run::{Options, Phase, run};
pub use settings::{ModelSettings, Study};
pub use status::Status;
