//! The catalogue: every entry opens as its configuration would, and comes to the published number of parameters, which
//! is not taken from the code under test.

use std::collections::BTreeSet;

use orinplan::catalog::{Catalog, Task};

#[test]
fn every_entry_counts_the_parameters_that_were_published() {
    let catalog = Catalog::shipped().unwrap();
    assert!(catalog.entries.len() >= 150, "{}", catalog.entries.len());
    let mut wrong = Vec::new();
    for entry in &catalog.entries {
        match entry.count() {
            Ok(count) if entry.parameters.agrees(count) => {}
            found => wrong.push(format!(
                "{}: {found:?}, not {:?}",
                entry.id, entry.parameters
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A number published with few digits says little: most are exact, and none is looser than two digits make it.
#[test]
fn published_numbers_are_precise() {
    let catalog = Catalog::shipped().unwrap();
    let loose = |entry: &&orinplan::catalog::Entry| entry.parameters.within > 0;
    let rounded = catalog.entries.iter().filter(loose).count();
    assert!(rounded * 5 < catalog.entries.len(), "{rounded}");
    for entry in &catalog.entries {
        assert!(
            entry.parameters.within * 25 <= entry.parameters.count,
            "{}",
            entry.id
        );
    }
}

#[test]
fn entries_are_of_the_sizes_and_forms_that_are_promised() {
    let catalog = Catalog::shipped().unwrap();
    for entry in &catalog.entries {
        let billions = entry.parameters.count as f64 / 1e9;
        // 90 M is 0.1 B with one digit.
        assert!(
            (0.09..=16.0).contains(&billions),
            "{}: {billions}",
            entry.id
        );
        let (owner, name) = entry.id.split_once('/').expect("an id has an owner");
        assert!(
            !owner.is_empty() && !name.is_empty() && !name.contains('/'),
            "{}",
            entry.id
        );
        let tasks: BTreeSet<&str> = entry.tasks.iter().map(|task| task.name()).collect();
        assert_eq!(tasks.len(), entry.tasks.len(), "{}", entry.id);
        assert!(
            !entry.tasks.is_empty() && (!entry.sources.is_empty() || !entry.is_confirmed),
            "{}",
            entry.id
        );
        assert!(
            entry.sources.iter().all(|at| at.starts_with("https://")),
            "{}",
            entry.id
        );
        let is_vision = entry.is_for(Task::Vision);
        assert_eq!(is_vision, entry.towers > 0, "{}", entry.id);
    }
    let all: BTreeSet<&str> = catalog
        .entries
        .iter()
        .flat_map(|entry| entry.tasks.iter().map(|task| task.name()))
        .collect();
    assert_eq!(all.len(), Task::ALL.len());
}

/// An entry is planned as its configuration is: the same tensors, blocks and limits, whatever door it comes through.
#[test]
fn an_entry_is_what_its_config_json_is() {
    let catalog = Catalog::shipped().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    for entry in catalog.entries.iter().step_by(7) {
        std::fs::write(&path, serde_json::to_string(&entry.config).unwrap()).unwrap();
        let file = orinplan::Planner::open(path.to_str().unwrap()).unwrap();
        let ours = entry.open().unwrap();
        assert_eq!(ours.model().tensors, file.model().tensors, "{}", entry.id);
        assert_eq!(ours.model().layers, file.model().layers, "{}", entry.id);
        assert_eq!(ours.model().dims, file.model().dims, "{}", entry.id);
    }
}
