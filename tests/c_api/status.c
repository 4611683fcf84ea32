/* Status names, and the per-thread message. */
#include <pthread.h>

#include "harness.h"

void test_status_names(void) {
    static const struct {
        ft_status status;
        int value;
        const char *name;
    } codes[] = {
        {FT_OK, 0, "FT_OK"},
        {FT_ERROR_INVALID_ARGUMENT, -1, "FT_ERROR_INVALID_ARGUMENT"},
        {FT_ERROR_OUT_OF_MEMORY, -2, "FT_ERROR_OUT_OF_MEMORY"},
        {FT_ERROR_CHECKPOINT, -3, "FT_ERROR_CHECKPOINT"},
        {FT_ERROR_UNSUPPORTED, -4, "FT_ERROR_UNSUPPORTED"},
        {FT_ERROR_CANCELLED, -5, "FT_ERROR_CANCELLED"},
        {FT_ERROR_PARALLEL, -6, "FT_ERROR_PARALLEL"},
        {FT_ERROR_NOT_FOUND, -7, "FT_ERROR_NOT_FOUND"},
        {FT_ERROR_FORKED, -8, "FT_ERROR_FORKED"},
        {FT_ERROR_INTERNAL, -9, "FT_ERROR_INTERNAL"},
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; ++i) {
        CHECK((int)codes[i].status == codes[i].value);
        CHECK(!strcmp(ft_status_name(codes[i].status), codes[i].name));
    }
    CHECK(!strcmp(ft_status_name((ft_status)1), "unknown status"));
    CHECK(!strcmp(ft_status_name((ft_status)-10), "unknown status"));

    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", FT_VERSION_MAJOR, FT_VERSION_MINOR, FT_VERSION_PATCH);
    CHECK(!strcmp(ft_version(), version));
}

void test_messages_stay(void) {
    size_t count;
    CHECK_STATUS(FT_ERROR_INVALID_ARGUMENT, ft_device_count(NULL));
    char message[512];
    snprintf(message, sizeof message, "%s", ft_last_error());
    CHECK(message[0]);
    CHECK_OK(ft_device_count(&count));
    CHECK(!strcmp(ft_last_error(), message));
}

static void *fail_elsewhere(void *unused) {
    (void)unused;
    CHECK(!strcmp(ft_last_error(), ""));
    ft_checkpoint *checkpoint;
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_checkpoint_open(&checkpoint, "/there is no such place"));
    CHECK(strstr(ft_last_error(), "/there is no such place"));
    return NULL;
}

void test_messages_are_per_thread(void) {
    provoke_other_message();
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, fail_elsewhere, NULL));
    pthread_join(thread, NULL);
    CHECK(is_other_message());
}
