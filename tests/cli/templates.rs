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
