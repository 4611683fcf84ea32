/*
 * Tensors, in DLPack's memory layout (https://dmlc.github.io/dlpack).
 *
 * The structs below are laid out exactly as DLDevice, DLDataType, DLTensor and DLManagedTensorVersioned, so a
 * pointer to one may be cast to the other. An ft_tensor is a reference-counted handle around such a view;
 * reading it and counting references is safe from any thread.
 */
#ifndef FT_TENSOR_H
#define FT_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/status.h>

FT_BEGIN_DECLS

/* DLDeviceType values in use here. */
#define FT_DEVICE_CPU 1
#define FT_DEVICE_CUDA 2
#define FT_DEVICE_CUDA_HOST 3

/* DLDataTypeCode values in use here. */
#define FT_DTYPE_INT 0
#define FT_DTYPE_UINT 1
#define FT_DTYPE_FLOAT 2
#define FT_DTYPE_BFLOAT 4
#define FT_DTYPE_BOOL 6

typedef struct ft_device {
    int32_t device_type; /* FT_DEVICE_* */
    int32_t device_id;
} ft_device;

typedef struct ft_dtype {
    uint8_t code;   /* FT_DTYPE_* */
    uint8_t bits;   /* per lane */
    uint16_t lanes; /* 1 */
} ft_dtype;

typedef struct ft_dl_tensor {
    void *data;
    ft_device device;
    int32_t ndim;
    ft_dtype dtype;
    int64_t *shape;       /* [ndim] */
    int64_t *strides;     /* [ndim], in elements; NULL means C-contiguous */
    uint64_t byte_offset; /* from data to the first element */
} ft_dl_tensor;

typedef struct ft_dl_version {
    uint32_t major;
    uint32_t minor;
} ft_dl_version;

#define FT_DL_FLAG_READ_ONLY (1ull << 0)
#define FT_DL_FLAG_IS_COPIED (1ull << 1)

typedef struct ft_dl_managed_tensor {
    ft_dl_version version;
    void *manager_ctx;
    void (*deleter)(struct ft_dl_managed_tensor *self);
    uint64_t flags;
    ft_dl_tensor dl_tensor;
} ft_dl_managed_tensor;

typedef struct ft_tensor ft_tensor;

/* Called once when the last reference to a wrapped tensor goes, from whichever thread dropped it. */
typedef void (*ft_release_callback)(void *user_data);

/*
 * Wraps memory that the caller owns; nothing is copied. The memory must stay valid and unchanged until release
 * is called (release may be NULL). shape and strides are copied out of `view`. On failure release is not called.
 */
FT_API ft_status ft_tensor_wrap(ft_tensor **out, const ft_dl_tensor *view, ft_release_callback release,
                                void *user_data);

/* Allocates a C-contiguous tensor on the CPU; its elements are zero. */
FT_API ft_status ft_tensor_create(ft_tensor **out, ft_dtype dtype, int32_t ndim, const int64_t *shape);

/* Fills `out` with a view of the tensor. Its pointers are the tensor's own and live as long as it does. */
FT_API ft_status ft_tensor_view(ft_dl_tensor *out, const ft_tensor *tensor);

/* Adds a reference, or drops one; the last drop frees. NULL is allowed. Any thread. */
FT_API void ft_tensor_retain(ft_tensor *tensor);
FT_API void ft_tensor_release(ft_tensor *tensor);

/*
 * Hands the tensor to a DLPack consumer. The managed tensor holds a reference of its own until its deleter is
 * called, so it may outlive every other handle.
 */
FT_API ft_status ft_tensor_to_dlpack(ft_dl_managed_tensor **out, ft_tensor *tensor);

/* Takes over a producer's managed tensor without a copy. On success the library will call its deleter. */
FT_API ft_status ft_tensor_from_dlpack(ft_tensor **out, ft_dl_managed_tensor *managed);

/*
 * Tensors on a GPU are computed by work that has been queued on a stream, and may not be there yet. A stream is a
 * cudaStream_t of the tensor's device; (void *)1 and (void *)2 are the default streams, cudaStreamLegacy and
 * cudaStreamPerThread, as in DLPack.
 */

/* Says that the tensor is computed by what has been queued on `stream` so far. Before other threads have the tensor. */
FT_API ft_status ft_tensor_ready_after(ft_tensor *tensor, void *stream);

/* What is queued on `stream` from now on comes after the tensor's computation. NULL: the calling thread waits for it.
 */
FT_API ft_status ft_tensor_wait(const ft_tensor *tensor, void *stream);

/* A C-contiguous copy in host memory, of a tensor that lies anywhere; waits for it. */
FT_API ft_status ft_tensor_to_host(ft_tensor **out, const ft_tensor *tensor);

/*
 * A stream of the device for handing tensors over by DLPack: a producer that is asked for a tensor on this stream makes
 * it wait for the tensor's computation, and ft_tensor_ready_after takes note of that. No other work runs on it. Lives
 * as long as the process. FT_ERROR_UNSUPPORTED for a device that is not among ft_device_count's; NULL for the CPU.
 */
FT_API ft_status ft_exchange_stream(void **out, ft_device device);

FT_END_DECLS

#endif /* FT_TENSOR_H */
