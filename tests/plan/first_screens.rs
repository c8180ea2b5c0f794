//! What a terminal of 24 lines shows first: of every kind of plan no more than that, and nothing that is false.

use std::fs;
use std::path::Path;

use crate::support::fixtures;
use orinplan::evidence::boards::Link;
use orinplan::plan::boards::ServerPlace;
use orinplan::plan::draft::Draft;
use orinplan::planner::{
    self, Board, BoardRequest, ClusterRequest, Planner, Request, SharedModel, SharedRequest,
    SplitMode, WorkloadRequest,
};
use orinplan::report::boards;
use orinplan::report::devices::Links;
use orinplan::report::fit::several::{self, Side};
use orinplan::report::fit::{self, Report, View};
use orinplan::report::shared;
use orinplan::runtime::Runs;
use serde_json::{Value as Json, json};

/// The last line of a terminal is the shell's.
const ROWS: usize = 23;

const VIEW: View = View {
    columns: Some(80),
    formats: false,
    all: false,
    explain: false,
};

/// A checkpoint of a dense model with its weights, which take no room on the disk.
fn checkpoint(folder: &Path, name: &str, config: &Json) {
    let number = |key: &str| config[key].as_u64().unwrap();
    let (hidden, inner, vocab) = (
        number("hidden_size"),
        number("intermediate_size"),
        number("vocab_size"),
    );
    let head = hidden / number("num_attention_heads");
    let keys = head * number("num_key_value_heads");
    let mut tensors = vec![
        ("model.embed_tokens".to_owned(), vec![vocab, hidden]),
        ("model.norm".to_owned(), vec![hidden]),
        ("lm_head".to_owned(), vec![vocab, hidden]),
    ];
    for block in 0..number("num_hidden_layers") {
        let of_block = [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ];
        tensors
            .extend(of_block.map(|(part, shape)| (format!("model.layers.{block}.{part}"), shape)));
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (tensor, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(format!("{tensor}.weight"), entry);
    }
    let header = Json::Object(header).to_string();
    let directory = folder.join(name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let weights = directory.join("model.safetensors");
    let length = header.len() as u64;
    fs::write(
        &weights,
        [&length.to_le_bytes()[..], header.as_bytes()].concat(),
    )
    .unwrap();
    let weights = fs::File::options().append(true).open(weights).unwrap();
    weights.set_len(8 + length + end).unwrap();
}

fn dense(hidden: u64, blocks: u64, heads: u64, inner: u64) -> Json {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": 8,
        "intermediate_size": inner, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": false, "hidden_act": "silu",
    })
}

/// The shapes of a model of 8 B and of 14 B, beside each other.
fn large() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), "Dense-8B", &dense(4096, 32, 32, 14336));
    checkpoint(folder.path(), "Dense-14B", &dense(5120, 48, 40, 13824));
    folder
}

fn request(device: &str, runtime: &str, workload: WorkloadRequest) -> Request {
    Request {
        board: BoardRequest {
            device: Some(device.to_owned()),
            runtime: Some(runtime.to_owned()),
            ..BoardRequest::default()
        },
        workload,
        ..Request::default()
    }
}

fn usual() -> Request {
    request("orin-nano-8gb", "llama.cpp", WorkloadRequest::default())
}

fn with_context(context: u64) -> Request {
    let mut asked = usual();
    asked.workload.context = Some(context);
    asked
}

/// A board whose driver is known to grant 5 GiB at once, as a device file in `folder`.
fn strict(folder: &Path) -> String {
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/profiles/boards/orin-nano-8gb.toml"
    );
    let board = std::fs::read_to_string(shipped).unwrap();
    let granted = "value = \"6166843392 B\"";
    assert!(board.contains(granted));
    let path = folder.join("strict.toml");
    std::fs::write(&path, board.replace(granted, "value = \"5 GiB\"")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The text for one board; `None` where the runtime does not load the model.
fn one(planner: &Planner, request: &Request) -> Option<String> {
    let planned = planner.plan(request).ok()?;
    Some(fit::text(&Report::new(planner, &planned), None, VIEW))
}

/// The text of `--parallel auto`.
fn auto(planner: &Planner, request: &Request) -> Option<String> {
    let board = Board::open(&request.board).unwrap();
    let found = planner.throughput(&board, request, None).ok()?;
    let sequences = found.taken().map_or(1, |batch| batch.sequences);
    let request = planner::together(request, found.context_each, sequences);
    let planned = planner.plan_on(board, &request).ok()?;
    let report = Report::new(planner, &planned);
    Some(fit::text(&report, Some(&found), VIEW))
}

fn on_boards(planner: &Planner, request: &Request, named: &str) -> Option<String> {
    let asked = ClusterRequest {
        boards: ClusterRequest::named(named).unwrap(),
        link: Link::usual(),
        server: ServerPlace::Last,
        layers: None,
        mode: SplitMode::default(),
        addresses: Vec::new(),
    };
    let cluster = planner.plan_cluster(request, &asked).ok()?;
    let report = boards::Report {
        planner,
        asked: &asked,
        cluster: &cluster,
    };
    Some(boards::text(&report, VIEW))
}

/// Every kind of plan of a model, each with what it is.
fn all(planner: &Planner, draft: &Planner) -> Vec<(&'static str, String)> {
    let mut drafted = usual();
    let board = Board::open(&drafted.board).unwrap();
    drafted.workload.draft = draft.drafter(&board.runtime).ok().map(|by| Draft {
        by,
        acceptance: None,
    });
    let mut slow = usual();
    slow.preference.min_speed = Some(1e4);
    let on = |device: &str, runtime: &str| {
        one(
            planner,
            &request(device, runtime, WorkloadRequest::default()),
        )
    };
    let screens = [
        ("llama.cpp", one(planner, &usual())),
        ("ollama", on("orin-nano-8gb", "ollama")),
        ("vllm", on("orin-nx-16gb", "vllm")),
        ("mlc", on("orin-nano-8gb", "mlc")),
        ("tensorrt", on("orin-nx-16gb", "tensorrt-edge-llm")),
        ("4 GB", on("orin-nano-4gb", "llama.cpp")),
        ("a long context", one(planner, &with_context(12 << 10))),
        ("too long a context", one(planner, &with_context(1 << 20))),
        ("too slow", one(planner, &slow)),
        ("too slow, auto", auto(planner, &slow)),
        ("auto", auto(planner, &usual())),
        ("draft", one(planner, &drafted)),
        ("draft, auto", auto(planner, &drafted)),
        ("2 boards", on_boards(planner, &usual(), "2xorin-nano-8gb")),
        (
            "2 boards, long",
            on_boards(planner, &with_context(16 << 10), "2xorin-nano-8gb"),
        ),
        (
            "mixed boards",
            on_boards(
                planner,
                &usual(),
                "orin-nx-16gb@25W,orin-nano-8gb,orin-nano-8gb",
            ),
        ),
        ("8 boards", on_boards(planner, &usual(), "8xorin-nano-4gb")),
    ];
    let screens = screens.into_iter();
    screens
        .filter_map(|(kind, text)| Some((kind, text?)))
        .collect()
}

fn rows(text: &str) -> usize {
    let rows = text.lines().map(|line| line.chars().count().div_ceil(80));
    rows.map(|rows| rows.max(1)).sum()
}

/// Nothing above the rows, the verdict first, and no sentence twice.
#[track_caller]
fn holds(model: &str, folder: &Path, draft: &Planner) {
    let planner = Planner::open(folder.join(model).to_str().unwrap()).unwrap();
    let screens = all(&planner, draft);
    assert!(screens.len() >= 4, "{model}: {}", screens.len());
    for (kind, text) in screens {
        // As if named from its folder.
        let text = text.replace(&format!("{}/", folder.display()), "");
        let text = text.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/"), "");
        let rows = rows(&text);
        assert!(rows <= ROWS, "{model}, {kind}: {rows}\n{text}");
        let verdicts = ["FITS", "DOES NOT FIT", "TOO SLOW", "NO NUMBER"];
        let has_verdict = verdicts.iter().any(|verdict| text.starts_with(verdict));
        assert!(has_verdict, "{model}, {kind}\n{text}");
        assert!(!text.contains(" 0 B "), "{model}, {kind}\n{text}");
        let is_no = !text.starts_with("FITS");
        let advises = text.contains("What to change");
        assert!(!is_no || advises, "{model}, {kind}: no way out\n{text}");
        let mut notes: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("note: "))
            .collect();
        let told = notes.len();
        notes.dedup();
        assert_eq!(notes.len(), told, "{model}, {kind}\n{text}");
    }
}

fn drafter() -> Planner {
    Planner::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/qwen3-0.6b")).unwrap()
}

#[test]
fn every_plan_of_a_fixture_is_a_screen() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"));
    for fixture in fixtures() {
        holds(&fixture, folder, &drafter());
    }
}

#[test]
fn every_plan_of_a_large_model_is_a_screen() {
    let folder = large();
    for model in ["Dense-8B", "Dense-14B"] {
        holds(model, folder.path(), &drafter());
    }
}

/// Of models side by side, those that have rows; the last line counts the others, and `--all` shows them.
#[test]
fn many_models_are_a_screen() {
    let (planner, asked) = (drafter(), usual());
    let planned = planner.plan(&asked).unwrap();
    let side = Side {
        model: "qwen3-0.6b",
        planned: Ok(Report::new(&planner, &planned)),
    };
    let many = vec![side; 40];
    let text = several::text(&many, VIEW);
    assert!(rows(&text) <= ROWS, "{text}");
    let shown = text.lines().filter(|line| line.contains(" FITS ")).count();
    let more = format!("--all: {} models", 40 - shown);
    assert!(shown > 10 && text.contains(&more), "{text}");
    let whole = several::text(&many, View { all: true, ..VIEW });
    assert_eq!(whole.matches(" FITS ").count(), 40);
    let piped = several::text(
        &many,
        View {
            columns: None,
            ..VIEW
        },
    );
    assert_eq!(piped.matches(" FITS ").count(), 40);
}

/// A driver that refuses an allocation is no lack of memory: the verdict, the advice and the note say it once each at most.
#[test]
fn a_refusal_is_told_as_one() {
    let folder = large();
    let planner = Planner::open(folder.path().join("Dense-14B").to_str().unwrap()).unwrap();
    let mut asked = with_context(512);
    asked.board.device = Some(strict(folder.path()));
    let planned = planner.plan(&asked).unwrap();
    let report = Report::new(&planner, &planned);
    let text = fit::text(&report, None, VIEW);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let advice = "nothing fits: even Q2_K needs one allocation of 5.";
    assert!(flat.contains(advice), "{text}");
    assert!(
        flat.contains("; L4T R36.5.0 grants 5.00 GiB; use a smaller model"),
        "{text}"
    );
    assert!(flat.contains(" refused "), "{text}");
    for wrong in [
        "note: one allocation",
        "barely fits",
        "smaller format",
        "too big",
    ] {
        assert!(!flat.contains(wrong), "{wrong}: {text}");
    }
    // What a narrow terminal has no column for stands below the table.
    let narrow = View {
        columns: Some(40),
        ..VIEW
    };
    let text = fit::text(&report, None, narrow);
    assert!(text.contains("allocation"), "{text}");
}

/// The first clause of the note that a large model has on the usual board says what to do, and has room.
#[test]
fn the_first_note_says_what_to_do() {
    let folder = large();
    let planner = Planner::open(folder.path().join("Dense-8B").to_str().unwrap()).unwrap();
    let text = one(&planner, &usual()).unwrap();
    let note = text
        .lines()
        .find(|line| line.starts_with("note: "))
        .unwrap();
    assert!(
        note.starts_with("note: update to JetPack 6.2.2: L4T R36.4.7 refuses one allocation of 4."),
        "{text}"
    );
    assert!(note.ends_with(" GiB"), "{text}");
}

/// What a line below a table explains is in the table.
#[test]
fn a_narrow_screen_explains_what_it_shows() {
    let planner = drafter();
    let planned = planner.plan(&usual()).unwrap();
    let report = Report::new(&planner, &planned);
    for columns in [40, 60, 80, 200] {
        let view = View {
            columns: Some(columns),
            ..VIEW
        };
        let text = fit::text(&report, None, view);
        let head = text.lines().find(|line| line.contains("format ")).unwrap();
        let has_column = head.contains(" quality");
        assert_eq!(text.contains("quality: "), has_column, "{columns}\n{text}");
        assert!(text.contains("by power mode: "), "{columns}\n{text}");
    }
}

/// Of boards too: a line below their table is about columns that it has, and a board's own numbers are all there.
#[test]
fn a_list_of_boards_explains_what_it_shows_and_a_board_shows_all() {
    let boards = crate::support::boards();
    for columns in [40, 60, 80, 120] {
        let text = orinplan::report::devices::list_text(&boards, Some(columns));
        let head = text.lines().next().unwrap();
        for (column, meaning) in [("available", "`available`: "), ("bandwidth", "bandwidth: ")] {
            let is_shown = head.contains(column);
            assert_eq!(text.contains(meaning), is_shown, "{columns}\n{text}");
        }
        let shown = orinplan::report::devices::show_text(
            &boards[1],
            &Runs::default(),
            Some(columns),
            Links::Hidden,
        );
        for number in ["SMs", "CPU", "memory clock", "INT8 sparse", "FP32"] {
            let (_, modes) = shown.split_once("Power modes").unwrap();
            assert!(modes.contains(number), "{columns}: {number}\n{shown}");
        }
    }
}

/// Sequences for which the driver refuses a buffer are told from those without room, and what is too slow is not best.
#[test]
fn numbers_of_sequences_say_why_they_are_not_taken() {
    let planner = drafter();
    let folder = tempfile::tempdir().unwrap();
    let mut strict_board = usual();
    strict_board.board.device = Some(strict(folder.path()));
    let text = auto(&planner, &strict_board).unwrap();
    assert!(text.contains("\n refused  "), "{text}");
    assert!(
        text.contains("refused: L4T R36.5.0 grants no allocation above 5.00 GiB"),
        "{text}"
    );
    let mut slow = usual();
    slow.preference.min_speed = Some(1e4);
    let text = auto(&planner, &slow).unwrap();
    assert!(
        text.starts_with("TOO SLOW: no number of sequences"),
        "{text}"
    );
    assert!(
        text.contains("\n too slow ") && !text.contains("best"),
        "{text}"
    );
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let way_out = "the fastest that fit, with --min-speed ";
    assert!(flat.contains(way_out), "{text}");
}

/// And of several models on a board.
#[test]
fn a_table_of_models_explains_what_it_shows() {
    let planners = [drafter(), drafter()];
    let base = usual();
    let model = |name: &str| SharedModel {
        name: name.to_owned(),
        model: name.to_owned(),
        request: base.clone(),
        priority: 1,
        on_demand: false,
    };
    let asked = SharedRequest {
        models: vec![model("one"), model("two")],
        programs: Vec::new(),
        storage: Default::default(),
    };
    let device = Board::device(&base.board).unwrap();
    let plan = asked.plan(&planners, &device).unwrap();
    let report = shared::Report {
        request: &asked,
        planners: &planners,
        plan: &plan,
    };
    for columns in [40, 60, 80, 120, 200] {
        let text = shared::text(&report, Some(columns));
        let (table, below) = text.rsplit_once("peak").unwrap();
        for (column, meaning) in [
            ("the rest", "the rest: "),
            ("max ctx", "max ctx: "),
            ("loads in", "files load at"),
        ] {
            let is_shown = table.contains(column);
            assert_eq!(
                below.contains(meaning),
                is_shown,
                "{columns}, {column}\n{text}"
            );
        }
    }
}
