//! What the environment says about servers: the hub and the token for it, whether the network may be used, where caches
//! are. The variables are those of `huggingface_hub`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Purpose;
use super::client::Token;
use crate::checkpoint::Stores;
use crate::input;
use crate::units::Bytes;

/// The hub, where no other is named.
const HUB: &str = "https://huggingface.co";

/// How servers are used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// Whether headers are fetched again that are in the cache.
    pub refresh: bool,
    /// What the model is opened for.
    pub purpose: Purpose,
    /// The state of a repository that is gone on with, as [`crate::checkpoint::Source::pinned`]: its branch may have moved
    /// since.
    pub pinned: Option<String>,
    /// Whether files that pass are kept in the hub's own cache too.
    pub keep_source: bool,
    /// The user's folder for caches.
    pub(super) caches: Option<PathBuf>,
    /// The local stores, which are asked first.
    pub(super) stores: Stores,
}

impl Settings {
    /// The settings that the environment makes.
    pub fn from_env() -> Settings {
        let variable = |name: &str| std::env::var_os(name);
        Settings::from_variables(variable, std::env::home_dir(), Stores::from_env())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
        stores: Stores,
    ) -> Settings {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name)?.into_string().ok();
        let is_true = |name: &str| {
            let on = ["1", "on", "yes", "true"];
            text(name).is_some_and(|value| on.contains(&value.to_ascii_lowercase().as_str()))
        };
        let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.filter(|path| path.is_absolute());
        let caches = caches.or_else(|| home.map(|home| home.join(".cache")));
        let hub_home = set("HF_HOME").map(PathBuf::from);
        let hub_home = hub_home.or_else(|| Some(caches.as_ref()?.join("huggingface")));
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from);
        let token_file = token_file.or_else(|| Some(hub_home?.join("token")));
        let token = || {
            let named = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
            let stored = || input::read_text(token_file.as_deref()?, Bytes(1 << 12)).ok();
            Token::new(&named.or_else(stored)?)
        };
        Settings {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned()),
            token: (!is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
                .then(token)
                .flatten(),
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            refresh: false,
            purpose: Purpose::Plan,
            pinned: None,
            keep_source: false,
            caches,
            stores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_from_the_environment_before_the_file_and_never_shown() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let folder = home.path().to_string_lossy().into_owned();
        let check = |variables: &[(&str, &str)], expect: Option<&str>| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).into())
            };
            let settings = Settings::from_variables(variable, None, Stores::default());
            let expected = expect.and_then(Token::new);
            assert_eq!(settings.token, expected, "{variables:?}");
            assert!(!format!("{settings:?}").contains("hf_"));
        };
        check(&[], None);
        check(&[("HF_HOME", &folder)], Some("hf_file"));
        check(
            &[("HF_HOME", &folder), ("HF_TOKEN", "hf_word")],
            Some("hf_word"),
        );
        let off = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        check(&[("HF_HOME", &folder), off], None);
        let path = home.path().join("token").to_string_lossy().into_owned();
        check(&[("HF_TOKEN_PATH", &path)], Some("hf_file"));
    }

    #[test]
    fn the_network_is_off_when_the_hub_is_told_so() {
        let offline = |value: &str| {
            let variable = |name: &str| (name == "HF_HUB_OFFLINE").then(|| value.into());
            Settings::from_variables(variable, None, Stores::default()).offline
        };
        assert_eq!(
            ["1", "TRUE", "on", "0", ""].map(offline),
            [true, true, true, false, false]
        );
    }
}
