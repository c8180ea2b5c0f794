"""Reads a Modelfile as Ollama's own client does, and prints it with every file that it found as `@digest`."""

import sys
from pathlib import Path

import ollama

client = ollama.Client()
# Nothing is sent to a server: the name of the file will do for its digest.
client._create_blob = lambda path: Path(path).name
path = Path(sys.argv[1])
sys.stdout.write(client._parse_modelfile(path.read_text(), base=path.parent))
