//! Reads `tokenizer.json` (of Hugging Face's `tokenizers`) in one pass: vocabulary and merges, which may have a million
//! entries, directly into [`StringList`]s, and what conversion needs of the rest. Must not: check what it reads.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::input;
use crate::units::Bytes;

/// The largest `tokenizer.json` read. The largest published are about 35 MB.
const LIMIT: Bytes = Bytes(256 << 20);

/// The most steps of a pipeline. Real ones have up to ten.
const STEPS: usize = 256;

/// What conversion needs of the file. If a `tokenizer.model` has the vocabulary, `M` is a type that skips the model,
/// which is nearly all of the file.
#[derive(Debug, Deserialize)]
#[serde(bound = "M: Deserialize<'de>")]
pub(super) struct TokenizerJson<M = Model> {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Normalizer<Normalizer>>,
    pub(super) pre_tokenizer: Option<PreTokenizerStep<PreTokenizerStep>>,
    pub(super) post_processor: Option<Processor<Processor>>,
    pub(super) model: M,
}

impl TokenizerJson {
    /// The id of the token with this text.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        let mut added = self.added_tokens.iter();
        let added = added
            .find(|token| token.content == text)
            .map(|token| token.id);
        let mut pairs = self.model.vocab.pieces.iter().zip(&self.model.vocab.ids);
        added.or_else(|| pairs.find(|(piece, _)| *piece == text).map(|(_, id)| *id))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) byte_fallback: bool,
    /// The unknown token of Unigram.
    pub(super) unk_id: Option<u32>,
    pub(super) vocab: Vocab,
    #[serde(default, deserialize_with = "merges")]
    pub(super) merges: StringList,
}

/// The texts of tokens in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Vocab {
    pub(super) pieces: StringList,
    pub(super) ids: Vec<u32>,
    /// One per piece for Unigram, else empty.
    pub(super) scores: Vec<f32>,
}

/// A change of the text before it is split. A `Sequence` has inner ones; nested sequences, which `tokenizers` does not
/// write, are ignored.
#[derive(Debug, Deserialize)]
#[serde(bound = "Inner: Deserialize<'de>")]
pub(super) struct Normalizer<Inner = IgnoredAny> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "short_list")]
    pub(super) normalizers: Vec<Inner>,
    pub(super) lowercase: Option<bool>,
    pub(super) strip_accents: Option<bool>,
    /// Unigram's map of characters, in base 64.
    pub(super) precompiled_charsmap: Option<String>,
}

/// A step of splitting text into words; a `Sequence` has inner ones.
#[derive(Debug, Deserialize)]
#[serde(bound = "Inner: Deserialize<'de>")]
pub(super) struct PreTokenizerStep<Inner = IgnoredAny> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "short_list")]
    pub(super) pretokenizers: Vec<Inner>,
    pub(super) pattern: Option<Pattern>,
    pub(super) individual_digits: Option<bool>,
    pub(super) use_regex: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) enum Pattern {
    Regex(String),
    String(String),
}

/// A post-processor, which adds tokens around a text; a `Sequence` has inner ones.
#[derive(Debug, Deserialize)]
#[serde(bound = "Inner: Deserialize<'de>")]
pub(super) struct Processor<Inner = IgnoredAny> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "short_list")]
    pub(super) processors: Vec<Inner>,
    #[serde(default, deserialize_with = "short_list")]
    pub(super) single: Vec<TemplatePiece>,
    #[serde(default, deserialize_with = "short_list")]
    pub(super) pair: Vec<TemplatePiece>,
    pub(super) cls: Option<(String, IgnoredAny)>,
    pub(super) sep: Option<(String, IgnoredAny)>,
}

/// One piece of a post-processor's template.
#[derive(Debug, Deserialize)]
pub(super) enum TemplatePiece {
    SpecialToken { id: String },
    Sequence { id: String },
}

impl TemplatePiece {
    /// The special token that it stands for; `None` for the text itself.
    pub(super) fn special(&self) -> Option<&str> {
        match self {
            TemplatePiece::SpecialToken { id } => Some(id),
            TemplatePiece::Sequence { .. } => None,
        }
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// [`ConvertError::Open`] if it is not a text file of at most 256 MiB, [`ConvertError::Json`], with line and column, if
/// it is not the JSON that `tokenizers` writes.
pub(super) fn read<M: DeserializeOwned>(path: &Path) -> Result<TokenizerJson<M>, ConvertError> {
    let text = input::read_text(path, LIMIT)?;
    serde_json::from_str(&text).map_err(|source| ConvertError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Deserializes `null` as the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Deserializes a list of at most [`STEPS`] entries, which take more memory than text; `null` is an empty list.
fn short_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {STEPS}")
        }
        fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == STEPS {
                    return Err(A::Error::invalid_length(STEPS + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_any(Few(PhantomData))
}

/// Appends a string to the open string of the list, with each space replaced by the second field.
struct Append<'a>(&'a mut StringList, &'static str);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token's text")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.1 {
            mark if mark != " " && text.contains(' ') => self.0.append(&text.replace(' ', mark)),
            _ => self.0.append(text),
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vocab, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids, or a list of tokens with scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vocab, A::Error> {
                let mut vocab = Vocab::default();
                while entries
                    .next_key_seed(Append(&mut vocab.pieces, " "))?
                    .is_some()
                {
                    vocab.pieces.close();
                    vocab.ids.push(entries.next_value()?);
                }
                Ok(vocab)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vocab, A::Error> {
                let mut vocab = Vocab::default();
                while entries.next_element_seed(Scored(&mut vocab))?.is_some() {
                    let id = u32::try_from(vocab.ids.len()).map_err(A::Error::custom)?;
                    vocab.ids.push(id);
                }
                Ok(vocab)
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// One `[token, score]` pair of Unigram.
struct Scored<'a>(&'a mut Vocab);

impl<'de> DeserializeSeed<'de> for Scored<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Scored<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token and its score")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<(), A::Error> {
        let none = |at| A::Error::invalid_length(at, &"a token and its score");
        pair.next_element_seed(Append(&mut self.0.pieces, " "))?
            .ok_or_else(|| none(0))?;
        self.0.pieces.close();
        let score: f64 = pair.next_element()?.ok_or_else(|| none(1))?;
        self.0.scores.push(score as f32);
        while pair.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

fn merges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StringList, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = StringList;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of merges")
        }
        fn visit_unit<E: Error>(self) -> Result<StringList, E> {
            Ok(StringList::default())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StringList, A::Error> {
            let mut list = StringList::default();
            while items.next_element_seed(Merge(&mut list))?.is_some() {
                list.close();
            }
            Ok(list)
        }
    }
    deserializer.deserialize_any(List)
}

/// A merge: `"a b"`, or `["a", "b"]` if the parts may contain spaces. GGUF separates the parts by a space, so spaces
/// within them become `Ġ`.
struct Merge<'a>(&'a mut StringList);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge of two tokens")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let pair = text.split_once(' ');
        if !pair.is_some_and(|(first, second)| !first.is_empty() && !second.is_empty()) {
            return Err(E::invalid_value(
                Unexpected::Str(text),
                &"a merge of two tokens with a space between",
            ));
        }
        self.0.append(text);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        let none = |at| A::Error::invalid_length(at, &"two tokens");
        parts
            .next_element_seed(Append(&mut *self.0, "Ġ"))?
            .ok_or_else(|| none(0))?;
        self.0.append(" ");
        parts
            .next_element_seed(Append(&mut *self.0, "Ġ"))?
            .ok_or_else(|| none(1))?;
        match parts.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(none(3)),
        }
    }
}
