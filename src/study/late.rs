//! Late sources: added after training. A held-out document that overlaps existing training text is
//! dropped, so that nothing is retrained.

use super::inputs::{SourceInput, StudyInputs};
use super::settings::Study;
use super::shards::{Candidates, Dropped, Writer};
use crate::analysis::DomainKind;
use crate::engine::data::{Decontaminator, Document, NgramPlace, Split, for_each_document};
use crate::error::Result;
use std::collections::BTreeMap;

/// The documents of a late source that are scored. Earlier training text stays as it is, since
/// models were trained on it; held-out documents that overlap it are left out. The remaining
/// held-out documents are protected in all shards written from now on.
pub fn held_out(
    study: &Study,
    inputs: &StudyInputs,
    input: &SourceInput,
    writer: &mut Writer,
) -> Result<(Candidates, Vec<Dropped>)> {
    let mut index = Decontaminator::new(study.data.decontaminate)?;
    let mut documents = Vec::new();
    for_each_document(&input.files, |document| {
        let split = inputs.split(input, &document);
        if split != Split::Train && input.selection.takes(&document) {
            index.add(&input.name, &document);
            documents.push((document, split));
        }
        Ok(())
    })?;
    let trained = trained_on(inputs, input, &index, writer)?;
    let (mut candidates, mut left_out) =
        (Candidates::new(&input.name, input.kind, study.evaluation.documents), Vec::new());
    for (document, split) in documents {
        let found = index.shared(&document).into_iter().find_map(|place| Some((place, trained.get(&place)?)));
        if let Some((place, (partition, id))) = found {
            let why = index.shared_with(place, id, &input.name, &document.id);
            left_out.push(Dropped { partition: partition.clone(), why });
            continue;
        }
        writer.protect(&input.name, &document);
        if split == Split::Test {
            candidates.offer(document);
        }
    }
    Ok((candidates, left_out))
}

/// The n-grams of `index` that occur in training text earlier than `input`: each one's place in the
/// index, with the first source and document that contain it.
fn trained_on(
    inputs: &StudyInputs,
    input: &SourceInput,
    index: &Decontaminator,
    writer: &Writer,
) -> Result<BTreeMap<NgramPlace, (String, String)>> {
    let mut trained = BTreeMap::new();
    let mut note = |source: &str, document: &Document| {
        let shared = index.shared(document);
        if !shared.is_empty() && writer.is_clean(document) {
            for place in shared {
                trained.entry(place).or_insert_with(|| (source.to_string(), document.id.clone()));
            }
        }
    };
    for_each_document(&inputs.seed, |document| {
        note("seed", &document);
        Ok(())
    })?;
    let before =
        inputs.all().filter(|i| !i.late).chain(inputs.all().filter(|i| i.late).take_while(|i| i.name != input.name));
    for source in before.filter(|i| i.kind == DomainKind::Id) {
        for_each_document(&source.files, |document| {
            if source.selection.takes(&document) && inputs.split(source, &document) == Split::Train {
                note(&source.name, &document);
            }
            Ok(())
        })?;
    }
    Ok(trained)
}
