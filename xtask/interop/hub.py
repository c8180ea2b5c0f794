"""Downloads a repository as Hugging Face's own client does, or finds it in its cache, and prints the folder."""

import sys

from huggingface_hub import snapshot_download

repository, offline = sys.argv[1], sys.argv[2] == "offline"
print(snapshot_download(repository, local_files_only=offline))
