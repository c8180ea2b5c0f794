//! Examples of each command, below its help and in its man page.

pub(super) const TOP: &str = "\
Examples:
  orinplan fit Qwen/Qwen3-8B --device orin-nx-16gb           does it fit, and how fast is it
  orinplan models --device orin-nano-8gb                     what runs on a board, the best first
  orinplan quantize MODEL --scheme q4_k_m --output model.gguf
  orinplan validate model.gguf                               predicted against measured, on this machine";

pub(super) const FIT: &str = "\
Examples:
  orinplan fit Qwen/Qwen3-8B                                 from the headers on the server
  orinplan fit model.gguf --context 16k --kv-type q8_0       a longer context in a smaller cache
  orinplan fit MODEL --device orin-nx-16gb --power-mode 25W  another board
  orinplan fit MODEL --runtime vllm --format json            for scripts
  orinplan fit MODEL --save plan.json                        then, in CI:
  orinplan fit MODEL --check plan.json                       exit 1 and a list of what changed
  orinplan fit A B C                                         side by side
  orinplan fit MODEL --boards 2xorin-nano-8gb --link 1gbe    one model on two boards
  orinplan fit MODEL --format html --output plan.html        a page with figures
  orinplan fit MODEL --watch                                 then start the server";

pub(super) const BOARD: &str = "\
Examples:
  orinplan board Qwen/Qwen3-4B Qwen/Qwen3-Embedding-0.6B     two models at once
  orinplan board plan.toml                                   with programs, contexts and priorities

FILE.toml:
  device = \"orin-nano-8gb\"        # optional, as are power_mode and storage
  [[model]]
  model = \"Qwen/Qwen3-1.7B\"       # or a path, from this file's folder
  name = \"chat\"                   # optional, as are runtime, scheme, context, parallel, kv_type, text_only, adapters
  priority = 1                    # 1 comes first
  load = \"resident\"               # or \"on-demand\": loaded on request, in turn with others
  [[program]]
  name = \"camera\"
  memory = \"450MiB\"";

pub(super) const MODELS: &str = "\
Examples:
  orinplan models --device orin-nano-8gb                     best first
  orinplan models --task vision --license apache-2.0,mit --context 32k --min-speed 20
  orinplan models --all                                      also what does not fit, with its board";

pub(super) const QUANTIZE: &str = "\
Examples:
  orinplan quantize MODEL --scheme q4_k_m --output model-Q4_K_M.gguf
  orinplan quantize MODEL --scheme q4_k_m --dry-run          the same table; writes nothing
  orinplan quantize Qwen/Qwen3-8B --scheme q4_k_m --output qwen3-8b.gguf   while the weights stream
  orinplan quantize MODEL --scheme int4 --output model-INT4  a directory for vLLM
  orinplan quantize MODEL --target-size 1.2GiB --output model.gguf         types by measurement
  orinplan quantize MODEL --projector --scheme f16 --output mmproj.gguf    the image encoder";

pub(super) const PULL: &str = "\
Examples:
  orinplan pull Qwen/Qwen3-8B --scheme q4_k_m --output qwen3-8b.gguf";

pub(super) const IMATRIX: &str = "\
Examples:
  orinplan imatrix MODEL --text mine.txt --output imatrix.gguf
  orinplan quantize MODEL --scheme iq3_xxs --imatrix imatrix.gguf --output model.gguf";

pub(super) const COMPARE: &str = "\
Examples:
  orinplan compare model-F16.gguf model-Q4_K_M.gguf model-Q5_K_M.gguf
  orinplan compare model-F16.gguf model-Q4_K_M.gguf --text mine.txt --keep reference.kld
  orinplan compare model-F16.gguf model-Q4_K_M.gguf --format html > quality.html";

pub(super) const VALIDATE: &str = "\
Examples:
  orinplan validate model.gguf                               with this program's own decoder
  orinplan validate model.gguf --backend llama-bench
  orinplan validate model.gguf --backend openai --url http://127.0.0.1:8080
  orinplan validate qwen3:0.6b --backend ollama
  orinplan validate model.gguf --save-calibration            later plans learn from it";

pub(super) const CALIBRATE: &str = "\
Examples:
  orinplan calibrate                                         a minute, at most three
  orinplan fit MODEL --device host                           then uses the measurements";

pub(super) const ROOFLINE: &str = "\
Examples:
  orinplan roofline model.gguf --power-mode 15W
  orinplan roofline --nominal gemma3:1b:1e9:4.5 --nominal qwen3:0.6b:0.6B:8";

pub(super) const INSPECT: &str = "\
Examples:
  orinplan inspect model.gguf                                every tensor, its shape and type
  orinplan inspect Qwen/Qwen3-8B --format json               of headers on the server";

pub(super) const DEVICES: &str = "\
Examples:
  orinplan devices                                           all boards
  orinplan devices show orin-nano-8gb                        every number with its source
  orinplan devices detect --format json > board.json         describe this machine; then, elsewhere:
  orinplan fit MODEL --device board.json";

pub(super) const CONFIG: &str = "\
Examples:
  orinplan config set device orin-nx-16gb
  orinplan config                                            every setting and its source
  ORINPLAN_DEVICE=agx-orin-64gb orinplan fit MODEL           overrides the file; flags override both";

pub(super) const COMPLETIONS: &str = "\
Examples:
  orinplan completions bash > ~/.local/share/bash-completion/completions/orinplan
  orinplan completions zsh > ~/.zfunc/_orinplan
  orinplan completions fish > ~/.config/fish/completions/orinplan.fish";

pub(super) const MAN: &str = "\
Examples:
  orinplan man | man -l -                                    this page
  orinplan man --output ~/.local/share/man/man1              and those of all commands";
