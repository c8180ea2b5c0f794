//! `orinplan models`: what is listed, in which order, and what its filters say.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::support::{assert_error, json, refused, run, says};

/// The ids of the models in a document, the best first.
fn ids(document: &Json) -> Vec<&str> {
    let models = document["models"].as_array().unwrap();
    models
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect()
}

macro_rules! screens {
    ($($test:ident $words:literal;)*) => {$(
        #[test]
        fn $test() {
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(concat!("models-", stringify!($test)), says(0, $words));
            });
        }
    )*};
}

screens! {
    what_the_usual_board_runs "models --device orin-nano-8gb";
    code_on_the_largest_board "models --device agx-orin-64gb --task code";
    embedding_models_are_rated_by_what_they_read "models --device orin-nano-8gb --task embedding --format markdown";
}

/// A value that was read in no source is to be read on the model's page.
#[test]
fn what_was_read_in_no_source_is_told() {
    let all = |words: &str| says(0, &format!("models --device orin-nano-8gb {words}"));
    let told = "not every licence and date was checked with its publisher";
    assert!(all("--license cc-by-nc-4.0").contains(told));
    assert!(!all("--license mit").contains(told));
}

/// The keys that scripts depend on.
#[test]
fn the_document_has_these_keys() {
    let document = json(0, "models --device orin-nano-8gb");
    let keys = |value: &Json| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(document["schema"], "orinplan.models/1");
    assert_eq!(
        keys(&document),
        "schema device runtime asked rule catalog_models models too_large too_slow too_short no_images"
    );
    assert_eq!(
        keys(&document["device"]),
        "id name power_mode memory_available_bytes memory_bandwidth_bytes_per_second"
    );
    assert_eq!(
        keys(&document["asked"]),
        "task licenses context min_tokens_per_second"
    );
    for model in document["models"].as_array().unwrap() {
        assert_eq!(
            keys(model),
            "rank id architecture parameters size_class tasks license released scheme file_bytes memory_bytes \
             headroom_bytes context max_context decode_tokens_per_second prefill_tokens_per_second quality \
             slower_than_reading far_from_original get card sources confirmed"
        );
        assert!(model["headroom_bytes"].as_i64().unwrap() >= 0, "{model}");
    }
    let all = document["models"].as_array().unwrap().len()
        + ["too_large", "too_slow", "too_short", "no_images"]
            .map(|key| document[key].as_array().unwrap().len())
            .iter()
            .sum::<usize>();
    assert_eq!(document["catalog_models"], all);
}

/// Comfortable ones first, then the size class, then the newer, then the larger.
#[test]
fn the_order_is_that_of_the_rule() {
    let document = json(0, "models --device orin-nano-8gb");
    let place = |model: &Json| {
        let is = |key: &str| model[key].as_bool().unwrap();
        let number = |key: &str| u64::MAX - model[key].as_u64().unwrap();
        let released: Vec<u8> = model["released"]
            .as_str()
            .unwrap()
            .bytes()
            .map(|byte| u8::MAX - byte)
            .collect();
        (
            is("slower_than_reading") || is("far_from_original"),
            number("size_class"),
            // The shorter of two dates, a month, is the earlier.
            [released, vec![u8::MAX]].concat(),
            number("parameters"),
        )
    };
    let places: Vec<_> = document["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect();
    assert!(places.len() > 50 && places.is_sorted());
    let ranks = document["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["rank"].as_u64());
    assert!(ranks.eq((1..=places.len() as u64).map(Some)));
}

/// The plan of an entry is that of `fit` on the same configuration.
#[test]
fn a_row_says_what_fit_says() {
    let document = json(0, "models --device orin-nano-8gb --task embedding");
    let of = |id: &str| {
        document["models"]
            .as_array()
            .unwrap()
            .iter()
            .find(|model| model["id"] == id)
            .cloned()
            .unwrap()
    };
    let row = of("Qwen/Qwen3-Embedding-0.6B");
    let directory = tempfile::tempdir().unwrap();
    let catalog = orinplan::catalog::Catalog::shipped().unwrap();
    let entry = catalog
        .entries
        .iter()
        .find(|entry| entry.id == "Qwen/Qwen3-Embedding-0.6B")
        .unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, serde_json::to_string(&entry.config).unwrap()).unwrap();
    let fit = json(0, &format!("fit {} --device orin-nano-8gb", path.display()));
    assert_eq!(row["scheme"], fit["recommended"]);
    let plans = fit["plans"].as_array().unwrap();
    let plan = plans
        .iter()
        .find(|plan| plan["scheme"] == row["scheme"])
        .unwrap();
    assert_eq!(row["memory_bytes"], plan["memory"]["total_bytes"]);
    assert_eq!(row["max_context"], plan["max_context"]);
    assert_eq!(row["file_bytes"], plan["file_bytes"]);
    assert_eq!(
        row["prefill_tokens_per_second"],
        plan["prefill"]["tokens_per_second"]
    );
    assert_eq!(row["decode_tokens_per_second"], Json::Null);
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    let all = json(0, "models --device orin-nano-8gb");
    let vision = json(0, "models --device orin-nano-8gb --task vision");
    for model in vision["models"].as_array().unwrap() {
        assert!(
            model["tasks"]
                .as_array()
                .unwrap()
                .contains(&"vision".into()),
            "{model}"
        );
    }
    assert!(!ids(&vision).is_empty() && ids(&vision).len() < ids(&all).len());
    let licensed = json(0, "models --device orin-nano-8gb --license mit,APACHE-2.0");
    let names: BTreeSet<&str> = licensed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["license"].as_str().unwrap())
        .collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["Apache-2.0", "MIT"]);
    let fast = json(
        0,
        "models --device orin-nano-8gb --task chat --min-speed 20",
    );
    for model in fast["models"].as_array().unwrap() {
        assert!(
            model["decode_tokens_per_second"]["expected"]
                .as_f64()
                .unwrap()
                >= 20.0,
            "{model}"
        );
    }
    assert!(!fast["too_slow"].as_array().unwrap().is_empty());
    let long = json(0, "models --device agx-orin-64gb --context 100k");
    for model in long["models"].as_array().unwrap() {
        assert!(model["max_context"].as_u64().unwrap() >= 102_400, "{model}");
    }
    assert!(!long["too_short"].as_array().unwrap().is_empty());
}

#[test]
fn a_smaller_board_holds_fewer_models_and_all_names_a_larger_one() {
    let large = json(0, "models --device agx-orin-64gb");
    let small = json(0, "models --device orin-nano-4gb --all");
    assert!(ids(&small).len() < ids(&large).len());
    let none = large["too_large"].as_array().unwrap();
    assert!(none.is_empty(), "{none:?}");
    for larger in small["too_large"].as_array().unwrap() {
        assert!(larger["smallest_device"].is_string(), "{larger}");
    }
    let text = says(0, "models --device orin-nano-4gb");
    assert!(
        text.contains("not fit here: --all names the smallest board for each"),
        "{text}"
    );
    assert!(text.contains("more run too: --all lists all"), "{text}");
    let all = says(0, "models --device orin-nano-4gb --all");
    assert!(
        all.contains("Does not fit here:") && !all.contains("--all"),
        "{all}"
    );
}

#[test]
fn nothing_that_runs_is_a_result() {
    let text = says(
        1,
        "models --device orin-nano-8gb --min-speed 100000 --task chat",
    );
    assert!(text.contains("0 of "), "{text}");
    assert!(!text.contains("To get the first"), "{text}");
}

#[test]
fn what_is_mistyped_is_answered_with_the_nearest_name() {
    refused("models --task chatt", &["chatt", "chat"]);
    refused(
        "models --license apache-2",
        &[
            "no model of the catalogue has the licence `apache-2`",
            "did you mean `Apache-2.0`?",
            "MIT",
        ],
    );
    refused(
        "models --device orin-nano-9gb",
        &["did you mean `orin-nano-8gb`?"],
    );
    refused("models --scheme q4_k_mm", &["there is no scheme `q4_k_mm`"]);
    assert_error(&run("model"), &["did you mean `models`?"]);
}

/// The line that gets a model names what was recommended.
#[test]
fn the_line_to_get_a_model_is_for_a_shell() {
    let document = json(0, "models --device orin-nano-8gb --task chat");
    for model in document["models"].as_array().unwrap() {
        let (id, scheme) = (
            model["id"].as_str().unwrap(),
            model["scheme"].as_str().unwrap(),
        );
        let line = model["get"].as_str().unwrap();
        let made = line.contains(&format!(
            "orinplan quantize {id} --scheme {scheme} --output "
        ));
        assert!(made || line == format!("orinplan fit {id}"), "{line}");
    }
}
