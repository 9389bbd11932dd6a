//! The graph of a study: one list of tasks. Each task trains or scores one model and has its
//! inputs, key, cost and result paths. `plan`, `run`, `status`, `history` and `report` are passes
//! over the list.
//!
//! A key is the hash of everything that determines a result: inputs, settings, the kind of device
//! and the version of the code. Equal keys mean equal bits. A changed input changes only the keys
//! of the results that depend on it.

mod merges;
mod trainings;

pub use trainings::{Member, Train};

use super::mixtures::{Mixture, mixtures};
use super::prepare::Prepared;
use super::scale::{Scale, ScaleSettings};
use super::settings::Study;
use super::store::{Store, key};
use crate::engine::eval::DomainScore;
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Incremented when a code change alters what a training computes.
const TRAIN_VERSION: u32 = 1;
/// Incremented when a code change alters a merge or a score.
const SCORE_VERSION: u32 = 2;

/// The stages of work on one model size, in order. A task reads only results of earlier stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The seed model's training.
    Seed,
    /// Trainings on partitions and their base units, and their repeats.
    Modules,
    /// Trainings on mixtures.
    Seq,
    /// Scores of every model and merge on every domain.
    Scoring,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 4] = [Stage::Seed, Stage::Modules, Stage::Seq, Stage::Scoring];

    /// The stage's name, the same at every scale.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Seed => "seed",
            Stage::Modules => "modules",
            Stage::Seq => "seq",
            Stage::Scoring => "scoring",
        }
    }
}

/// The name of a scale's stage in plans, clocks and the report.
pub fn stage_name(scale: Scale, stage: Stage) -> String {
    format!("{}{}", scale.prefix(), stage.name())
}

/// A model's purpose in the study. Mixtures, lambdas, samples and segments are indices into the
/// graph's lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The seed, trained here or given.
    Seed,
    /// Trained on a whole partition; repeat 0 is the first training.
    Module { partition: String, repeat: u64 },
    /// Trained on one base unit of a partition that has several.
    Unit { partition: String, unit: u64, of: u64 },
    /// Trained on a mixture.
    Seq { mixture: usize, repeat: u64 },
    /// A proxy that is a merge, by its name in [`PROXIES`](crate::analysis::PROXIES).
    Merged { proxy: &'static str, mixture: usize, repeat: u64 },
    /// `seed + lambda (MERGED - seed)`
    Scaled { mixture: usize, lambda: usize },
    /// A merge that mixing laws are fitted to.
    Sample(usize),
    /// A model on a segment.
    Point { segment: usize, point: usize },
    /// A merge that a search asked for.
    Candidate(usize),
}

impl Role {
    /// Modules of base units are only merged, not scored themselves.
    fn is_scored(&self) -> bool {
        !matches!(self, Role::Unit { .. })
    }
}

/// A model of the study. One model may have several roles.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The model size of its first role.
    pub scale: Scale,
    /// The name of its first role: `seed`, `module law`, `seq law+physics`, `merged law+physics`,
    /// ...
    pub name: String,
    /// Hash of everything that determines it; unique.
    pub key: String,
    /// The weights that a scorer loads.
    pub weights: SubjectWeights,
}

/// The source of a subject's weights.
#[derive(Debug, Clone)]
pub enum SubjectWeights {
    /// A checkpoint directory.
    Checkpoint(PathBuf),
    /// A weighted sum of other subjects, which is never written to disk.
    Merge(Vec<(usize, f64)>),
}

/// One unit of work.
#[derive(Debug, Clone)]
pub struct Task {
    /// The model size it works on.
    pub scale: Scale,
    /// The stage it belongs to.
    pub stage: Stage,
    /// The name of the model that it trains or scores.
    pub name: String,
    /// The key of the model that it trains or scores; unique within the stage.
    pub key: String,
    /// Indices of the tasks whose results it reads, all of earlier stages.
    pub inputs: Vec<usize>,
    /// Tokens trained on, or scored.
    pub tokens: u64,
    /// FLOPs of the training, or of a forward pass over the tokens scored.
    pub flops: f64,
    /// The work itself.
    pub work: Work,
}

/// The work of a task.
#[derive(Debug, Clone)]
pub enum Work {
    /// Trains a model and writes its checkpoint.
    Train(Train),
    /// Scores the subject at this index on every domain.
    Score(usize),
}

/// A straight line through weight space, from a module or the seed to a module.
#[derive(Debug, Clone)]
pub struct WeightSegment {
    /// The first end: a partition, or the seed if `None`.
    pub from: Option<String>,
    /// A partition.
    pub to: String,
    /// Where on it models are scored: from 0 to 1, both included.
    pub points: Vec<f64>,
}

/// A study with everything that its trainings and scores depend on, and all of its tasks.
pub struct Graph {
    /// Where results are.
    pub store: Store,
    /// The text as shards, and the small model.
    pub prepared: Prepared,
    /// The mixtures verified by SEQ.
    pub mixtures: Vec<Mixture>,
    /// Lambdas of the scaled merges.
    pub lambdas: Vec<f64>,
    /// Weights of the merges that mixing laws are fitted to.
    pub samples: Vec<BTreeMap<String, f64>>,
    /// The segments whose points are scored.
    pub segments: Vec<WeightSegment>,
    /// The small model, then the larger one, if any.
    pub scales: Vec<ScaleSettings>,
    /// Steps between resumable checkpoints.
    pub checkpoint_every: u64,
    /// The kind of device that computes the results.
    pub device: String,
    /// Every model, once.
    pub subjects: Vec<Subject>,
    /// Every role with the index of its model, in the order of the work.
    pub roles: Vec<(Scale, Role, usize)>,
    /// Every task, once, in an order in which they can run.
    pub tasks: Vec<Task>,
    /// Merges that a search has added.
    candidates: usize,
    subject_by_key: BTreeMap<String, usize>,
    subject_by_role: BTreeMap<(Scale, Role), usize>,
    training_by_key: BTreeMap<String, usize>,
}

impl Graph {
    /// Lists all tasks of a study. `device` names the kind of device; results depend on its
    /// arithmetic.
    pub fn new(study: &Study, store: Store, prepared: Prepared, device: &str) -> Result<Graph> {
        let mut graph = Graph {
            store,
            mixtures: mixtures(study),
            lambdas: study.proxies.lambdas.clone(),
            samples: merges::samples(study),
            segments: merges::segments(study),
            scales: study.scales(&prepared.config)?,
            checkpoint_every: study.checkpoint_every,
            device: device.to_string(),
            prepared,
            subjects: vec![],
            roles: vec![],
            tasks: vec![],
            candidates: 0,
            subject_by_key: BTreeMap::new(),
            subject_by_role: BTreeMap::new(),
            training_by_key: BTreeMap::new(),
        };
        for scale in graph.scales.clone() {
            graph.add_trainings(study, &scale)?;
            graph.add_merges(study, scale.scale);
            graph.add_scores(&scale);
        }
        Ok(graph)
    }

    /// Adds a scoring task for each model of a scale that has a scored role.
    fn add_scores(&mut self, scale: &ScaleSettings) {
        let tokens = self.prepared.scored_tokens();
        let flops = tokens as f64 * scale.config.forward_flops_per_token();
        let mut is_wanted = vec![false; self.subjects.len()];
        for (_, _, subject) in self.roles.iter().filter(|(s, role, _)| *s == scale.scale && role.is_scored()) {
            is_wanted[*subject] = true;
        }
        // Two model sizes with equal settings are one model, which is scored once.
        for task in &self.tasks {
            if let Work::Score(subject) = task.work {
                is_wanted[subject] = false;
            }
        }
        let trained = |subject: &usize| self.training_by_key.get(&self.subjects[*subject].key).copied();
        let task = |(i, subject): (usize, &Subject)| Task {
            scale: scale.scale,
            stage: Stage::Scoring,
            name: subject.name.clone(),
            key: subject.key.clone(),
            inputs: match &subject.weights {
                SubjectWeights::Checkpoint(_) => trained(&i).into_iter().collect(),
                SubjectWeights::Merge(terms) => terms.iter().filter_map(|(term, _)| trained(term)).collect(),
            },
            tokens,
            flops,
            work: Work::Score(i),
        };
        let tasks: Vec<Task> = (0..).zip(&self.subjects).filter(|(i, _)| is_wanted[*i]).map(task).collect();
        self.tasks.extend(tasks);
    }

    /// Gives a model a role. A model whose key is already known is not added again.
    fn add_subject(&mut self, scale: Scale, role: Role, key: String, weights: SubjectWeights) -> usize {
        let next = self.subjects.len();
        let subject = *self.subject_by_key.entry(key.clone()).or_insert(next);
        if subject == next {
            let name = self.name(scale, &role);
            self.subjects.push(Subject { scale, name, key, weights });
        }
        self.add_role(scale, role, subject);
        subject
    }

    fn add_role(&mut self, scale: Scale, role: Role, subject: usize) {
        self.subject_by_role.insert((scale, role.clone()), subject);
        self.roles.push((scale, role, subject));
    }

    /// The index of the model with this role, if the study has one.
    pub fn subject(&self, scale: Scale, role: &Role) -> Option<usize> {
        self.subject_by_role.get(&(scale, role.clone())).copied()
    }

    /// A role's name, which names its training or merge.
    pub fn name(&self, scale: Scale, role: &Role) -> String {
        let again = |repeat: &u64| if *repeat == 0 { String::new() } else { format!(" (repeat {})", repeat + 1) };
        let id = |mixture: &usize| &self.mixtures[*mixture].id;
        let name = match role {
            Role::Seed => "seed".to_string(),
            Role::Module { partition, repeat } => format!("module {partition}{}", again(repeat)),
            Role::Unit { partition, unit, of } => format!("module {partition} unit {} of {of}", unit + 1),
            Role::Seq { mixture, repeat } => format!("seq {}{}", id(mixture), again(repeat)),
            Role::Merged { proxy, mixture, repeat } => {
                format!("{} {}{}", proxy.replace('_', " "), id(mixture), again(repeat))
            }
            Role::Scaled { mixture, lambda } => format!("scaled {} {}", self.lambdas[*lambda], id(mixture)),
            Role::Sample(_) => "sampled merge".to_string(),
            Role::Candidate(_) => "merge of the search".to_string(),
            Role::Point { segment, .. } => {
                let WeightSegment { from, to, .. } = &self.segments[*segment];
                format!("between {} and {to}", from.as_deref().unwrap_or("seed"))
            }
        };
        format!("{}{name}", scale.prefix())
    }

    /// One model size's settings.
    pub fn settings(&self, scale: Scale) -> &ScaleSettings {
        self.scales.iter().find(|s| s.scale == scale).expect("a task's scale is one of the study's")
    }

    /// The training of this model, if it is trained here.
    pub fn training(&self, subject: usize) -> Option<&Task> {
        self.training_by_key.get(&self.subjects[subject].key).map(|&task| &self.tasks[task])
    }

    /// Every training.
    pub fn trainings(&self) -> impl Iterator<Item = (&Task, &Train)> {
        self.tasks.iter().filter_map(|task| match &task.work {
            Work::Train(train) => Some((task, train)),
            Work::Score(_) => None,
        })
    }

    /// Every scoring, with the model that it scores.
    pub fn scorings(&self) -> impl Iterator<Item = (&Task, &Subject)> {
        self.tasks.iter().filter_map(|task| match task.work {
            Work::Score(subject) => Some((task, &self.subjects[subject])),
            Work::Train(_) => None,
        })
    }

    /// The tasks of one stage of one scale.
    pub fn stage(&self, scale: Scale, stage: Stage) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.scale == scale && task.stage == stage)
    }

    /// The paths of a task's results: a checkpoint directory, or the score of each domain.
    pub fn results(&self, task: &Task) -> Vec<PathBuf> {
        match task.work {
            Work::Train(_) => vec![self.store.model(&task.key)],
            Work::Score(subject) => {
                let domains = 0..self.prepared.manifest.domains.len();
                domains.map(|domain| self.score_path(subject, domain)).collect()
            }
        }
    }

    /// The score file of a model on one domain.
    pub fn score_path(&self, subject: usize, domain: usize) -> PathBuf {
        let (subject, shard) = (&self.subjects[subject], &self.prepared.manifest.domains[domain].shard);
        let context = self.settings(subject.scale).config.context;
        self.store.score(&key("score", SCORE_VERSION, &(&subject.key, &shard.hash, context, &self.device)))
    }

    /// Reads an existing score.
    pub fn score(&self, subject: usize, domain: usize) -> Result<DomainScore> {
        let path = self.score_path(subject, domain);
        let bad = |why: String| Error::input(why).at(&path).fix("remove this file and run again");
        let score: DomainScore =
            serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| bad(format!("not a score: {e}")))?;
        if score.document_nats.len() as u64 != score.documents {
            return Err(bad("a score without the nats of each document".into())
                .expected(format!("{} numbers", score.documents))
                .got(score.document_nats.len().to_string()));
        }
        Ok(score)
    }

    /// The seed's checkpoint.
    pub fn seed_directory(&self, scale: Scale) -> Result<&Path> {
        match self.subject(scale, &Role::Seed).map(|seed| &self.subjects[seed].weights) {
            Some(SubjectWeights::Checkpoint(directory)) => Ok(directory),
            _ => Err(Error::usage("the study has no seed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every feature of a study at once: base units, repeats, a larger model with modules, lambdas,
    /// laws, segments.
    const SETTINGS: &str = "
        name = \"s\"
        [model]
        preset = \"tiny\"
        [tokenizer]
        vocabulary = 300
        [seed]
        files = [\"seed\"]
        training = { steps = 7, batch = 2, learning_rate = 1e-3 }
        [module]
        training = { steps = 2, batch = 2, learning_rate = 1e-3 }
        [evaluation]
        tokens = 1000
        [mixtures]
        pairs = \"all\"
        repeats = 2
        repeated = 1
        [proxies]
        lambdas = [1.0, 1.5]
        laws = 12
        [connectivity]
        pairs = 3
        points = 5
        [target]
        mixtures = 2
        modules = true
        model = { preset = \"tiny\", width = 192 }
        seed = { training = { steps = 9, batch = 2, learning_rate = 1e-3 } }
        module = { training = { steps = 3, batch = 2, learning_rate = 1e-3 } }
        [[partition]]
        name = \"a\"
        files = [\"a\"]
        units = 3
        [[partition]]
        name = \"b\"
        files = [\"b\"]
        [[partition]]
        name = \"c\"
        files = [\"c\"]
        [[ood]]
        name = \"o\"
        files = [\"o\"]
    ";

    fn graph() -> Graph {
        graph_of(SETTINGS)
    }

    fn graph_of(settings: &str) -> Graph {
        let study: Study = toml::from_str(settings).expect("a study");
        let prepared = Prepared::expected(&study).expect("it is complete");
        Graph::new(&study, Store { root: "out".into() }, prepared, "cpu").expect("its tasks")
    }

    #[test]
    fn tasks_are_unique_and_read_only_what_earlier_stages_make() {
        let graph = graph();
        let names: BTreeSet<(Stage, &str)> = graph.tasks.iter().map(|t| (t.stage, t.key.as_str())).collect();
        assert_eq!(names.len(), graph.tasks.len(), "a key twice in one stage");
        let results: Vec<PathBuf> = graph.tasks.iter().flat_map(|task| graph.results(task)).collect();
        assert_eq!(results.iter().collect::<BTreeSet<_>>().len(), results.len(), "two tasks write one file");
        for (i, task) in graph.tasks.iter().enumerate() {
            for &input in &task.inputs {
                assert!(input < i && graph.tasks[input].stage < task.stage, "{} reads {input}", task.name);
                assert_eq!(graph.tasks[input].scale, task.scale, "{} reads another scale's {input}", task.name);
            }
            assert_eq!(task.inputs.is_empty(), task.stage == Stage::Seed, "{}", task.name);
            assert!(task.tokens > 0 && task.flops > 0.0, "{} costs nothing", task.name);
        }
    }

    /// A larger model equal to the small one adds no tasks.
    #[test]
    fn equal_model_sizes_share_their_tasks() {
        let same = SETTINGS
            .replace("preset = \"tiny\", width = 192", "preset = \"tiny\"")
            .replace("steps = 9", "steps = 7")
            .replace("steps = 3,", "steps = 2,");
        let (without, same) = (SETTINGS.split_once("[target]").expect("a target").0, graph_of(&same));
        let partitions = &SETTINGS[SETTINGS.find("[[partition]]").expect("partitions")..];
        let without = graph_of(&format!("{without}{partitions}"));
        let names = |graph: &Graph| graph.tasks.iter().map(|t| (t.stage, t.key.clone())).collect::<Vec<_>>();
        assert_eq!(names(&same), names(&without));
        let target = |role: &Role| same.subject(Scale::Target, role);
        assert!(target(&Role::Seed).is_some() && target(&Role::Seed) == same.subject(Scale::Small, &Role::Seed));
    }

    /// A scoring reads only the checkpoints of its model.
    #[test]
    fn scorings_read_the_checkpoints_of_their_models() {
        let graph = graph();
        let checkpoint = |subject: usize| match &graph.subjects[subject].weights {
            SubjectWeights::Checkpoint(path) => path.clone(),
            SubjectWeights::Merge(_) => panic!("a merge of a merge"),
        };
        for (task, subject) in graph.scorings() {
            let needed: Vec<PathBuf> = match &subject.weights {
                SubjectWeights::Checkpoint(path) => vec![path.clone()],
                SubjectWeights::Merge(terms) => terms.iter().map(|term| checkpoint(term.0)).collect(),
            };
            let read: Vec<PathBuf> = task.inputs.iter().flat_map(|&i| graph.results(&graph.tasks[i])).collect();
            assert_eq!(read, needed, "{}", task.name);
        }
        assert!(graph.scorings().any(|(_, subject)| matches!(subject.weights, SubjectWeights::Merge(_))));
    }

    #[test]
    fn all_roles_exist_and_equal_models_are_one_subject() {
        let graph = graph();
        let count = |wanted: fn(&Role) -> bool| {
            let of = |scale| graph.roles.iter().filter(|(s, role, _)| *s == scale && wanted(role)).count();
            (of(Scale::Small), of(Scale::Target))
        };
        // One pair is trained twice, and so are its two modules.
        assert_eq!(count(|r| matches!(r, Role::Module { .. })), (3 + 2, 3));
        assert_eq!(count(|r| matches!(r, Role::Unit { .. })), (3, 0));
        assert_eq!(count(|r| matches!(r, Role::Seq { .. })), (3 + 1, 2));
        assert_eq!(count(|r| matches!(r, Role::Merged { proxy: "merged", .. })), (3 + 1, 2));
        // Two of the pairs contain the partition of three units.
        assert_eq!(count(|r| matches!(r, Role::Merged { proxy: "micro", .. })), (2, 0));
        assert_eq!(count(|r| matches!(r, Role::Scaled { .. })), (3 * 2, 0));
        assert_eq!(count(|r| matches!(r, Role::Sample(_))), (12, 0));
        assert_eq!(count(|r| matches!(r, Role::Point { .. })), ((3 + 3) * 5, 0));
        let small = |role: &Role| graph.subject(Scale::Small, role).expect("a model");
        let module = |name: &str| small(&Role::Module { partition: name.into(), repeat: 0 });
        let WeightSegment { from, to, .. } = &graph.segments[0];
        assert_eq!(small(&Role::Point { segment: 0, point: 0 }), module(from.as_deref().expect("a partition")));
        assert_eq!(small(&Role::Point { segment: 0, point: 4 }), module(to));
        for mixture in 0..3 {
            let merged = small(&Role::Merged { proxy: "merged", mixture, repeat: 0 });
            assert_eq!(small(&Role::Scaled { mixture, lambda: 0 }), merged, "a lambda of 1");
            assert_ne!(small(&Role::Scaled { mixture, lambda: 1 }), merged);
        }
        // The middle between the modules of b and c is the merge of that pair, whose weights are
        // equal.
        let pair = graph.mixtures.iter().position(|m| m.id == "b+c").expect("a pair");
        let between = |s: &WeightSegment| s.from.as_deref() == Some("b") && s.to == "c";
        let segment = graph.segments.iter().position(between).expect("a segment");
        let merged = small(&Role::Merged { proxy: "merged", mixture: pair, repeat: 0 });
        assert_eq!(small(&Role::Point { segment, point: 2 }), merged);
    }
}
