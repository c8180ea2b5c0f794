//! Special tokens: which ids they have, and which are added to every text. Follows `SpecialVocab` of
//! `gguf-py/gguf/vocab.py`: ids come from the tokenizer's files first and from `config.json` then;
//! what is added follows the post-processor, and where that says nothing, `tokenizer_config.json`.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::TokenizerFiles;
use super::json::{Normalizer, Processor, TemplatePiece};
use crate::convert::Pairs;
use crate::gguf::{StringList, Value};
use crate::model::conversion::SpecialToken;

/// The kinds of special tokens, with GGUF's name if it has one.
const KINDS: &[(&str, Option<&str>)] = &[
    ("bos", Some("bos")),
    ("eos", Some("eos")),
    ("unk", Some("unknown")),
    ("sep", Some("seperator")),
    ("pad", Some("padding")),
    ("cls", None),
    ("mask", Some("mask")),
];
/// The kinds that an end-of-text token gets if the template ends in another token.
const FORMER_ENDS: &[(&str, Option<&str>)] = &[("eot", Some("eot")), ("eom", Some("eom"))];
/// Kinds with an `add_..._token` key.
const ADDABLE: &[&str] = &["bos", "eos", "sep"];

/// Special tokens in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    ids: Vec<(&'static str, Option<&'static str>, u64)>,
    added: Vec<(&'static str, bool)>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
}

/// The special tokens of a tokenizer; `model` is `config.json`.
pub(super) fn read<M>(files: &TokenizerFiles<'_, M>, model: &Json) -> SpecialTokens {
    let (json, config) = (files.json.as_ref().map(|(_, json)| json), &files.config);
    let mut special = SpecialTokens::default();
    let mut names = NamedTokens {
        config: !config.is_empty(),
        tokens: Vec::new(),
        former: 0,
    };
    for (kind, _) in KINDS.iter().chain(FORMER_ENDS) {
        if let Some(token) = config.get(&format!("{kind}_token")) {
            names.set(kind, token.clone());
        }
    }
    if let Some(json) = json {
        if let Some(normalizer) = &json.normalizer {
            special.read_normalizer(normalizer);
            for step in &normalizer.normalizers {
                special.read_normalizer(step);
            }
        }
        if names.config {
            names.fill("bos", names.get("cls").cloned());
            names.fill("eos", names.get("sep").cloned());
        }
        if let Some(processor) = &json.post_processor {
            special.read_post_processor(processor, &mut names);
            for step in &processor.processors {
                special.read_post_processor(step, &mut names);
            }
        }
    }
    let kinds = || KINDS.iter().chain(FORMER_ENDS.iter().take(names.former));
    if names.config {
        for &(kind, gguf) in kinds() {
            let flag = config.get(&format!("add_{kind}_token"));
            if let Some(flag) = flag.and_then(Json::as_bool) {
                special.add_default(kind, flag);
            }
            let content = names.get(kind).and_then(content);
            let mut added = json.into_iter().flat_map(|json| &json.added_tokens);
            if let Some(content) = content
                && let Some(token) = added.find(|token| token.content == content)
            {
                special.id(kind, gguf, token.id.into());
            }
        }
    }
    for &(kind, gguf) in kinds() {
        let key = format!("{kind}_token_id");
        let stated = model.get(&key).filter(|id| !id.is_null());
        let stated = stated.or_else(|| model.get("text_config")?.get(&key));
        if let Some(id) = stated.and_then(Json::as_u64) {
            special.id(kind, gguf, id);
        }
    }
    special
}

/// The texts of every token that a configuration names as special.
pub(super) fn named(config: &Map<String, Json>) -> HashSet<String> {
    let single = KINDS
        .iter()
        .filter_map(|(kind, _)| content(config.get(&format!("{kind}_token"))?));
    let lists = ["additional_special_tokens", "extra_special_tokens"];
    let listed = lists.into_iter().flat_map(|key| match config.get(key) {
        Some(Json::Array(items)) => items.iter().filter_map(content).collect(),
        Some(Json::Object(items)) => items.values().filter_map(content).collect(),
        _ => Vec::new(),
    });
    single.chain(listed).map(str::to_owned).collect()
}

/// Sets the id of a special token that GGUF calls `name`.
pub(super) fn add_id(pairs: &mut Pairs, name: &str, id: u32) {
    pairs.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
}

/// Sets whether the token of `kind` is added to every text.
pub(super) fn add_flag(pairs: &mut Pairs, kind: &str, flag: bool) {
    let key = format!("tokenizer.ggml.add_{kind}_token");
    pairs.set(&key, Value::Bool(flag));
}

/// A token's text, written as such or as an object.
pub(super) fn content(token: &Json) -> Option<&str> {
    match token {
        Json::String(text) => Some(text),
        other => other.get("content")?.as_str(),
    }
}

/// The special tokens as the post-processor reads and changes them.
struct NamedTokens {
    /// Whether there is a `tokenizer_config.json`.
    config: bool,
    tokens: Vec<(&'static str, Json)>,
    /// How many end-of-text tokens were replaced so far; an index into [`FORMER_ENDS`].
    former: usize,
}

impl NamedTokens {
    fn get(&self, kind: &str) -> Option<&Json> {
        let found = self.tokens.iter().find(|(name, _)| *name == kind);
        found.map(|(_, token)| token).filter(|token| truthy(token))
    }

    fn set(&mut self, kind: &'static str, token: Json) {
        match self.tokens.iter_mut().find(|(name, _)| *name == kind) {
            Some(entry) => entry.1 = token,
            None => self.tokens.push((kind, token)),
        }
    }

    /// Whether the token of `kind` is `token`.
    fn is(&self, kind: &str, token: &str) -> bool {
        self.get(kind).and_then(Json::as_str) == Some(token)
    }

    /// Gives `kind` a token if it has none.
    fn fill(&mut self, kind: &'static str, token: Option<Json>) {
        if let (None, Some(token)) = (self.get(kind), token) {
            self.set(kind, token);
        }
    }
}

fn truthy(token: &Json) -> bool {
    match token {
        Json::Null | Json::Bool(false) => false,
        Json::String(text) => !text.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

impl SpecialTokens {
    /// Sets the keys of ids (below `size` if one is given) and of what is added.
    pub(super) fn add(&self, pairs: &mut Pairs, size: Option<usize>) {
        for &(_, name, id) in &self.ids {
            let below = size.is_none_or(|size| id < size as u64);
            if let (Some(name), true, Ok(id)) = (name, below, u32::try_from(id)) {
                add_id(pairs, name, id);
            }
        }
        for &(kind, flag) in &self.added {
            if ADDABLE.contains(&kind) {
                add_flag(pairs, kind, flag);
            }
        }
    }

    pub(super) fn add_normalizer(&self, pairs: &mut Pairs) {
        let flags = [
            ("lowercase", self.lowercase),
            ("strip_accents", self.strip_accents),
        ];
        for (key, flag) in flags {
            if let Some(flag) = flag {
                let key = format!("tokenizer.ggml.normalizer.{key}");
                pairs.set(&key, Value::Bool(flag));
            }
        }
    }

    /// Sets the ids of tokens that are known by their text, where the files name none of the kind or another.
    pub(super) fn fill(&mut self, tokens: &[SpecialToken], texts: &StringList) {
        for token in tokens {
            let (kind, text, instead) = match *token {
                SpecialToken::Text { kind, text } => (kind, text, false),
                SpecialToken::Instead { kind, text } => (kind, text, true),
                SpecialToken::Suppressed { .. } | SpecialToken::Id { .. } => continue,
            };
            let mut kinds = KINDS.iter().chain(FORMER_ENDS);
            let gguf = kinds
                .find(|(name, _)| *name == kind)
                .and_then(|(_, gguf)| *gguf);
            if let Some(id) = texts.iter().position(|known| known == text) {
                match self.ids.iter_mut().find(|(known, ..)| *known == kind) {
                    Some(entry) if instead => entry.2 = id as u64,
                    _ => self.id(kind, gguf, id as u64),
                }
            }
        }
    }

    /// Sets the id of `kind`; the first id that is found counts.
    fn id(&mut self, kind: &'static str, gguf: Option<&'static str>, id: u64) {
        if !self.ids.iter().any(|(known, ..)| *known == kind) {
            self.ids.push((kind, gguf, id));
        }
    }

    fn set_added(&mut self, kind: &'static str, flag: bool) {
        match self.added.iter_mut().find(|(known, _)| *known == kind) {
            Some(entry) => entry.1 = flag,
            None => self.added.push((kind, flag)),
        }
    }

    fn add_default(&mut self, kind: &'static str, flag: bool) {
        if !self.added.iter().any(|(known, _)| *known == kind) {
            self.added.push((kind, flag));
        }
    }

    fn read_normalizer<Inner>(&mut self, normalizer: &Normalizer<Inner>) {
        match normalizer.kind.as_deref() {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                self.lowercase = normalizer.lowercase.or(self.lowercase);
                self.strip_accents = normalizer.strip_accents.or(self.strip_accents);
            }
            _ => {}
        }
    }

    fn read_post_processor<Inner>(&mut self, step: &Processor<Inner>, names: &mut NamedTokens) {
        match step.kind.as_deref() {
            Some("ByteLevel") => {
                self.add_default("bos", false);
                self.add_default("eos", false);
            }
            Some("RobertaProcessing") => {
                for kind in ["bos", "eos", "sep"] {
                    self.set_added(kind, true);
                }
                if names.config {
                    let text = |(text, _): &(String, _)| Json::String(text.clone());
                    let cls = step.cls.as_ref().map(text);
                    let sep = step.sep.as_ref().map(text);
                    names.fill("cls", cls.or(names.get("bos").cloned()));
                    names.fill("sep", sep.or(names.get("eos").cloned()));
                }
            }
            Some("TemplateProcessing") => self.read_template(&step.single, &step.pair, names),
            _ => {}
        }
    }

    /// Reads a template, such as `<s> A </s>` for a text and `<s> A </s> B </s>` for a pair of texts.
    fn read_template(
        &mut self,
        single: &[TemplatePiece],
        pair: &[TemplatePiece],
        names: &mut NamedTokens,
    ) {
        let text = |token: &str| Json::String(token.to_owned());
        let (mut first, mut last) = (None, None);
        if let [start, .., end] = single {
            (first, last) = (start.special(), end.special());
        }
        if let Some(first) = first {
            if !names.config {
                names.set("bos", text(first));
            } else if !names.is("bos", first) && !names.is("cls", first) {
                names.fill("bos", Some(text(first)));
                names.fill("cls", Some(text(first)));
            }
            self.set_added("bos", names.is("bos", first) || names.is("cls", first));
        }
        if let Some(last) = last {
            if names.config
                && !names.is("eos", last)
                && let Some((kind, _)) = FORMER_ENDS.get(names.former)
            {
                names.former += 1;
                let former = names.get("eos").cloned().unwrap_or(Json::Null);
                names.set(kind, former);
            }
            names.set("eos", text(last));
            self.set_added("eos", true);
        }
        let mut pair = pair;
        if let ([start, rest @ ..], Some(first)) = (pair, first)
            && start.special() == Some(first)
        {
            pair = rest;
        }
        if let ([rest @ .., end], Some(last)) = (pair, last)
            && end.special() == Some(last)
        {
            pair = rest;
        }
        let ends = |piece: &TemplatePiece, name: &str| matches!(piece, TemplatePiece::Sequence { id } if id == name);
        if let [a, middle @ .., b] = pair
            && let [separator, more @ ..] = middle
            && ends(a, "A")
            && ends(b, "B")
        {
            let separates = |piece: &TemplatePiece| {
                let token = piece.special();
                token.is_some_and(|token| names.is("sep", token) || names.is("eos", token))
            };
            let mut add = separates(separator) && last.is_none();
            if let [second] = more {
                add |= separates(second);
            }
            self.set_added("sep", add);
            if add && names.config {
                names.fill("sep", names.get("eos").cloned());
            }
        }
    }
}
