//! The chat template that comes with a tokenizer: messages in, the prompt's text out.
//!
//! Templates are Jinja with Python's string methods, as Transformers renders them. A template is
//! untrusted code, and a limit on its steps does not bound a single step (`'a' * 10**9`): it is rendered
//! in a process of its own (`sandbox`). Must not: render in the process that runs the model.

use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::thread;

use minijinja::{Environment, Error, ErrorKind, context};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::sandbox::Renderer;
use super::{DecodeError, TemplateFault, Tokenizer};

/// Steps after which a template is stopped; real ones take some thousands.
pub const FUEL: u64 = 10_000_000;

/// The longest template; the longest known have 30 kB.
const LENGTH_LIMIT: usize = 128 << 10;

/// Room for the parser to nest as deep as a template has characters, 4 KiB a level.
const STACK: usize = LENGTH_LIMIT * 4096;

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A template with all that it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// Jinja.
    pub template: String,
    /// The token that begins a text, or nothing.
    pub begin: String,
    /// The token that ends it.
    pub end: String,
    /// The messages so far, oldest first.
    pub messages: Vec<Message>,
}

/// The prompt for an answer to `messages`, special tokens included as names.
///
/// # Errors
/// No template beside the tokenizer, one that fails (the message says where) or goes beyond the bounds of
/// [`Renderer`], or `cancel`.
pub fn prompt(
    tokenizer: &Tokenizer,
    messages: &[Message],
    renderer: &Renderer,
    cancel: &AtomicBool,
) -> Result<String, DecodeError> {
    let Some(template) = tokenizer.chat_template() else {
        return Err(DecodeError::template(
            "the model has none; give a plain prompt",
        ));
    };
    let (begin, end) = tokenizer.begin_and_end();
    let chat = Chat {
        template: template.to_owned(),
        begin: begin.unwrap_or_default().to_owned(),
        end: end.unwrap_or_default().to_owned(),
        messages: messages.to_vec(),
    };
    chat.check_length()?;
    renderer.render(&chat, cancel)
}

/// What is wrong with `template` whatever the messages are: that it is no Jinja, or that it had to be stopped with one
/// message. `None` also where that cannot be tried.
pub fn template_fault(template: &str, renderer: &Renderer, cancel: &AtomicBool) -> Option<String> {
    let message = Message {
        role: "user".to_owned(),
        content: "Hello".to_owned(),
    };
    let chat = Chat {
        template: template.to_owned(),
        begin: String::new(),
        end: String::new(),
        messages: vec![message],
    };
    match renderer.render(&chat, cancel) {
        Err(DecodeError::Template { what, fault }) if fault != TemplateFault::Fails => Some(what),
        _ => None,
    }
}

impl Chat {
    fn check_length(&self) -> Result<(), DecodeError> {
        match self.template.len() {
            0..=LENGTH_LIMIT => Ok(()),
            bytes => Err(DecodeError::template(format!(
                "it has {bytes} bytes, above the limit of {LENGTH_LIMIT}; give a plain prompt"
            ))),
        }
    }

    /// Renders the template in this process, of which it may take all memory: call it only in one
    /// that has limits, as [`Renderer`] does. It ends after `fuel` steps at the latest, however
    /// long each is, and finds room for any depth.
    ///
    /// # Errors
    /// [`DecodeError::Template`], in one line.
    pub fn render_here(&self, fuel: u64) -> Result<String, DecodeError> {
        self.check_length()?;
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK);
            let rendered = thread.spawn_scoped(scope, || render(self, fuel));
            let rendered = rendered.map_err(|error| DecodeError::template(error.to_string()))?;
            rendered
                .join()
                .unwrap_or_else(|_| Err(DecodeError::template("the template engine failed")))
        })
    }
}

/// The marks with which Transformers finds what the model wrote. They are no part of a prompt, and no Jinja of others.
static GENERATION: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the pattern is valid")]
    Regex::new(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}").expect("a pattern")
});

fn render(chat: &Chat, fuel: u64) -> Result<String, DecodeError> {
    let in_a_line = |error: Error| DecodeError::Template {
        what: error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        fault: match error.kind() {
            ErrorKind::SyntaxError => TemplateFault::Syntax,
            _ => TemplateFault::Fails,
        },
    };
    let mut environment = Environment::new();
    environment.set_fuel(Some(fuel));
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
    let template = GENERATION.replace_all(&chat.template, "{#$1 $2#}");
    environment
        .add_template("chat", &template)
        .map_err(in_a_line)?;
    let messages: Vec<_> = chat
        .messages
        .iter()
        .map(|message| context! { role => message.role, content => message.content })
        .collect();
    let rendered = environment.get_template("chat").and_then(|template| {
        template.render(context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => chat.begin,
            eos_token => chat.end,
        })
    });
    rendered.map_err(in_a_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(template: &str) -> Result<String, DecodeError> {
        let message = |role: &str, content: &str| Message {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let chat = Chat {
            template: template.to_owned(),
            begin: "<s>".to_owned(),
            end: "</s>".to_owned(),
            messages: vec![message("system", "Be brief."), message("user", " Hi ")],
        };
        chat.render_here(FUEL)
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
    fn marks_of_what_the_model_wrote_and_loop_controls_are_no_errors() {
        let template = "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}\
            {%- generation -%}{{ m.content }}{%- endgeneration -%}{% break %}{% endfor %}";
        assert_eq!(ask(template).ok().as_deref(), Some(" Hi "));
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

    #[test]
    fn templates_may_nest_as_deep_as_they_are_long() {
        let deep = |begin: &str, unit: &str, end: &str| {
            let room = LENGTH_LIMIT - begin.len() - end.len();
            format!("{begin}{}{end}", unit.repeat(room / unit.len()))
        };
        for template in [
            deep("{{", "not ", "x }}"),
            deep("{{", "-", "1 }}"),
            deep("{{ a", ".a", " }}"),
            deep("{{ 1", "+1", " }}"),
            deep("{{", "(", " }}"),
            deep("{% if a %}", "{% elif a %}", "{% endif %}"),
            deep("", "{% if a %}", ""),
        ] {
            // An answer or an error; what matters is that there is one.
            let _ = ask(&template);
        }
        let message = ask(&"x".repeat(LENGTH_LIMIT + 1)).unwrap_err().to_string();
        assert!(message.contains("above the limit of 131072"), "{message}");
    }
}
