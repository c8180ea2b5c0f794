//! Adapters, held to the numbers of trainable parameters that PEFT prints.

use orinplan::model::adapter::Adapter;

use crate::support::described;

const ALL: &str = r#"["q_proj","k_proj","v_proj","o_proj","gate_proj","up_proj","down_proj"]"#;

/// `print_trainable_parameters` of published runs: Llama-3.1-8B and Llama-3.2-1B with rank 16 on all seven matrices.
#[test]
fn weights_of_adapters_are_those_that_peft_counts() {
    for (model, rank, targets, published) in [
        ("llama-3.1-8b", 16, ALL, 41_943_040),
        ("llama-3.1-8b", 16, "\"all-linear\"", 41_943_040),
        ("llama-3.1-8b", 8, r#"["q_proj","v_proj"]"#, 3_407_872),
        ("llama-3.2-1b", 16, ALL, 11_272_192),
    ] {
        let config = format!(r#"{{"peft_type":"LORA","r":{rank},"target_modules":{targets}}}"#);
        let adapter = Adapter::parse("a", &config).unwrap();
        assert_eq!(
            adapter.weights(&described(model).1),
            Ok(published),
            "{model} {targets}"
        );
    }
}

#[test]
fn layers_may_be_chosen_and_modules_have_to_be_there() {
    let model = described("llama-3.1-8b").1;
    let of = |more: &str| {
        let config = format!(r#"{{"r":16,"target_modules":{ALL}{more}}}"#);
        Adapter::parse("a", &config).unwrap().weights(&model)
    };
    assert_eq!(of(r#","layers_to_transform":[0,1]"#), Ok(41_943_040 / 16));
    let wrong = Adapter::parse("a", r#"{"r":16,"target_modules":["wqkv"]}"#).unwrap();
    assert!(wrong.weights(&model).unwrap_err().contains("wqkv"));
}
