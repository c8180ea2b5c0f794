//! Examples of each command, below its help and in its man page: what a line does stands above it. Each keeps within 80
//! columns, so that it can be copied.

pub(super) const TOP: &str = "\
Examples:
  # does it fit, and how fast is it
  orinplan fit Qwen/Qwen3-8B --device orin-nx-16gb
  # what runs on a board, the best first
  orinplan models --device orin-nano-8gb
  orinplan quantize MODEL --scheme q4_k_m --output model.gguf
  # predicted against measured, on this machine
  orinplan validate model.gguf";

pub(super) const FIT: &str = "\
Examples:
  # from the headers on the server
  orinplan fit Qwen/Qwen3-8B
  # a longer context in a smaller cache
  orinplan fit model.gguf --context 16k --kv-type q8_0
  # another board
  orinplan fit MODEL --device orin-nx-16gb --power-mode 25W
  # for scripts
  orinplan fit MODEL --runtime vllm --format json
  # once; then in CI: exit 1 and a list of what changed
  orinplan fit MODEL --save plan.json
  orinplan fit MODEL --check plan.json
  # side by side
  orinplan fit A B C
  # one model on two boards
  orinplan fit MODEL --boards 2xorin-nano-8gb --link 1gbe
  # a page with figures
  orinplan fit MODEL --format html --output plan.html
  # then start the server
  orinplan fit MODEL --watch";

pub(super) const BOARD: &str = "\
Examples:
  # two models at once
  orinplan board Qwen/Qwen3-4B Qwen/Qwen3-Embedding-0.6B
  # with programs, contexts and priorities
  orinplan board plan.toml

FILE.toml:
  # optional, as are power_mode and storage
  device = \"orin-nano-8gb\"
  [[model]]
  # or a path, from this file's folder
  model = \"Qwen/Qwen3-1.7B\"
  # optional, as are runtime, scheme, context, parallel,
  # kv_type, text_only and adapters
  name = \"chat\"
  # 1 comes first
  priority = 1
  # or \"on-demand\": loaded on request, in turn with others
  load = \"resident\"
  [[program]]
  name = \"camera\"
  memory = \"450MiB\"";

pub(super) const MODELS: &str = "\
Examples:
  # best first
  orinplan models --device orin-nano-8gb
  orinplan models --task vision --license apache-2.0,mit --context 32k
  # also what does not fit, with its board
  orinplan models --all";

pub(super) const QUANTIZE: &str = "\
Examples:
  orinplan quantize MODEL --scheme q4_k_m --output model-Q4_K_M.gguf
  # the same table; writes nothing
  orinplan quantize MODEL --scheme q4_k_m --dry-run
  # while the weights stream
  orinplan quantize Qwen/Qwen3-8B --scheme q4_k_m --output qwen3-8b.gguf
  # a directory for vLLM
  orinplan quantize MODEL --scheme int4 --output model-INT4
  # types by measurement
  orinplan quantize MODEL --target-size 1.2GiB --output model.gguf
  # the image encoder
  orinplan quantize MODEL --projector --scheme f16 --output mmproj.gguf";

pub(super) const PULL: &str = "\
Examples:
  orinplan pull Qwen/Qwen3-8B --scheme q4_k_m --output qwen3-8b.gguf";

pub(super) const IMATRIX: &str = "\
Examples:
  orinplan imatrix MODEL --text mine.txt --output mine.gguf
  orinplan quantize MODEL --scheme iq3_xxs --imatrix mine.gguf --output iq3.gguf";

pub(super) const COMPARE: &str = "\
Examples:
  orinplan compare F16.gguf Q4_K_M.gguf Q5_K_M.gguf
  orinplan compare F16.gguf Q4_K_M.gguf --text mine.txt --keep reference.kld
  orinplan compare F16.gguf Q4_K_M.gguf --format html > quality.html";

pub(super) const VALIDATE: &str = "\
Examples:
  # with this program's own decoder
  orinplan validate model.gguf
  orinplan validate model.gguf --backend llama-bench
  orinplan validate model.gguf --backend openai --url http://127.0.0.1:8080
  orinplan validate qwen3:0.6b --backend ollama
  # later plans learn from it
  orinplan validate model.gguf --save-calibration";

pub(super) const CALIBRATE: &str = "\
Examples:
  # a minute, at most three; where llama-bench is in PATH the GPU, a minute more
  orinplan calibrate
  orinplan calibrate --program ~/llama.cpp/build/bin/llama-bench
  # what was measured of the GPU is surest in this power mode: again in another
  orinplan calibrate --only gpu
  # then uses the measurements
  orinplan fit MODEL --device host";

pub(super) const ROOFLINE: &str = "\
Examples:
  orinplan roofline model.gguf --power-mode 15W
  orinplan roofline --nominal gemma3:1b:1e9:4.5 --nominal qwen3:0.6b:0.6B:8";

pub(super) const INSPECT: &str = "\
Examples:
  # every tensor, its shape and type
  orinplan inspect model.gguf
  # of headers on the server
  orinplan inspect Qwen/Qwen3-8B --format json";

pub(super) const DEVICES: &str = "\
Examples:
  # all boards
  orinplan devices
  # every number with its source
  orinplan devices show orin-nano-8gb
  # on a board; then elsewhere
  orinplan devices detect --format json > board.json
  orinplan fit MODEL --device board.json";

pub(super) const CONFIG: &str = "\
Examples:
  orinplan config set device orin-nx-16gb
  # every setting and its source
  orinplan config
  # overrides the file; flags override both
  ORINPLAN_DEVICE=agx-orin-64gb orinplan fit MODEL";

pub(super) const COMPLETIONS: &str = "\
Examples:
  orinplan completions bash \\
    > ~/.local/share/bash-completion/completions/orinplan
  orinplan completions zsh > ~/.zfunc/_orinplan
  orinplan completions fish > ~/.config/fish/completions/orinplan.fish";

pub(super) const MAN: &str = "\
Examples:
  # this page
  orinplan man | man -l -
  # and those of all commands
  orinplan man --output ~/.local/share/man/man1";
