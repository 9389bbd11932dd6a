//! A study: its settings, the stages that follow from them, running what is missing, and what is known so far.

mod clock;
mod filter;
mod history;
mod late;
mod layout;
mod leftovers;
mod merges;
mod mixtures;
mod opened;
mod plan;
mod prepare;
mod report;
mod run;
mod settings;
mod shards;
mod speed;
mod stages;
mod status;
mod workers;

pub use layout::Layout;
pub use mixtures::{Mixture, mixtures};
pub use plan::Plan;
pub use report::report;
pub use run::{Options, Phase, run};
pub use settings::Study;
pub use status::Status;
