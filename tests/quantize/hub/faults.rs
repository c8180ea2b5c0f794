//! Servers that refuse, misbehave or lie: one line that says what is wrong and what to do, or the right result after all.

use std::fs;

use super::server::{Content, Fault, Repository, Served};
use super::{COMMIT, Desk, TOKEN, left, repository, same};

#[test]
fn a_refusal_says_what_to_do() {
    let desk = Desk::with_gated();
    let check = |name: &str, token: Option<&str>, parts: &[&str]| {
        let mut command = desk.command(&["fit", name]);
        token.map(|token| command.env("HF_TOKEN", token));
        let run = left(command.output().unwrap());
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{name}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        assert!(!run.err.contains("hf_"), "{}", run.err);
        for part in parts {
            assert!(run.err.contains(part), "{name}: {part}: {}", run.err);
        }
    };
    check(
        "org/gated",
        None,
        &["gated", "accept its terms", "HF_TOKEN"],
    );
    check(
        "org/gated",
        Some("hf_other"),
        &["gated", "your account may not read it"],
    );
    check(
        "org/none",
        None,
        &["no public repository org/none", "HF_TOKEN"],
    );
    check(
        "org/none",
        Some(TOKEN),
        &["no repository org/none", "spelling"],
    );
    check("org/tiny@v9", None, &["no branch, tag or commit `v9`"]);
    check("org/tiny/other.gguf", None, &["no file `other.gguf`"]);
    check(
        "org/tiny:Q4_K_M",
        None,
        &["no GGUF", "orinplan quantize org/tiny"],
    );
}

/// What a server that the hub led to says is not what the hub says of the repository; a token that is repeated stays out.
#[test]
fn a_refusal_is_that_of_who_refuses() {
    let desk = Desk::with_gated();
    let fit = |model: &str| {
        let mut command = desk.command(&["fit", model]);
        left(command.env("HF_TOKEN", TOKEN).output().unwrap())
    };
    for status in [403, 404] {
        desk.server.fault(
            "/cdn/org/tiny/model",
            usize::MAX,
            Fault::Status(status, vec![]),
        );
        let run = fit("org/tiny");
        let said = format!("refuses with status {status}");
        assert!(run.err.contains(&said), "{}", run.err);
        desk.server.mend();
    }
    desk.server
        .fault("resolve", usize::MAX, Fault::Status(404, vec![]));
    let run = fit("org/tiny");
    assert!(run.err.contains("has no such file"), "{}", run.err);
    desk.server.mend();
    let echo = ("x-error-message", "you sent hf_secretword");
    desk.server
        .fault("org/gated", usize::MAX, Fault::Status(418, vec![echo]));
    let run = fit("org/gated");
    assert!(run.err.contains("you sent (token)"), "{}", run.err);
    assert!(!run.err.contains(TOKEN), "{}", run.err);
}

#[test]
fn no_report_of_several_models_shows_a_signature() {
    let (desk, folder) = Desk::with_tiny();
    let plain = |file: &str| desk.server.url() + "/cdn/org/tiny/" + file + "?signature=secret";
    let there = plain("model.safetensors").replacen(&desk.server.url(), &desk.server.cdn(), 1);
    let missing = plain("other.safetensors").replacen(&desk.server.url(), &desk.server.cdn(), 1);
    let local = folder.to_str().unwrap();
    for format in ["text", "json", "markdown"] {
        for address in [&there, &missing] {
            let run = desk.run(&["fit", local, address, "--format", format]);
            assert!(!run.out.contains("secret"), "{format}: {}", run.out);
            assert!(!run.err.contains("secret"), "{format}: {}", run.err);
        }
        let save = desk.path("saved.json");
        let save = save.to_str().unwrap();
        let run = desk.run(&["board", local, &there, "--format", format, "--save", save]);
        assert!(!run.out.contains("secret"), "{format}: {}", run.out);
        if let Ok(saved) = fs::read_to_string(save) {
            assert!(!saved.contains("secret"), "{saved}");
        }
    }
    let run = desk.run(&["fit", "example.com/x.gguf?token=secret"]);
    assert!(!run.err.contains("secret"), "{}", run.err);
}

#[test]
fn a_token_is_sent_to_the_hub_alone() {
    let desk = Desk::with_gated();
    let mut command = desk.command(&["fit", "org/gated", "--format", "json"]);
    let run = left(command.env("HF_TOKEN", TOKEN).output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!run.out.contains(TOKEN) && !run.err.contains(TOKEN));
    let asked = desk.server.asked();
    for asked in &asked {
        let expected = (!asked.second).then_some(TOKEN);
        assert_eq!(asked.token.as_deref(), expected, "{}", asked.path);
    }
    assert!(asked.iter().any(|asked| asked.second));
    // Neither the token nor the signature of an address is kept.
    let mut open = vec![desk.path("cache")];
    let mut files = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        files += 1;
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("secret"), "{}", path.display());
    }
    assert!(files > 2);
}

#[test]
fn a_misbehaving_server_is_one_error() {
    let (desk, _) = Desk::with_tiny();
    let (api, file, cdn) = ("/api/models", "config.json", "/cdn/");
    for (part, fault, expect) in [
        (api, Fault::WebPage, "web page"),
        (file, Fault::WebPage, "web page"),
        (cdn, Fault::WebPage, "web page"),
        (api, Fault::EndlessRedirect, "redirected more than"),
        (cdn, Fault::EndlessRedirect, "redirected more than"),
        (
            file,
            Fault::RedirectTo("ftp://127.0.0.1/x".into()),
            "only https://",
        ),
        (cdn, Fault::Compressed, "compressed"),
        (file, Fault::Compressed, "compressed"),
        (cdn, Fault::WholeFile, "does not support range requests"),
        (cdn, Fault::OtherRange, "changed"),
        (cdn, Fault::OtherSize, "changed"),
        (cdn, Fault::LongLength, "were sent"),
        (api, Fault::Status(500, vec![]), "status 500"),
        (api, Fault::Status(429, vec![]), "HF_TOKEN"),
        (
            api,
            Fault::Status(429, vec![("retry-after", "3600")]),
            "wait 3600 s",
        ),
        (
            api,
            Fault::Status(404, vec![("x-error-code", "RevisionNotFound")]),
            "no branch",
        ),
        (cdn, Fault::Status(500, vec![]), "status 500"),
        (file, Fault::Flipped, "not the expected JSON"),
    ] {
        desk.server.fault(part, usize::MAX, fault);
        let error = desk.error(&["fit", "org/tiny", "--refresh"]);
        assert!(error.contains(expect), "{part}: {expect}: {error}");
        desk.server.mend();
    }
    desk.json(&["fit", "org/tiny", "--refresh"]);
}

#[test]
fn what_passes_is_tried_again() {
    let (desk, _) = Desk::with_tiny();
    let right = desk.json(&["fit", "org/tiny"])["plans"].clone();
    for (part, times, fault) in [
        (
            "/api/models",
            1,
            Fault::Status(429, vec![("retry-after", "1")]),
        ),
        (
            "/api/models",
            1,
            Fault::Status(429, vec![("ratelimit", "\"api\";r=0;t=1")]),
        ),
        ("/api/models", 2, Fault::Status(503, vec![])),
        ("/cdn/", 3, Fault::Cut(1000)),
        ("config.json", 1, Fault::Cut(20)),
        ("/cdn/", 1, Fault::Cut(0)),
    ] {
        desk.server.fault(part, times, fault);
        let plan = desk.json(&["fit", "org/tiny", "--refresh"]);
        assert_eq!(plan["plans"], right, "{part}");
        desk.server.mend();
    }
}

#[test]
fn a_path_of_a_repository_stays_in_its_folder() {
    let (desk, folder) = Desk::with_tiny();
    let mut evil = repository(&folder);
    for name in [
        "../../evil.json",
        "/evil.json",
        "..\\\\evil.json",
        "a/../../evil.json",
    ] {
        let file = Served {
            content: Content::of(b"{}".to_vec()),
            sha256: None,
        };
        evil.files.insert(name.to_owned(), file);
    }
    desk.server.put("org/evil", evil);
    desk.json(&["fit", "org/evil"]);
    let mut open = vec![desk.path(".")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            assert!(
                !path.to_string_lossy().contains("evil.json"),
                "{}",
                path.display()
            );
        }
    }
    // Nor does an index lead out of it.
    let mut evil = repository(&folder);
    let weights = evil.files.remove("model.safetensors").unwrap();
    evil.files
        .insert("a-00001-of-00001.safetensors".to_owned(), weights);
    let index = br#"{"weight_map":{"x":"../../../model.safetensors"}}"#.to_vec();
    evil.files.insert(
        "model.safetensors.index.json".to_owned(),
        super::served("x", index),
    );
    evil.commit = COMMIT.replace('0', "e");
    desk.server.put("org/evil", evil);
    let error = desk.error(&["fit", "org/evil"]);
    assert!(error.contains("not a plain file name"), "{error}");
}

#[test]
fn a_size_beyond_reason_is_refused() {
    let (desk, folder) = Desk::with_tiny();
    let mut large = repository(&folder);
    // A header of 90 MB.
    let bytes = 90_000_000u64.to_le_bytes().to_vec();
    let file = Served {
        content: Content::Begins(bytes.into(), 1 << 40),
        sha256: None,
    };
    large.files.insert("model.safetensors".to_owned(), file);
    desk.server.put("org/large", large);
    let error = desk.error(&["fit", "org/large"]);
    assert!(error.contains("more than the 64.0 MiB"), "{error}");
    let sent: u64 = desk.server.asked().iter().map(|asked| asked.sent).sum();
    assert!(sent < 1 << 20, "{sent}");
}

#[test]
fn a_file_of_any_server_that_changes_is_noticed() {
    let (desk, folder) = Desk::with_tiny();
    let path = desk.path("x.gguf");
    crate::build::quantize(&folder, "f16", &path, &[]);
    let bytes = fs::read(&path).unwrap();
    let files = [("x.gguf".to_owned(), super::served("x", bytes.clone()))].into();
    desk.server.put(
        "any/files",
        Repository {
            commit: COMMIT.to_owned(),
            files,
            ..Repository::default()
        },
    );
    // By the name of the machine, which is not that of the hub.
    let url = desk.server.url().replace("127.0.0.1", "localhost");
    let url = format!("{url}/any/files/resolve/main/x.gguf");
    let plan = desk.json(&["fit", &url]);
    assert_eq!(plan["model"]["source_bytes"], bytes.len());
    desk.server.asked();
    let known = desk.json(&["fit", &url, "--offline"]);
    assert!(known["plans"] == plan["plans"]);
    assert_eq!(desk.server.asked().len(), 0);
    let error = desk.error(&["fit", &url.replace("x.gguf", "z.gguf"), "--offline"]);
    assert!(error.contains("--offline"), "{error}");
    let output = desk.path("y.gguf");
    let args = [
        "quantize",
        &url,
        "--scheme",
        "f16",
        "--output",
        output.to_str().unwrap(),
    ];
    let run = desk.run(&args);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.err.contains("states no SHA-256"), "{}", run.err);
    let here = desk.path("here.gguf");
    crate::build::quantize(&path, "f16", &here, &[]);
    same(&output, &here);
    fs::remove_file(&output).unwrap();
    // After the question for its size, when its header is known.
    desk.server.fault_after("x.gguf", 1, Fault::OtherTag);
    desk.server.asked();
    let run = desk.run(&args);
    assert_eq!(run.code, 2, "{:?}", desk.server.asked());
    assert!(run.err.contains("changed"), "{}", run.err);
    assert!(!output.exists());
}
