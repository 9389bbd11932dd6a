//! A study: its settings, its tasks, running the missing ones, its status and its report.

mod clock;
mod filter;
mod graph;
mod history;
mod inputs;
mod late;
mod mixtures;
mod objectives;
mod plan;
mod prepare;
mod report;
mod run;
mod scale;
mod score;
mod search;
mod settings;
mod shards;
mod speed;
mod status;
mod store;
mod train;
mod workers;

pub use mixtures::{Mixture, mixtures};
pub use plan::Plan;
pub use report::report;
pub use run::{Options, Phase, run};
pub use search::{SearchOptions, SearchReport, search};
pub use settings::{DomainChoice, GroupSettings, SearchSettings, Study, WeightLimits, WeightRange};
pub use status::Status;
pub use store::Store;
