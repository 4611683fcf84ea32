"""libft from another language: generation through Python's ctypes, with no binding at all.

    python ffi.py LIBFT_SO MODEL "504 3575 282"

Any language that can call C does the same: load the library, declare the few functions, pass pointers. A struct is
given its size in its first field, and whatever follows it may stay zero only where zero is the default, so fill
FT_GENERATE_OPTIONS_INIT's values in as below, or pass NULL for all defaults.
"""

import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_uint64, c_void_p


class GenerateOptions(ctypes.Structure):
    """ft_generate_options of include/ft/generate.h."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("max_new_tokens", c_int32),
        ("min_new_tokens", c_int32),
        ("do_sample", c_int32),
        ("temperature", c_float),
        ("top_k", c_int32),
        ("top_p", c_float),
        ("min_p", c_float),
        ("repetition_penalty", c_float),
        ("presence_penalty", c_float),
        ("frequency_penalty", c_float),
        ("no_repeat_ngram_size", c_int32),
        ("seed", c_uint64),
        ("stop_token_ids", POINTER(c_int32)),
        ("num_stop_token_ids", c_int32),
        ("bad_words", POINTER(c_int32)),
        ("bad_word_lengths", POINTER(c_int32)),
        ("num_bad_words", c_int32),
        ("logprobs", c_int32),
    )


TOKEN_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, c_int32, c_void_p)


def load(path: str) -> ctypes.CDLL:
    """Opens the library and declares what this program calls."""
    ft = ctypes.CDLL(path)
    ft.ft_last_error.restype = c_char_p
    ft.ft_version.restype = c_char_p
    ft.ft_model_open.argtypes = (POINTER(c_void_p), c_char_p, c_void_p)
    ft.ft_model_close.argtypes = (c_void_p,)
    ft.ft_session_create.argtypes = (POINTER(c_void_p), c_void_p, c_void_p)
    ft.ft_session_destroy.argtypes = (c_void_p,)
    ft.ft_session_submit.argtypes = (
        POINTER(c_void_p),
        c_void_p,
        POINTER(c_int32),
        c_size_t,
        POINTER(GenerateOptions),
        TOKEN_CALLBACK,
        c_void_p,
        c_void_p,
    )
    ft.ft_request_wait.argtypes = (c_void_p,)
    ft.ft_request_release.argtypes = (c_void_p,)
    return ft


def main(library: str, source: str, ids: str) -> None:
    ft = load(library)

    def check(status: int) -> None:
        if status != 0:
            raise RuntimeError(ft.ft_last_error().decode())

    model, session, request = c_void_p(), c_void_p(), c_void_p()
    check(ft.ft_model_open(byref(model), source.encode(), None))
    check(ft.ft_session_create(byref(session), model, None))

    options = GenerateOptions(
        struct_size=ctypes.sizeof(GenerateOptions),
        max_new_tokens=12,
        temperature=1.0,
        top_p=1.0,
        repetition_penalty=1.0,
        num_stop_token_ids=-1,
    )
    prompt = [int(token) for token in ids.replace(",", " ").split()]
    tokens: list[int] = []

    @TOKEN_CALLBACK
    def on_token(_request: int, token: int, _user_data: int) -> int:
        tokens.append(token)
        return 0

    array = (c_int32 * len(prompt))(*prompt)
    check(ft.ft_session_submit(byref(request), session, array, len(prompt), byref(options), on_token, None, None))
    check(ft.ft_request_wait(request))
    print(*tokens)

    ft.ft_request_release(request)
    ft.ft_session_destroy(session)
    ft.ft_model_close(model)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
