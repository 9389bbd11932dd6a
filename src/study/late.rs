//! Sources that came after models were trained on the others: their held-out documents give way where others would be
//! cleaned of them.

use super::prepare::{Input, Inputs};
use super::settings::Study;
use super::shards::{Candidates, Dropped, Writer};
use crate::analysis::DomainKind;
use crate::engine::data::{Decontaminator, Document, NgramPlace, Split, for_each_document};
use crate::error::Result;
use std::collections::BTreeMap;

/// The documents that are scored of a source that came late. Where its held-out text is in training text that was there
/// before, that stays as it is, since models were trained on it: the held-out documents are left out. The others are
/// protected in what is written from now on.
pub(super) fn held_out(
    study: &Study,
    inputs: &Inputs,
    input: &Input,
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

/// The n-grams of `index` in the training text that was there before `input` came: where each stands in the index, and the
/// first source and document that have it.
fn trained_on(
    inputs: &Inputs,
    input: &Input,
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
