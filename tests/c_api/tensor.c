/* Tensors: wrapping, owning, DLPack, and everything they must refuse. */
#include <stdint.h>

#include "harness.h"

static const ft_dtype float32 = {FT_DTYPE_FLOAT, 32, 1};

static void count_release(void *user_data) { ++*(int *)user_data; }

static ft_dl_tensor view_of(float *data, int64_t *shape, int32_t ndim) {
    ft_dl_tensor view = {data, {FT_DEVICE_CPU, 0}, ndim, {FT_DTYPE_FLOAT, 32, 1}, shape, NULL, 0};
    return view;
}

void test_tensor_misuse(void) {
    float data[6] = {0};
    int64_t shape[2] = {2, 3};
    ft_dl_tensor good = view_of(data, shape, 2), view;
    ft_tensor *tensor = NULL;
    int released = 0;

    CHECK_INVALID(ft_tensor_wrap(NULL, &good, count_release, &released));
    CHECK_INVALID(ft_tensor_wrap(&tensor, NULL, count_release, &released));
    CHECK_INVALID((view = good, view.data = NULL, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    CHECK_INVALID((view = good, view.shape = NULL, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    CHECK_INVALID((view = good, view.ndim = -1, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    CHECK_INVALID((view = good, view.dtype.lanes = 4, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    CHECK_INVALID((view = good, view.dtype.bits = 0, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    int64_t negative[2] = {2, -3};
    CHECK_INVALID((view = good, view.shape = negative, ft_tensor_wrap(&tensor, &view, count_release, &released)));
    CHECK(released == 0 && tensor == NULL);

    CHECK_INVALID(ft_tensor_create(NULL, float32, 2, shape));
    CHECK_INVALID(ft_tensor_create(&tensor, float32, 2, NULL));
    CHECK_INVALID(ft_tensor_create(&tensor, float32, -1, shape));
    CHECK_INVALID(ft_tensor_create(&tensor, float32, 2, negative));
    CHECK_INVALID(ft_tensor_create(&tensor, (ft_dtype){77, 32, 1}, 2, shape));
    CHECK_INVALID(ft_tensor_create(&tensor, (ft_dtype){FT_DTYPE_FLOAT, 32, 2}, 2, shape));
    int64_t overflowing[2] = {INT64_MAX, INT64_MAX};
    ft_status status = ft_tensor_create(&tensor, float32, 2, overflowing);
    CHECK(status == FT_ERROR_INVALID_ARGUMENT || status == FT_ERROR_OUT_OF_MEMORY);
#if !SANITIZED
    int64_t enormous[1] = {INT64_C(1) << 50};
    CHECK_STATUS(FT_ERROR_OUT_OF_MEMORY, ft_tensor_create(&tensor, float32, 1, enormous));
#endif
    CHECK(tensor == NULL);

    CHECK_OK(ft_tensor_create(&tensor, float32, 2, shape));
    ft_dl_managed_tensor *managed;
    CHECK_INVALID(ft_tensor_view(NULL, tensor));
    CHECK_INVALID(ft_tensor_view(&view, NULL));
    CHECK_INVALID(ft_tensor_to_dlpack(NULL, tensor));
    CHECK_INVALID(ft_tensor_to_dlpack(&managed, NULL));
    CHECK_OK(ft_tensor_to_dlpack(&managed, tensor));
    ft_tensor *taken = NULL;
    CHECK_INVALID(ft_tensor_from_dlpack(NULL, managed));
    CHECK_INVALID(ft_tensor_from_dlpack(&taken, NULL));
    managed->deleter(managed); /* a refused tensor is still the caller's */
    ft_tensor_release(tensor);
    ft_tensor_retain(NULL);
    ft_tensor_release(NULL);
}

void test_tensor_wrap(void) {
    float data[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    int64_t shape[2] = {3, 2}, strides[2] = {2, 1};
    int released = 0;
    ft_dl_tensor in = view_of(data, shape, 2), out;
    in.strides = strides;
    in.byte_offset = 2 * sizeof(float);
    ft_tensor *tensor;
    CHECK_OK(ft_tensor_wrap(&tensor, &in, count_release, &released));
    shape[0] = strides[0] = 99; /* they were copied */
    CHECK_OK(ft_tensor_view(&out, tensor));
    CHECK((char *)out.data + out.byte_offset == (char *)(data + 2));
    CHECK(out.ndim == 2 && out.shape[0] == 3 && out.shape[1] == 2);
    CHECK(!out.strides || (out.strides[0] == 2 && out.strides[1] == 1));
    CHECK(out.dtype.code == FT_DTYPE_FLOAT && out.dtype.bits == 32 && out.dtype.lanes == 1);
    CHECK(out.device.device_type == FT_DEVICE_CPU);

    ft_tensor_retain(tensor);
    ft_tensor_release(tensor);
    CHECK(released == 0);
    ft_tensor_release(tensor);
    CHECK(released == 1);

    in.byte_offset = 0;
    shape[0] = 1;
    strides[0] = 2;
    CHECK_OK(ft_tensor_wrap(&tensor, &in, NULL, NULL));
    ft_tensor_release(tensor);
}

void test_tensor_create(void) {
    static const ft_dtype dtypes[] = {
        {FT_DTYPE_FLOAT, 32, 1}, {FT_DTYPE_FLOAT, 16, 1}, {FT_DTYPE_BFLOAT, 16, 1},
        {FT_DTYPE_FLOAT, 64, 1}, {FT_DTYPE_INT, 8, 1},    {FT_DTYPE_UINT, 8, 1},
        {FT_DTYPE_INT, 32, 1},   {FT_DTYPE_INT, 64, 1},   {FT_DTYPE_BOOL, 8, 1},
    };
    int64_t shape[3] = {2, 3, 5};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; ++i) {
        ft_tensor *tensor = NULL;
        ft_dl_tensor view;
        CHECK_OK(ft_tensor_create(&tensor, dtypes[i], 3, shape));
        if (!tensor) continue;
        CHECK_OK(ft_tensor_view(&view, tensor));
        CHECK(!memcmp(&view.dtype, &dtypes[i], sizeof view.dtype));
        CHECK(view.ndim == 3 && view.shape[0] == 2 && view.shape[1] == 3 && view.shape[2] == 5);
        CHECK(!view.strides || (view.strides[0] == 15 && view.strides[1] == 5 && view.strides[2] == 1));
        const char *bytes = (const char *)view.data + view.byte_offset;
        for (int b = 0; b < 30 * dtypes[i].bits / 8; ++b) CHECK(bytes[b] == 0);
        ft_tensor_release(tensor);
    }
    ft_tensor *empty;
    int64_t none[2] = {0, 7};
    CHECK_OK(ft_tensor_create(&empty, float32, 2, none));
    ft_tensor_release(empty);
}

void test_tensor_dlpack(void) {
    float data[4] = {1, 2, 3, 4};
    int64_t shape[1] = {4};
    int released = 0;
    ft_dl_tensor in = view_of(data, shape, 1), out;
    ft_tensor *tensor, *back;
    ft_dl_managed_tensor *managed;
    CHECK_OK(ft_tensor_wrap(&tensor, &in, count_release, &released));
    CHECK_OK(ft_tensor_to_dlpack(&managed, tensor));
    ft_tensor_release(tensor); /* the managed tensor holds its own reference */
    CHECK(released == 0);
    CHECK(managed->version.major == 1);
    CHECK((char *)managed->dl_tensor.data + managed->dl_tensor.byte_offset == (char *)data);

    CHECK_OK(ft_tensor_from_dlpack(&back, managed));
    CHECK_OK(ft_tensor_view(&out, back));
    CHECK((char *)out.data + out.byte_offset == (char *)data); /* no copy */
    ft_tensor_release(back);
    CHECK(released == 1);
}

void test_devices(void) {
    size_t count = 0;
    ft_device_info info = FT_DEVICE_INFO_INIT;
    CHECK_INVALID(ft_device_count(NULL));
    CHECK_OK(ft_device_count(&count));
    CHECK(count >= 1);
    CHECK_INVALID(ft_device_get(NULL, 0));
    CHECK(ft_device_get(&info, count) != FT_OK);
    CHECK(ft_device_get(&info, SIZE_MAX) != FT_OK);
    CHECK_OK(ft_device_get(&info, 0));
    CHECK(!strcmp(info.name, "cpu") && info.device.device_type == FT_DEVICE_CPU);
    CHECK(info.description[0] && info.capabilities[0] && info.memory_bytes > 0 && info.num_threads >= 1);
}
