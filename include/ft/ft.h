/*
 * libft: transformer inference behind a stable C ABI. This header brings in all of the public ones.
 *
 * Conventions. Every call that can fail returns ft_status, and its out-parameters come first. Options structs
 * start with struct_size and have an _INIT macro; a NULL pointer means the defaults; they only ever grow at the
 * end, and a smaller struct_size of an older program is honoured. Handles are opaque; who owns what, and which
 * threads may call, is said at each declaration.
 */
#ifndef FT_FT_H
#define FT_FT_H

#include <ft/checkpoint.h>
#include <ft/convert.h>
#include <ft/device.h>
#include <ft/export.h>
#include <ft/forward.h>
#include <ft/generate.h>
#include <ft/model.h>
#include <ft/status.h>
#include <ft/tensor.h>
#include <ft/version.h>

#endif /* FT_FT_H */
