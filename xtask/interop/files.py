"""GGUF files read and written by gguf-py, with ggml's own encoders.

In: paths. Out: files, and what they differ in. Must not: judge.
"""
import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize as decode

import llama

_PLAIN = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


def _values(tensor):
    return np.asarray(decode(tensor.data, tensor.tensor_type), dtype=np.float32)


def _error(values, truth):
    """Root mean square of the difference, relative to that of the truth."""
    difference = values.astype(np.float64) - truth
    return float(np.sqrt((difference**2).sum() / max((truth.astype(np.float64) ** 2).sum(), 1e-30)))


def reencode(source, like, output):
    """Writes the weights of `source` as ggml encodes them in the types of `like`; says of each
    quantized tensor whether `like` has the same bytes, and both errors."""
    origin = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
    reader = GGUFReader(like)
    writer = GGUFWriter(output, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, part = field.types[0], field.types[-1]
        writer.add_key_value(name, field.contents(), kind, part if kind == GGUFValueType.ARRAY else None)
    rows = []
    for tensor in reader.tensors:
        kind, data = tensor.tensor_type, tensor.data
        if kind not in _PLAIN:
            truth = _values(origin[tensor.name])
            data = llama.quantize(truth, int(kind)).reshape(tensor.data.shape)
            rows.append({
                "name": tensor.name, "type": kind.name, "same": bool((data == tensor.data).all()),
                "error": _error(_values(tensor), truth), "ggml": _error(decode(data, kind), truth),
            })
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"tensors": rows}


def dequantize(file, output):
    """Writes all values as floats, one tensor behind the other; their names, types and counts."""
    rows = []
    with open(output, "wb") as out:
        for tensor in GGUFReader(file).tensors:
            values = np.ascontiguousarray(_values(tensor)).reshape(-1)
            out.write(values.astype("<f4").tobytes())
            rows.append({"name": tensor.name, "type": tensor.tensor_type.name, "count": int(values.size)})
    return {"tensors": rows}


def importance(model, legacy, gguf):
    """An importance matrix for the matrices of `model`, in both forms of llama.cpp's imatrix tool."""
    random = np.random.RandomState(5)
    entries = {
        tensor.name: (random.standard_normal(int(tensor.shape[0])) ** 2 + 0.01).astype(np.float32)
        for tensor in GGUFReader(model).tensors
        if len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    }
    chunks, dataset = 4, b"noise"
    with open(legacy, "wb") as out:
        out.write(struct.pack("<i", len(entries)))
        for name, values in entries.items():
            out.write(struct.pack("<i", len(name)) + name.encode())
            out.write(struct.pack("<ii", chunks, values.size) + (values * chunks).tobytes())
        out.write(struct.pack("<ii", chunks, len(dataset)) + dataset)
    writer = GGUFWriter(gguf, "")
    writer.kv_data[0].pop("general.architecture", None)
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", [dataset.decode()])
    writer.add_uint32("imatrix.chunk_count", chunks)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in entries.items():
        writer.add_tensor(f"{name}.in_sum2", (values * chunks).reshape(1, -1))
        writer.add_tensor(f"{name}.counts", np.array([[chunks]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"entries": len(entries), "bytes": Path(gguf).stat().st_size}


def _activations(file):
    """Counts and mean squares of an importance matrix by the name of the weight, a row for each of its matrices."""
    parts = {tensor.name: np.asarray(tensor.data, dtype=np.float64) for tensor in GGUFReader(file).tensors}
    suffix, out = ".in_sum2", {}
    for name in [name.removesuffix(suffix) for name in parts if name.endswith(suffix)]:
        counts = parts[f"{name}.counts"].reshape(-1)
        sums = parts[name + suffix].reshape(counts.size, -1)
        out[name] = counts, sums / np.maximum(counts, 1)[:, None]
    return out


def importance_apart(ours, theirs):
    """Two importance matrices: the names that theirs and that ours alone has, and of each other weight the counts and how
    far its columns are apart at most, as a share of the column or of the mean over the columns of the same matrix,
    whichever is larger. Nothing about the columns where their numbers differ, nor of an expert that other rows reached:
    a router that two roundings turn sends a row elsewhere."""
    ours, theirs = _activations(ours), _activations(theirs)
    rows = []
    for name in sorted(ours.keys() & theirs.keys()):
        (counts, squares), (their_counts, their_squares) = ours[name], theirs[name]
        rows.append({"name": name, "counts": counts.tolist(), "their_counts": their_counts.tolist()})
        if squares.shape == their_squares.shape:
            scale = np.maximum(their_squares, their_squares.mean(-1, keepdims=True))
            apart = np.abs(squares - their_squares) / np.maximum(scale, 1e-30)
            rows[-1]["apart"] = float(apart[counts == their_counts].max(initial=0.0))
    missing, more = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    return {"missing": missing, "more": more, "tensors": rows}
