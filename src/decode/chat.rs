//! The chat template that a GGUF carries: messages in, the prompt's text out.
//!
//! Templates are Jinja with Python's string methods, as Transformers renders them. Must not: let a
//! template run for ever or read files.

use minijinja::{Environment, Error, ErrorKind, context};

use super::{DecodeError, Tokenizer};
use crate::checkpoint::{Checkpoint, RawConfig};

/// Steps after which a template is stopped; real ones take some thousands.
const FUEL: u64 = 10_000_000;

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The prompt for an answer to `messages`, special tokens included as names.
///
/// # Errors
/// No template in the file, or one that fails: the message says where.
pub fn prompt(
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    messages: &[Message],
) -> Result<String, DecodeError> {
    let RawConfig::Gguf(metadata) = &checkpoint.config else {
        return Err(DecodeError::NotGguf);
    };
    let Some(template) = metadata.str("tokenizer.chat_template")? else {
        return Err(DecodeError::Template {
            what: "the file has none; give a plain prompt".to_owned(),
        });
    };
    let (begin, end) = tokenizer.begin_and_end();
    render(
        template,
        begin.unwrap_or_default(),
        end.unwrap_or_default(),
        messages,
    )
}

fn render(
    template: &str,
    begin: &str,
    end: &str,
    messages: &[Message],
) -> Result<String, DecodeError> {
    let failed = |error: Error| DecodeError::Template {
        what: error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    // No clock: the same prompt every time. This is the day that Llama's template falls back to.
    environment.add_function("strftime_now", |_: String| "26 Jul 2024");
    environment.add_template("chat", template).map_err(failed)?;
    let messages: Vec<_> = messages
        .iter()
        .map(|message| context! { role => message.role, content => message.content })
        .collect();
    let rendered = environment.get_template("chat").and_then(|chat| {
        chat.render(context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => begin,
            eos_token => end,
        })
    });
    rendered.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(template: &str) -> Result<String, DecodeError> {
        let message = |role: &str, content: &str| Message {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        render(
            template,
            "<s>",
            "</s>",
            &[message("system", "Be brief."), message("user", " Hi ")],
        )
    }

    #[test]
    fn templates_render_as_transformers_renders_them() {
        // ChatML, and the shape of Llama 2's with Python methods.
        let chatml = "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}\
            {%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";
        assert_eq!(
            ask(chatml).ok().as_deref(),
            Some(
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"
            )
        );
        let llama = "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% endif %}\n\
            {{ bos_token }}{% for m in rest %}[INST] {{ m['content'].strip() }} [/INST]{% endfor %}";
        assert_eq!(ask(llama).ok().as_deref(), Some("<s>[INST] Hi [/INST]"));
    }

    #[test]
    fn templates_that_fail_say_so_in_one_line() {
        for (template, says) in [
            (
                "{{ raise_exception('only users may speak') }}",
                "only users may speak",
            ),
            ("{% for %}", "syntax error"),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
                "fuel",
            ),
        ] {
            let message = ask(template).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
