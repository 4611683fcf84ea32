/*
 * Status codes and the error message.
 *
 * Every call that can fail returns an ft_status: FT_OK (0) or a negative code. The message of the last failure
 * is kept per thread and names what was wrong and how to mend it. No call aborts, exits, prints or throws.
 */
#ifndef FT_STATUS_H
#define FT_STATUS_H

#include <ft/export.h>

FT_BEGIN_DECLS

typedef enum ft_status {
    FT_OK = 0,
    FT_ERROR_INVALID_ARGUMENT = -1, /* a NULL, a wrong shape, dtype, name or value; the caller's to mend */
    FT_ERROR_OUT_OF_MEMORY = -2,    /* host or device memory; the handles stay usable */
    FT_ERROR_CHECKPOINT = -3,       /* a file is absent, truncated, inconsistent or lacks tensors */
    FT_ERROR_UNSUPPORTED = -4,      /* understood, but this build or device cannot do it */
    FT_ERROR_CANCELLED = -5,        /* ft_request_cancel, or a callback that asked for it */
    FT_ERROR_PARALLEL = -6,         /* another rank failed or was lost */
    FT_ERROR_NOT_FOUND = -7,        /* no configuration key, metadata key or tensor of that name */
    FT_ERROR_FORKED = -8,           /* the handle was made before fork() and is used in the child */
    FT_ERROR_INTERNAL = -9          /* a fault in libft itself; please report it */
} ft_status;

/* The code's name, for example "FT_ERROR_CHECKPOINT"; "unknown status" for others. Static. Any thread. */
FT_API const char *ft_status_name(ft_status status);

/*
 * The message of the calling thread's last failed call, or "" when none failed yet. A call that succeeds leaves
 * it as it is. The string belongs to the library and lives until the thread's next failed call.
 */
FT_API const char *ft_last_error(void);

FT_END_DECLS

#endif /* FT_STATUS_H */
