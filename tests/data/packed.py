"""Writes packed.json: small weights in every packed layout, with the values they mean.

Values come from the definition of each layout, one element at a time (AutoGPTQ, AutoAWQ,
bitsandbytes, compressed-tensors, MLX, gpt-oss, ModelOpt); needs numpy only.
    python3 tests/data/packed.py > tests/data/packed.json
"""
import json
import numpy as np

rng = np.random.default_rng(7)
cases = []


def f8(code, exponent_bits):  # OCP 8-bit floats, by definition; NaN codes are not used here
    mantissa_bits = 7 - exponent_bits
    bias = (1 << (exponent_bits - 1)) - 1
    sign, e, m = code >> 7, (code >> mantissa_bits) & ((1 << exponent_bits) - 1), code & ((1 << mantissa_bits) - 1)
    value = 2.0 ** (1 - bias) * m / (1 << mantissa_bits) if e == 0 else 2.0 ** (e - bias) * (1 + m / (1 << mantissa_bits))
    return -value if sign else value


E2M1 = [0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def f8codes(shape, e=4):
    codes = rng.integers(0, 256, shape, dtype=np.uint8)
    bad = (codes & 0x7F) >= (0x7F if e == 4 else 0x7C)
    return np.where(bad, 0x30, codes).astype(np.uint8)


def scales(shape, dtype="BF16"):
    v = rng.uniform(0.002, 0.03, shape).astype(np.float32)
    if dtype == "BF16":
        return (v.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return v.astype(np.float16).astype(np.float32) if dtype == "F16" else v


def raw(array, dtype):
    a = np.ascontiguousarray(array)
    if dtype == "BF16":
        return (a.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    kinds = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U32": np.uint32, "I8": np.int8}
    return a.astype(kinds.get(dtype, np.uint8)).tobytes()


def stream(rows, bits):
    """Codes of each row, lowest bits first, in 32-bit words."""
    out = []
    for row in rows:
        n = sum(int(c) << (bits * i) for i, c in enumerate(row))
        words = -(-len(row) * bits // 32)
        out.append([(n >> (32 * w)) & 0xFFFFFFFF for w in range(words)])
    return np.array(out, dtype=np.uint32).view(np.int32)


def case(name, config, tensors, values):
    cases.append({
        "name": name, "config": config,
        "tensors": [{"name": n, "dtype": d, "shape": list(np.shape(a)), "hex": raw(a, d).hex()} for n, d, a in tensors],
        "shape": list(values.shape), "values": [float(np.float32(v)) for v in values.ravel()],
    })


def quant(method, **more):
    return {"quantization_config": {"quant_method": method, **more}}


def ct(weights):
    return quant("compressed-tensors", config_groups={"group_0": {"weights": weights}})


# FP8, blocks that do not divide the matrix (128 is made 4 here)
c, s = f8codes((6, 10)), scales((2, 3))
case("fp8 in blocks", quant("fp8", weight_block_size=[4, 4]),
     [("a.weight", "F8_E4M3", c), ("a.weight_scale_inv", "BF16", s)],
     np.array([[f8(int(c[r, k]), 4) * s[r // 4, k // 4] for k in range(10)] for r in range(6)]))
c, s = f8codes((5, 6)), scales((5, 1))
case("fp8 per row", quant("compressed-tensors"), [("a.weight", "F8_E4M3", c), ("a.weight_scale", "BF16", s)],
     np.array([[f8(int(c[r, k]), 4) * s[r, 0] for k in range(6)] for r in range(5)]))
c, s = f8codes((3, 6), 5), scales((), "F32")
case("fp8 e5m2 per tensor", quant("modelopt"), [("a.weight", "F8_E5M2", c), ("a.weight_scale", "F32", s)],
     np.array([[f8(int(c[r, k]), 5) * s for k in range(6)] for r in range(3)]))
c, s = f8codes((2, 4, 6)), scales((2, 2, 2))
case("fp8 experts in blocks", quant("fp8", weight_block_size=[2, 4]),
     [("a.weight", "F8_E4M3", c), ("a.weight_scale_inv", "BF16", s)],
     np.array([[[f8(int(c[e, r, k]), 4) * s[e, r // 2, k // 4] for k in range(6)] for r in range(4)] for e in range(2)]))

# compressed-tensors integers
for bits in (4, 8, 3):
    q, s = rng.integers(-(1 << bits - 1), 1 << bits - 1, (3, 40)), scales((3, 5))
    case(f"compressed-tensors {bits} bit", ct({"num_bits": bits, "group_size": 8}),
         [("a.weight_packed", "I32", stream(q + (1 << bits - 1), bits)), ("a.weight_scale", "BF16", s),
          ("a.weight_shape", "I64", np.array([3, 40]))],
         np.array([[q[r, k] * s[r, k // 8] for k in range(40)] for r in range(3)]))
q, s, z = rng.integers(-8, 8, (10, 13)), scales((10, 2)), rng.integers(-8, 8, (10, 2))
case("compressed-tensors asymmetric, short last word", ct({"num_bits": 4, "group_size": 8}),
     [("a.weight_packed", "I32", stream(q + 8, 4)), ("a.weight_scale", "BF16", s),
      ("a.weight_zero_point", "I32", stream((z + 8).T, 4).T), ("a.weight_shape", "I64", np.array([10, 13]))],
     np.array([[(q[r, k] - z[r, k // 8]) * s[r, k // 8] for k in range(13)] for r in range(10)]))
q, s, g = rng.integers(-8, 8, (2, 16)), scales((2, 4)), rng.integers(0, 4, 16)
case("compressed-tensors with group indices", ct({"num_bits": 4, "group_size": 4}),
     [("a.weight_packed", "I32", stream(q + 8, 4)), ("a.weight_scale", "BF16", s),
      ("a.weight_g_idx", "I32", g), ("a.weight_shape", "I64", np.array([2, 16]))],
     np.array([[q[r, k] * s[r, g[k]] for k in range(16)] for r in range(2)]))
q, s, z = rng.integers(-128, 128, (3, 8)), scales((3, 1)), rng.integers(-128, 128, (3, 1))
case("compressed-tensors int8 per row", ct({"num_bits": 8}),
     [("a.weight", "I8", q), ("a.weight_scale", "BF16", s), ("a.weight_zero_point", "I8", z)],
     np.array([[(q[r, k] - z[r, 0]) * s[r, 0] for k in range(8)] for r in range(3)]))

# AWQ: output 8 n + order[i] lies in nibble i
q, z, s = rng.integers(0, 16, (8, 16)), rng.integers(0, 16, (2, 16)), scales((2, 16), "F16")
order = [8 * n + o for n in range(2) for o in AWQ_ORDER]
case("awq", quant("awq", bits=4, group_size=4, version="gemm"),
     [("a.qweight", "I32", stream(q[:, order], 4)), ("a.qzeros", "I32", stream(z[:, order], 4)), ("a.scales", "F16", s)],
     np.array([[(q[i, o] - z[i // 4, o]) * s[i // 4, o] for i in range(8)] for o in range(16)]))

# GPTQ: packed along the inputs; version 1 stores zeros less one
for bits, form, indices in ((4, "gptq", None), (8, "gptq", None), (2, "gptq_v2", None), (3, "gptq", None), (4, "gptq_v2", True)):
    ins, outs = 32, 32 if bits == 3 else 16
    q, s = rng.integers(0, 1 << bits, (ins, outs)), scales((4, outs), "F16")
    less = 1 if form == "gptq" else 0
    z = rng.integers(less, (1 << bits) + less, (4, outs))
    g = rng.integers(0, 4, ins) if indices else np.arange(ins) // 8
    case(f"{form} {bits} bit{' with group indices' if indices else ''}",
         quant("gptq", bits=bits, group_size=8, checkpoint_format=form),
         [("a.qweight", "I32", stream(q.T, bits).T), ("a.qzeros", "I32", stream(z - less, bits)),
          ("a.scales", "F16", s), ("a.g_idx", "I32", g)],
         np.array([[(q[i, o] - z[g[i], o]) * s[g[i], o] for i in range(ins)] for o in range(outs)]))

# MXFP4 of gpt-oss, NVFP4 of compressed-tensors (divides) and ModelOpt (multiplies)
c, e = rng.integers(0, 256, (2, 3, 2, 16)), rng.integers(120, 130, (2, 3, 2))
nib = lambda b, k: E2M1[(int(b[k // 2]) >> (4 * (k % 2))) & 15]
case("mxfp4", quant("mxfp4"), [("a.gate_up_proj_blocks", "U8", c), ("a.gate_up_proj_scales", "U8", e)],
     np.array([[[nib(c[x, r].ravel(), k) * 2.0 ** (int(e[x, r, k // 32]) - 127) for k in range(64)] for r in range(3)] for x in range(2)]))
c, b = rng.integers(0, 256, (3, 16)), f8codes((3, 2)) & 0x7F
case("nvfp4 of compressed-tensors", ct({"num_bits": 4, "group_size": 16}),
     [("a.weight_packed", "U8", c), ("a.weight_scale", "F8_E4M3", b), ("a.weight_global_scale", "F32", np.array([2048.0]))],
     np.array([[nib(c[r], k) * (f8(int(b[r, k // 16]), 4) / 2048) for k in range(32)] for r in range(3)]))
case("nvfp4 of modelopt", quant("modelopt", quant_algo="NVFP4"),
     [("a.weight", "U8", c), ("a.weight_scale", "F8_E4M3", b), ("a.weight_scale_2", "F32", np.float32(0.001953125))],
     np.array([[nib(c[r], k) * (f8(int(b[r, k // 16]), 4) * 0.001953125) for k in range(32)] for r in range(3)]))

# bitsandbytes: the high nibble first; maxima plain or quantized again
code_map = np.sort(rng.uniform(-1, 1, 16)).astype(np.float32)
c, m = rng.integers(0, 256, (24, 1)), scales((3,), "F32")
flat = [int(b) >> s & 15 for b in c.ravel() for s in (4, 0)]
state = lambda **more: np.frombuffer(json.dumps({"quant_type": "nf4", "blocksize": 16, "dtype": "bfloat16", "shape": [4, 12], **more}).encode(), np.uint8)
case("nf4", quant("bitsandbytes", load_in_4bit=True),
     [("a.weight", "U8", c), ("a.weight.absmax", "F32", m), ("a.weight.quant_map", "F32", code_map),
      ("a.weight.quant_state.bitsandbytes__nf4", "U8", state())],
     np.array([code_map[q] * m[i // 16] for i, q in enumerate(flat)]).reshape(4, 12))
nested_map, inner, outer = rng.uniform(-1, 1, 256).astype(np.float32), rng.integers(0, 256, 3), scales((2,), "F32")
case("nf4 with nested maxima", quant("bitsandbytes", load_in_4bit=True),
     [("a.weight", "U8", c), ("a.weight.absmax", "U8", inner), ("a.weight.quant_map", "F32", code_map),
      ("a.weight.nested_absmax", "F32", outer), ("a.weight.nested_quant_map", "F32", nested_map),
      ("a.weight.quant_state.bitsandbytes__nf4", "U8", state(nested_blocksize=2, nested_dtype="float32", nested_offset=0.0625))],
     np.array([code_map[q] * (nested_map[inner[i // 16]] * outer[i // 32] + 0.0625) for i, q in enumerate(flat)]).reshape(4, 12))
q, m = rng.integers(-127, 128, (3, 5)), scales((3,), "F32") * 50
case("int8 of bitsandbytes", quant("bitsandbytes", load_in_8bit=True),
     [("a.weight", "I8", q), ("a.SCB", "F32", m), ("a.weight_format", "U8", np.uint8(0))],
     np.array([[q[r, k] * m[r] / 127 for k in range(5)] for r in range(3)]))

# MLX
for bits in (2, 3, 4, 5, 6, 8):
    q, s, b = rng.integers(0, 1 << bits, (2, 64)), scales((2, 2)), -scales((2, 2))
    case(f"mlx {bits} bit", {"quantization": {"group_size": 32, "bits": bits}},
         [("a.weight", "U32", stream(q, bits).view(np.uint32)), ("a.scales", "BF16", s), ("a.biases", "BF16", b)],
         np.array([[q[r, k] * s[r, k // 32] + b[r, k // 32] for k in range(64)] for r in range(2)]))

print("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]")
