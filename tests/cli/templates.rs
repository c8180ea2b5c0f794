//! The hidden command that renders chat templates: whatever a template does, its process ends within
//! its limits.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::support::command;

fn rendered(template: &str) -> Output {
    let chat = serde_json::json!({
        "template": template, "begin": "<s>", "end": "</s>",
        "messages": [{ "role": "user", "content": " Hi " }],
    });
    let mut child = command()
        .arg("render-template")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let given = child
        .stdin
        .take()
        .unwrap()
        .write_all(chat.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    given.unwrap();
    output
}

#[test]
fn a_template_is_rendered_or_told_to_be_wrong() {
    let right = rendered("{{ bos_token }}{{ messages[0].content.strip() }}");
    assert_eq!(
        (right.status.code(), &*right.stdout),
        (Some(0), &b"<s>Hi"[..])
    );
    let wrong = rendered("{{ raise_exception('no') }}");
    assert_eq!(wrong.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("no"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_template_that_takes_too_much_ends() {
    let nested = format!("{{{{ {} x }}}}", "not ".repeat(30_000));
    for template in [
        "{{ [1]|batch(10000000000,'x')|list|length }}",
        "{{ 'x'.count('') }}",
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{{ 'a' * 100000000000 }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}",
        &nested,
    ] {
        let output = rendered(template);
        // Ended by the system, or an error of the engine; the deep one may have an answer.
        let code = output.status.code();
        assert!(
            matches!(code, None | Some(3)) || template == nested,
            "{template:.60}: {code:?}"
        );
        assert!(output.stdout.len() < 1 << 20, "{template:.60}");
    }
}

/// The note names the fault, and the command that would end with it is not pasted unwarned.
#[test]
fn a_model_whose_template_is_no_jinja_is_planned_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.header.safetensors"] {
        let from = std::path::Path::new("fixtures/qwen3-0.6b").join(file);
        std::fs::copy(from, folder.path().join(file)).unwrap();
    }
    let noted = |template: &str| {
        std::fs::write(folder.path().join("tokenizer_config.json"), "{\"x\": 1}").unwrap();
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        let run = crate::support::run_with("fit --all", &[folder.path()]);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        run.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let wrong = noted("{{ foo( }}");
    assert!(
        wrong.contains("note: the chat template cannot be used here (syntax error")
            && wrong.contains("--chat-template chatml"),
        "{wrong}"
    );
    assert!(!noted("{{ messages[0].content }}").contains("chat template"));
    assert!(!noted("{{ raise_exception('only tools') }}").contains("chat template"));
}
